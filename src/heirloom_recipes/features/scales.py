"""The sizes at which the recipes run. ``smoke``: seconds, in CI. ``small``: minutes on one thread. ``gpu``: one large
GPU. ``paper``: the paper's networks and the field's epochs, for the paper's own are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from heirloom.data.augmentation import CROP_AND_FLIP
from heirloom.features.settings import BuildSettings
from heirloom.pretraining.settings import PretrainSettings
from heirloom.threat import Threat
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings

HUB_IDS = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
THREATS = {"mnist": Threat("Linf", 0.3), "cifar10": Threat("Linf", 8 / 255)}


@dataclass(frozen=True)
class Training:
    """How the networks of one data set are trained: ``standard`` has no adversarial epochs, ``adversarial`` no others.

    ``others``: architectures that ``features/transfer`` judges besides ``network``'s own.
    """

    network: str
    standard: PretrainSettings
    adversarial: PretrainSettings
    others: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """One size of all recipes.

    Attributes:
        sources: where each data set comes from; the command line's ``--data NAME=SOURCE`` goes first.
        limit, limit_test: training and test images. built: test images whose representations are inverted.
        attacked: test images for robust accuracy, and of each source class for the targeted attacks.
        seeds: networks of each kind; the network of the next seed is the reference of each.
        build: of the representative data sets. attack: the robust accuracy's. attack_steps: of NRF-PGD and RF-PGD.
    """

    name: str
    training: dict[str, Training]
    limit: int | None
    limit_test: int | None
    built: int
    attacked: int
    seeds: int
    build: BuildSettings
    attack: str = "pgd-20"
    attack_steps: int = 20
    sources: dict[str, str] = field(default_factory=lambda: dict(HUB_IDS))


def scale_settings(name: str, device: str = "cpu") -> Scale:
    scale = {"smoke": _smoke, "small": _small, "gpu": _gpu, "paper": _paper}[name]()
    return replace(scale, build=replace(scale.build, device=device))


def _trainings(
    base: PretrainSettings,
    networks: Mapping[str, tuple[str, ...]],
    epochs: dict[str, tuple[int, int]],
    steps: int,
    keep: dict[str, tuple[int, ...]],
) -> dict[str, Training]:
    """Both data sets' trainings: ``epochs`` standard and adversarial, MNIST without augmentation."""
    found = {}
    for data, (network, *others) in networks.items():
        standard, adversarial = epochs[data]
        own = replace(
            base,
            network=network,
            clean_epochs=standard,
            adversarial_epochs=0,
            keep_epochs=tuple(e for e in keep[data] if e <= standard),
            augmentation=CROP_AND_FLIP if data == "cifar10" else None,
        )
        attack = InnerAttack(steps, 2.5 * THREATS[data].eps / steps)
        attacked = replace(
            own,
            clean_epochs=0,
            adversarial_epochs=adversarial,
            attack=attack,
            keep_epochs=tuple(e for e in keep[data] if e <= adversarial),
        )
        found[data] = Training(network, own, attacked, tuple(others))
    return found


def _smoke() -> Scale:
    """Digits in both places, an epoch or two: that the code runs, not what it finds."""
    training = TrainingSettings(batch_size=64, learning_rate=0.05, weight_decay=5e-4)
    base = PretrainSettings(validation=0.1, validation_images=20, training=training)
    networks = {"mnist": ("resnet8-7x7", "resnet8"), "cifar10": ("resnet8-7x7", "resnet8")}
    epochs = {"mnist": (2, 2), "cifar10": (2, 2)}
    return Scale(
        "smoke",
        _trainings(base, networks, epochs, 1, {"mnist": (1, 2), "cifar10": (1, 2)}),
        200,
        60,
        20,
        20,
        2,
        BuildSettings(steps=5),
        "pgd-2",
        2,
        dict.fromkeys(HUB_IDS, "digits"),
    )


def _small() -> Scale:
    """5000 images of each set, ResNet-8 with a 7x7 stem, the field's radii, five seeds."""
    training = TrainingSettings(batch_size=64, learning_rate=0.05, weight_decay=5e-4)
    base = PretrainSettings(validation=0.03, validation_images=250, training=training)
    networks = dict.fromkeys(HUB_IDS, ("resnet8-7x7", "resnet10-6x6-w32"))
    epochs = {"mnist": (4, 6), "cifar10": (8, 6)}
    keep = {"mnist": (1, 2, 3, 4, 5, 6), "cifar10": (1, 2, 3, 4, 5, 6, 8)}
    return Scale(
        "small",
        _trainings(base, networks, epochs, 5, keep),
        5000,
        1000,
        100,
        200,
        5,
        BuildSettings(steps=300),
        "pgd-20",
        20,
    )


def _gpu() -> Scale:
    """All images, ResNet-18, bf16 in training, compiled; 30 epochs, 1000 steps of inversion."""
    training = TrainingSettings(
        batch_size=512, learning_rate=0.2, weight_decay=5e-4, mixed_precision="bf16", checkpoint_seconds=20.0
    )
    base = PretrainSettings(training=training, compile=True)
    networks = dict.fromkeys(HUB_IDS, ("resnet18", "preact-resnet18", "vit-tiny"))
    keep = (1, 2, 3, 5, 8, 12, 20, 30)
    return Scale(
        "gpu",
        _trainings(base, networks, dict.fromkeys(HUB_IDS, (30, 30)), 10, dict.fromkeys(HUB_IDS, keep)),
        None,
        None,
        2000,
        1000,
        3,
        BuildSettings(batch_size=1000),
        "pgd-20",
        40,
    )


def _paper() -> Scale:
    """ResNet-18 on MNIST, WideResNet-34-10 on CIFAR-10; days on one GPU."""
    base = PretrainSettings()
    networks = {
        "mnist": ("resnet18", "preact-resnet18"),
        "cifar10": ("wide-resnet-34-10", "resnet18", "preact-resnet18"),
    }
    epochs = {"mnist": (50, 50), "cifar10": (200, 200)}
    keep = {"mnist": (1, 2, 3, 5, 10, 20, 30, 50), "cifar10": (1, 2, 5, 10, 20, 50, 100, 150, 200)}
    return Scale(
        "paper",
        _trainings(base, networks, epochs, 10, keep),
        None,
        None,
        10000,
        10000,
        5,
        BuildSettings(batch_size=500),
        "pgd-20",
        40,
    )
