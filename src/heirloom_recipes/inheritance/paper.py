"""Tables 1, 2, 4 and 5 of the paper: every row's set-up with its published accuracies (PGD, Linf 8/255)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Downstream = Literal["-", "clean", "adversarial"]


@dataclass(frozen=True)
class EncoderKey:
    """One pre-training. ``stem`` 7x7: D.2's input layer. ``augmented``: Table 5's column. ``equal_epochs``: a clean one
    that takes as many steps as the adversarial one does in both phases, a control that the paper does not have.
    """

    data: str
    method: Literal["supervised", "contrastive"]
    adversarial: bool
    stem: Literal["3x3", "7x7"] = "3x3"
    augmented: bool = True
    equal_epochs: bool = False

    @property
    def pretrain(self) -> str:
        return f"{'adversarial' if self.adversarial else 'clean'} {self.method}"

    @property
    def folder(self) -> str:
        parts = [self.data, self.pretrain.replace(" ", "-")]
        parts += ["7x7"] if self.stem == "7x7" else []
        parts += [] if self.augmented else ["no-augmentation"]
        parts += ["equal-epochs"] if self.equal_epochs else []
        return "-".join(parts)


@dataclass(frozen=True)
class PaperRow:
    """``downstream`` ``-``: the pre-trained classifier itself. ``clean`` and ``robust`` as published; None where a row
    is ours alone."""

    encoder: EncoderKey
    downstream: Downstream
    clean: float | None = None
    robust: float | None = None

    @property
    def name(self) -> str:
        downstream = {"-": "own-head"}.get(self.downstream, self.downstream)
        return f"{self.encoder.folder}--{downstream}"


def _key(data: str, pretrain: str, **options: object) -> EncoderKey:
    kind, method = pretrain.split()
    method = {"sup": "supervised", "contra": "contrastive"}[method]
    return EncoderKey(data, method, kind == "adv", **options)  # type: ignore[arg-type]


_CIFAR10_CLEAN = _key("cifar10", "clean sup")
_CIFAR10_SUP = _key("cifar10", "adv sup")
_CIFAR10_CONTRA = _key("cifar10", "adv contra")

TABLE_1 = (
    PaperRow(_CIFAR10_CLEAN, "clean", 0.955, 0.001),
    PaperRow(_CIFAR10_CLEAN, "adversarial", 0.477, 0.109),
    PaperRow(_CIFAR10_SUP, "-", 0.810, 0.495),
    PaperRow(_CIFAR10_SUP, "clean", 0.847, 0.429),
    PaperRow(_CIFAR10_SUP, "adversarial", 0.836, 0.484),
    PaperRow(_CIFAR10_CONTRA, "clean", 0.831, 0.393),
    PaperRow(_CIFAR10_CONTRA, "adversarial", 0.807, 0.462),
)

TABLE_2 = (
    *TABLE_1,
    PaperRow(_key("cifar100", "clean sup"), "clean", 0.786, 0.000),
    PaperRow(_key("cifar100", "adv sup"), "clean", 0.649, 0.108),
    PaperRow(_key("cifar100", "adv contra"), "clean", 0.749, 0.185),
    PaperRow(_key("tiny-imagenet", "clean sup"), "clean", 0.840, 0.001),
    PaperRow(_key("tiny-imagenet", "adv sup"), "clean", 0.323, 0.131),
    PaperRow(_key("tiny-imagenet", "adv contra"), "clean", 0.774, 0.150),
)

TABLE_4 = (
    PaperRow(_key("cifar10", "clean sup", stem="7x7"), "clean", 0.888, 0.024),
    PaperRow(_key("cifar10", "adv sup", stem="7x7"), "clean", 0.783, 0.363),
    PaperRow(_key("cifar10", "adv sup", stem="7x7"), "adversarial", 0.789, 0.401),
)

TABLE_5 = (
    PaperRow(_CIFAR10_CLEAN, "clean", 0.955, 0.001),
    PaperRow(_CIFAR10_CONTRA, "clean", 0.831, 0.393),
    PaperRow(_key("cifar10", "adv contra", augmented=False), "clean", 0.822, 0.389),
    PaperRow(_key("cifar10", "clean contra"), "clean", 0.897, 0.004),
    PaperRow(_key("cifar10", "clean contra", augmented=False), "clean", 0.889, 0.001),
)
# Table 5's second half; its CIFAR-100 encoders are Table 2's
TABLE_5_CIFAR100 = (
    PaperRow(_key("cifar100", "clean sup"), "clean", 0.786, 0.000),
    PaperRow(_key("cifar100", "adv contra"), "clean", 0.749, 0.185),
    PaperRow(_key("cifar100", "adv contra", augmented=False), "clean", 0.741, 0.167),
    PaperRow(_key("cifar100", "clean contra"), "clean", 0.801, 0.005),
    PaperRow(_key("cifar100", "clean contra", augmented=False), "clean", 0.797, 0.000),
)

_CONTROL = EncoderKey("cifar10", "supervised", False, equal_epochs=True)
CONTROLS = (PaperRow(_CONTROL, "clean"), PaperRow(_CONTROL, "adversarial"))

TABLES: dict[str, tuple[PaperRow, ...]] = {
    "table-1": TABLE_1,
    "table-2": TABLE_2,
    "table-4": TABLE_4,
    "table-5": TABLE_5 + TABLE_5_CIFAR100,
}
