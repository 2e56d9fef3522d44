"""The sizes at which the recipes run. ``smoke``: seconds, in CI. ``small``: minutes on two CPU cores. ``medium``: hours
on them, the smallest at which orderings over training seeds can be settled. ``gpu``: one H100, each command under nine
minutes with ``--minutes 9`` and ``--resume``. ``paper``: the paper's epochs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from heirloom.heads.linear import HeadSettings
from heirloom.heads.probe import ProbeSettings
from heirloom.pretraining.settings import PretrainSettings, paper_settings
from heirloom.runtime.choices import Dtype
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings

HUB_IDS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
}
SMALL_STEP = 4 / 255  # five steps of half the radius instead of ten of a quarter


@dataclass(frozen=True)
class Scale:
    """One size of all recipes.

    Attributes:
        sources: where each data set comes from; the command line's ``--data NAME=SOURCE`` goes first.
        datasets: the pre-training data that this size covers: rows on others are left out and named.
        networks: of the 3x3 and 7x7 stems.
        supervised, contrastive: the pre-training; both phases are described, clean runs drop the second.
        attacks: of the evaluation; "robust" is the worst case over all.
        controls: whether a clean encoder of as many epochs as the adversarial one stands beside it.
        attack_dtype: of the attacks' passes; verdicts stay the model's.
        worst_case_images: at most so many of the test images meet the last, dearest attack.
    """

    name: str
    sources: dict[str, str]
    datasets: tuple[str, ...]
    limit: int | None
    limit_test: int | None
    image_size: int | None
    networks: dict[str, str]
    supervised: PretrainSettings
    contrastive: PretrainSettings
    probe: ProbeSettings
    attacks: tuple[str, ...] = ("pgd-20", "cascade")
    controls: bool = False
    attack_dtype: Dtype | None = None
    worst_case_images: int | None = None


def scale_settings(
    name: Literal["smoke", "small", "medium", "gpu", "paper"],
    seed: int,
    device: str,
    width: int | None = None,
) -> Scale:
    """One size, seeded; ``width``: of the networks' first stage, in place of the scale's own."""
    scale = {"smoke": _smoke, "small": _small, "medium": _medium, "gpu": _gpu, "paper": _paper}[name]()
    networks = {stem: _of_width(network, width) for stem, network in scale.networks.items()}
    return replace(
        scale,
        networks=networks,
        supervised=_seeded(scale.supervised, seed, device),
        contrastive=_seeded(scale.contrastive, seed, device),
        probe=replace(
            scale.probe,
            head=replace(scale.probe.head, seed=seed),
            adversarial=replace(scale.probe.adversarial, seed=seed, device=device),
        ),
    )


def _of_width(network: str, width: int | None) -> str:
    return network if width is None else f"{re.sub(r'-w[0-9]+$', '', network)}-w{width}"


def _seeded(settings: PretrainSettings, seed: int, device: str) -> PretrainSettings:
    return replace(settings, training=replace(settings.training, seed=seed, device=device))


def _smoke() -> Scale:
    """Digits, one epoch of each phase, one or two attack steps: that the code runs, not what it finds."""
    attack = InnerAttack(steps=1)
    training = TrainingSettings(batch_size=128, learning_rate=0.05, weight_decay=5e-4)
    supervised = PretrainSettings(
        clean_epochs=1,
        adversarial_epochs=1,
        attack=attack,
        validation=0.1,
        validation_images=40,
        training=training,
    )
    return Scale(
        "smoke",
        dict.fromkeys(HUB_IDS, "digits"),
        tuple(HUB_IDS),
        300,
        60,
        None,
        {"3x3": "resnet8", "7x7": "resnet8-7x7"},
        supervised,
        replace(
            supervised,
            method="contrastive",
            optimiser="lars",
            schedule="cosine",
            warmup=1,
            normalise=False,
            augmentation=paper_settings("contrastive").augmentation,
        ),
        ProbeSettings(
            HeadSettings(epochs=3, batch_size=128),
            replace(training, epochs=1),
            attack,
            validation=0.1,
            validation_images=40,
        ),
        ("pgd-2",),
        controls=True,
    )


def _small() -> Scale:
    """5000 images of CIFAR-10, ResNet-8, the paper's radius; five attack steps in training, PGD-20 to judge."""
    attack = InnerAttack(steps=5, step_size=SMALL_STEP)
    training = TrainingSettings(batch_size=64, learning_rate=0.05, weight_decay=5e-4)
    supervised = PretrainSettings(
        clean_epochs=8,
        adversarial_epochs=6,
        attack=attack,
        validation=0.05,
        validation_images=250,
        training=training,
    )
    contrastive = replace(
        paper_settings("contrastive"),
        clean_epochs=4,
        adversarial_epochs=3,
        optimiser="sgd",
        warmup=1,
        attack=attack,
        validation=0.05,
        training=replace(training, batch_size=128, weight_decay=1e-4),
    )
    return Scale(
        "small",
        dict(HUB_IDS),
        ("cifar10",),
        5000,
        1000,
        32,
        {"3x3": "resnet8", "7x7": "resnet8-7x7"},
        supervised,
        contrastive,
        ProbeSettings(
            HeadSettings(epochs=30, batch_size=256),
            replace(training, epochs=2),
            attack,
            validation=0.05,
            validation_images=250,
        ),
    )


def _medium() -> Scale:
    """20,000 images of CIFAR-10, ResNet-18 16 wide, 20 + 20 epochs in bf16, 5000 test images (``cascade``: 1000 of
    them, a quarter of an hour for each row that stands), and a clean control of 40 epochs.
    """
    training = TrainingSettings(
        batch_size=128, learning_rate=0.1, weight_decay=5e-4, mixed_precision="bf16", checkpoint_seconds=60.0
    )
    supervised = replace(
        paper_settings("supervised"), clean_epochs=20, adversarial_epochs=20, training=training
    )
    contrastive = replace(
        paper_settings("contrastive"),
        clean_epochs=20,
        adversarial_epochs=20,
        warmup=2,
        attack=InnerAttack(steps=7, step_size=0.007),
        training=replace(training, batch_size=256, learning_rate=0.2, weight_decay=1e-6),
    )
    head = ProbeSettings(
        HeadSettings(epochs=60, batch_size=256), replace(training, epochs=4), InnerAttack(steps=10)
    )
    networks = {"3x3": "resnet18-w16", "7x7": "resnet18-7x7-w16"}
    datasets = ("cifar10",)
    return Scale(
        "medium",
        dict(HUB_IDS),
        datasets,
        20_000,
        5000,
        32,
        networks,
        supervised,
        contrastive,
        head,
        controls=True,
        attack_dtype="bfloat16",
        worst_case_images=1000,
    )


def _gpu() -> Scale:
    """CIFAR-10 whole, ResNet-18, bf16, channels_last, compiled; fewer epochs than the paper, all attack steps."""
    training = TrainingSettings(
        batch_size=512, learning_rate=0.2, weight_decay=5e-4, mixed_precision="bf16", checkpoint_seconds=20.0
    )
    supervised = replace(
        paper_settings("supervised"), clean_epochs=30, adversarial_epochs=30, training=training, compile=True
    )
    contrastive = replace(
        paper_settings("contrastive"),
        clean_epochs=60,
        adversarial_epochs=60,
        warmup=5,
        attack=InnerAttack(steps=7, step_size=0.007),
        compile=True,
        training=replace(training, learning_rate=0.2, weight_decay=1e-6),
    )
    head = ProbeSettings(
        HeadSettings(epochs=100, batch_size=512), replace(training, epochs=10), InnerAttack(steps=10)
    )
    return Scale(
        "gpu",
        dict(HUB_IDS),
        tuple(HUB_IDS),
        None,
        None,
        32,
        {"3x3": "resnet18", "7x7": "resnet18-7x7"},
        supervised,
        contrastive,
        head,
    )


def _paper() -> Scale:
    """Table 3 of the paper; days on one GPU for the contrastive rows."""
    supervised = paper_settings("supervised")
    head = ProbeSettings(
        HeadSettings(epochs=200), replace(supervised.training, epochs=200), InnerAttack(random_start=False)
    )
    return Scale(
        "paper",
        dict(HUB_IDS),
        tuple(HUB_IDS),
        None,
        None,
        32,
        {"3x3": "resnet18", "7x7": "resnet18-7x7"},
        supervised,
        paper_settings("contrastive"),
        head,
    )
