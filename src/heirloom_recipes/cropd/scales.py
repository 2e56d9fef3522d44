"""The sizes of CRoPD's recipes. ``smoke``: seconds, digits in every data set's place. ``small``: minutes on two CPU
cores, for the data sets that ``--data`` names. ``gpu``: a night on one GPU. ``paper``: its settings (Appendix A), each
data set's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from heirloom.data.augmentation import Augmentation
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.defence.train_preprocessor import architecture_for
from heirloom.heads.linear import HeadSettings
from heirloom.pretraining.settings import PretrainSettings
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.inheritance import scales as inheritance

SOURCES = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "imagenette": "frgfm/imagenette",
    "svhn": "ufldl-stanford/svhn",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
    "digits": "digits",
    "mnist": "ylecun/mnist",
    "fashion": "zalando-datasets/fashion_mnist",
}
RADII = {"imagenette": 4 / 255, "digits": 0.15, "mnist": 0.2, "fashion": 0.1}  # else 8/255
VAE = "stabilityai/sd-vae-ft-mse"


@dataclass(frozen=True)
class Own:
    """What a scale's preprocessors have otherwise on one data set; None: as everywhere.

    Attributes:
        warmup: in epochs. image_size: of the images, for every model of their rows.
    """

    epochs: int | None = None
    batch_size: int | None = None
    warmup: int | None = None
    architecture: str | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Scale:
    """One size of all recipes.

    Attributes:
        sources: where each data set comes from; ``--data NAME=SOURCE`` goes first. datasets: those that this size
            covers by itself: rows on others are left out and named.
        foundation: of the frozen model: a hub id or folder; None: trained here on the row's own images, cleanly with
            labels (and under attack, or by RoCL, where the row says so) as ``supervised`` and ``contrastive`` say.
        network: of what is trained here. defence: of every preprocessor but its method and weight.
        own: of preprocessors on the data sets where they differ.
        tuning: of fine-tuning all of a foundation's weights, where it is as the paper's heads are trained (Table 7);
            None: with the preprocessors' settings at a rate of 1e-4, for a third of their epochs.
        robust_epochs: of a head on adversarial images, which costs ten passes a step; None: the head's.
        vae: id or folder of the AutoencoderKL; None: left out.
        attacks: columns after "clean"; the last is the worst case.
    """

    name: str
    sources: dict[str, str]
    datasets: tuple[str, ...]
    limit: int | None
    limit_test: int | None
    image_size: int | None
    foundation: str | None
    network: str
    supervised: PretrainSettings
    contrastive: PretrainSettings
    defence: PreprocessorSettings
    head: HeadSettings
    attacks: tuple[str, ...]
    vae: str | None = None
    own: Mapping[str, Own] = field(default_factory=dict)
    tuning: HeadSettings | None = None
    robust_epochs: int | None = None

    def threat(self, cell: Cell) -> Threat:
        return Threat("Linf", cell.eps or RADII.get(cell.data, 8 / 255))

    def of_size(self, data: str) -> int | None:
        """The side of the images called ``data``; None: their own."""
        return self.own.get(data, Own()).image_size or self.image_size

    def front(self, data: str, shape: tuple[int, int, int]) -> PreprocessorSettings:
        """Of preprocessors trained on the images called ``data``, of ``shape`` (C, H, W)."""
        own, chosen = self.own.get(data, Own()), self.defence
        small = architecture_for(shape) if chosen.architecture == "mlp" else chosen.architecture
        epochs = own.epochs or chosen.training.epochs
        changed: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": own.batch_size or chosen.training.batch_size,
        }
        if own.warmup is not None:
            changed["warmup"] = own.warmup / epochs
        training = replace(chosen.training, **changed)
        return replace(chosen, architecture=own.architecture or small, training=training)


def scale_settings(name: str, seed: int, device: str) -> Scale:
    """The settings of a size, seeded."""
    scale = {"smoke": _smoke, "small": _small, "gpu": _gpu, "paper": _paper}[name](seed, device)
    training = replace(scale.defence.training, seed=seed, device=device)
    return replace(
        scale,
        defence=replace(scale.defence, training=training),
        head=replace(scale.head, seed=seed),
        tuning=None if scale.tuning is None else replace(scale.tuning, seed=seed),
    )


def _smoke(seed: int, device: str) -> Scale:
    """That the code runs, not what it finds."""
    own = inheritance.scale_settings("smoke", seed, device)
    training = TrainingSettings(epochs=1, batch_size=64, learning_rate=3e-3)
    return Scale(
        "smoke",
        dict.fromkeys(SOURCES, "digits"),
        ("cifar10", "cifar100", "digits"),
        128,
        16,
        None,
        None,
        "resnet8",
        own.supervised,
        own.contrastive,
        PreprocessorSettings(
            architecture="mlp",
            training=training,
            distil=DistilSettings(width=8),
            steps=(2, 2),
        ),
        HeadSettings(epochs=2),
        ("pgd-2", "pma-2"),
    )


def _small(seed: int, device: str) -> Scale:
    """Minutes on a CPU: 5000 images, small networks, 15 epochs of each preprocessor, ``cascade``."""
    own = inheritance.scale_settings("small", seed, device)
    return Scale(
        "small",
        dict(SOURCES),
        ("digits",),
        5000,
        200,
        None,
        None,
        "resnet10-6x6-w32",
        replace(own.supervised, clean_epochs=6),
        own.contrastive,
        PreprocessorSettings(
            architecture="mlp",
            training=TrainingSettings(epochs=15, batch_size=64, learning_rate=2e-3, warmup=0.1),
        ),
        HeadSettings(epochs=30, batch_size=256),
        ("pgd-10", "pgd-20", "cascade"),
        own={"digits": Own(epochs=100)},
        robust_epochs=3,
    )


def _gpu(seed: int, device: str) -> Scale:
    """Whole data sets, ResNet-18, the paper's auto-encoder with a tenth of its epochs."""
    own = inheritance.scale_settings("gpu", seed, device)
    return Scale(
        "gpu",
        dict(SOURCES),
        ("cifar10", "cifar100", "svhn"),
        None,
        None,
        32,
        None,
        "resnet18",
        own.supervised,
        own.contrastive,
        PreprocessorSettings(
            architecture="vit-small32",
            training=TrainingSettings(epochs=40, batch_size=256, learning_rate=5e-4, mixed_precision="bf16"),
            augmentation=Augmentation(),
            distil=DistilSettings(student="resnet18"),
        ),
        HeadSettings(),
        ("pgd-10", "pgd-20", "cascade"),
        VAE,
    )


def _paper(seed: int, device: str) -> Scale:
    """Appendix A: ViT-MAE-large, frozen or fine-tuned, a ViT auto-encoder by Tables 5 and 6, AutoAttack.

    As Table 6, not Table 8, whose times tell of 100 and 120 epochs. CIFAR-2 keeps batches of 32 to the end, where the
    paper takes 256 after epoch 150. What it does not tell of Tiny-ImageNet is CIFAR-10's.
    """
    own = inheritance.scale_settings("paper", seed, device)
    return Scale(
        "paper",
        dict(SOURCES),
        tuple(name for name in SOURCES if name not in ("mnist", "fashion")),
        None,
        None,
        32,
        "facebook/vit-mae-large",
        "resnet18",
        own.supervised,
        own.contrastive,
        PreprocessorSettings(
            architecture="vit-small32",
            training=TrainingSettings(epochs=400, batch_size=32, warmup=20 / 400),
            augmentation=Augmentation(),
            distil=DistilSettings(student="resnet18"),
        ),
        HeadSettings(),
        ("pgd-10", "pgd-20", "autoattack"),
        VAE,
        own={
            "cifar100": Own(epochs=150, batch_size=96, warmup=20),
            "imagenette": Own(150, 96, 20, "vit-large224", 224),
        },
        tuning=HeadSettings(learning_rate=1e-4),
    )
