"""How an encoder is pre-trained: the settings, and the paper's own (Xing et al., AISTATS 2024, Table 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from heirloom.data.augmentation import CROP_AND_FLIP, Augmentation
from heirloom.pretraining.steps import ContrastiveLoss
from heirloom.runtime.choices import Optimiser, PretrainMethod, RateSchedule
from heirloom.runtime.errors import require
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings

Phase = Literal["clean", "adversarial"]
METHODS: tuple[str, ...] = get_args(PretrainMethod)
# Kim et al.: random resized crop, flip, jitter with probability .8, grey with .2
CONTRASTIVE_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class PretrainSettings:
    """How an encoder is pre-trained. The defaults are the paper's Table 3 for supervised learning.

    Attributes:
        method: ``supervised``, ``trades`` or ``contrastive`` (SimCLR; RoCL in the adversarial phase).
        network: see :func:`heirloom.networks.backbones.network_names`.
        clean_epochs, adversarial_epochs: either may be 0. TRADES has no clean phase of its own: it is
            supervised.
        optimiser: ``sgd`` (momentum .9) or ``lars``; ``lars_adapts_vectors``: the quirk of RoCL's code, see
            :class:`heirloom.training.optimisers.LARS`. The rate is divided by 10 at 50 % and 75 % of a phase
            (``schedule`` ``divided``), or warms up over ``warmup`` epochs and falls as a cosine
            (``cosine``).
        normalise: subtract the training images' mean and divide by their deviation, inside the network.
        augmentation: None for none.
        attack: see :class:`InnerAttack`. beta: of TRADES. contrastive: temperature and so on.
        validation: share of the training images held out to choose the epoch (supervised and TRADES: the
            robust accuracy under ``cascade``'s first look, clean accuracy in the clean phase). Contrastive
            training keeps the last epoch.
        validation_images: at most so many of them are attacked after an epoch.
        select_on_test: the quirk of Rice et al.'s code, which chooses its epoch on the test images. Figures
            from such a run are too good, and the summary says so.
        keep_epochs: of each phase, whose encoder and head stay under ``kept/`` (see ``pretraining.kept``).
        training: batch size, learning rate, weight decay, seed, device, precision.
        channels_last, compile: layout and ``torch.compile`` of the network; the function is the same.
    """

    method: PretrainMethod = "supervised"
    network: str = "resnet18"
    clean_epochs: int = 200
    adversarial_epochs: int = 200
    optimiser: Optimiser = "sgd"
    lars_adapts_vectors: bool = False
    schedule: RateSchedule = "divided"
    warmup: int = 10
    normalise: bool = True
    augmentation: Augmentation | None = CROP_AND_FLIP
    attack: InnerAttack = field(default_factory=InnerAttack)
    beta: float = 6.0
    contrastive: ContrastiveLoss = field(default_factory=ContrastiveLoss)
    validation: float = 0.02
    validation_images: int = 1000
    select_on_test: bool = False
    keep_epochs: tuple[int, ...] = ()
    training: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(batch_size=128, learning_rate=0.1, weight_decay=5e-4)
    )
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method)
        require(self.optimiser in ("sgd", "lars"), "optimiser", "sgd or lars", self.optimiser)
        require(self.schedule in ("divided", "cosine"), "schedule", "divided or cosine", self.schedule)
        for name in ("clean_epochs", "adversarial_epochs"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        require(0 < self.validation < 1, "validation", "a share between 0 and 1", self.validation)
        require(self.validation_images >= 1, "validation_images", "at least 1", self.validation_images)
        require(self.warmup >= 0, "warmup", "at least 0", self.warmup)
        require(0 <= self.beta < float("inf"), "beta", "at least 0", self.beta)
        most = max(self.clean_epochs, self.adversarial_epochs)
        within = all(1 <= epoch <= most for epoch in self.keep_epochs)
        require(within, "keep_epochs", f"epochs of a phase, from 1 to {most}", self.keep_epochs)
        require(
            self.clean_epochs + self.adversarial_epochs > 0, "clean_epochs", "above 0 if nothing follows", 0
        )

    @property
    def phases(self) -> list[Phase]:
        """``clean``, ``adversarial``: those that last an epoch or more."""
        return [phase for phase in get_args(Phase) if self.epochs_of(phase) > 0]

    def epochs_of(self, phase: Phase) -> int:
        """How many epochs ``phase`` lasts."""
        return self.clean_epochs if phase == "clean" else self.adversarial_epochs


def paper_settings(method: PretrainMethod) -> PretrainSettings:
    """Table 3 of the paper, filled up from the two code bases that it used.

    Supervised and TRADES: 200 + 200 epochs, batch 128, SGD .1 divided by 10 at 50 % and 75 %, crop and flip, 10
    steps of 2/255 from the image itself. Contrastive: 200 + 1200 epochs, batch 256, LARS .1, 10 epochs of
    warm-up and a cosine, crop, flip, jitter and grey, 20 steps of eps / 10 from a random start.
    """
    if method != "contrastive":
        return PretrainSettings(method=method, attack=InnerAttack(random_start=method == "trades"))
    return PretrainSettings(
        method=method,
        adversarial_epochs=1200,
        optimiser="lars",
        schedule="cosine",
        normalise=False,
        augmentation=CONTRASTIVE_AUGMENTATION,
        attack=InnerAttack(steps=20, step_size=0.1 * 8 / 255),
        training=TrainingSettings(batch_size=256, learning_rate=0.1, weight_decay=1e-6),
    )
