"""The models that ``benchmarks/cascade.py`` attacks: of many kinds, small, each trained in at most two minutes of CPU.

Far from the state of the art: what matters is that some images fall and some do not, and that the kinds differ
(standard and adversarial training at several eps, in Linf and L2; convolutions with and without BatchNorm, GELU and
LayerNorm, vision transformers; a frozen encoder alone and behind CRoPD and its rivals). Weights are kept in a folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks import pgd
from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.defence.train_preprocessor import PreprocessorSettings, fresh_preprocessor, train_preprocessor
from heirloom.evaluation import broken
from heirloom.models.defended import Defended
from heirloom.networks.resnet import resnet8
from heirloom.networks.vit import VisionTransformer
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings

DIGITS, CLASSES = "digits", 10


@dataclass(frozen=True)
class Subject:
    """A model and the threat it is attacked under.

    Attributes:
        source: of its images: ``digits``, or a folder's name under the data folder.
        make: the network with fresh weights.
        steps: of training, with batches of 128.
        training: the threat it is trained against; None: standard training.
    """

    name: str
    source: str
    make: Callable[[], nn.Module]
    steps: int
    training: Threat | None


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )


def normalised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, CLASSES))


def mnist_convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


class Transformer(nn.Module):
    """A small vision transformer with a linear head on the class token."""

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, channels: int) -> None:
        super().__init__()
        self.body = VisionTransformer(image_size, patch_size, width, depth, 4, channels)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(2 * x - 1))


def small_resnet() -> nn.Module:
    return resnet8(width=8, classes=CLASSES)


def linf(levels: float) -> Threat:
    return Threat("Linf", levels / 255)


SUBJECTS = (
    Subject("digits, convolutional, standard", DIGITS, convolutional, 200, None),
    Subject("digits, convolutional, Linf .15", DIGITS, convolutional, 200, Threat("Linf", 0.15)),
    Subject("digits, convolutional, Linf .08", DIGITS, convolutional, 200, Threat("Linf", 0.08)),
    Subject("digits, LayerNorm, Linf .15", DIGITS, normalised, 200, Threat("Linf", 0.15)),
    Subject("digits, ViT, Linf .1", DIGITS, lambda: Transformer(8, 2, 32, 2, 1), 300, Threat("Linf", 0.1)),
    Subject("MNIST, convolutional, Linf .1", "mnist", mnist_convolutional, 500, Threat("Linf", 0.1)),
    Subject("MNIST, convolutional, Linf .15", "mnist", mnist_convolutional, 600, Threat("Linf", 0.15)),
    Subject("MNIST, convolutional, L2 1.5", "mnist", mnist_convolutional, 500, Threat("L2", 1.5)),
    Subject("CIFAR-10, ResNet-8, standard", "cifar10", small_resnet, 300, None),
    Subject("CIFAR-10, ResNet-8, Linf 4/255", "cifar10", small_resnet, 200, linf(4)),
    Subject("CIFAR-10, ResNet-8, Linf 8/255", "cifar10", small_resnet, 400, linf(8)),
    Subject("CIFAR-10, ViT, Linf 4/255", "cifar10", lambda: Transformer(32, 8, 48, 3, 3), 300, linf(4)),
)
METHODS = ("identity", "vanilla", "arae", "cropd")


@cache
def images_of(source: str, data: Path | None) -> ImageSource:
    return load_images(source if source == DIGITS or data is None else str(data / source), seed=0)


def subject_model(subject: Subject, weights: Path, data: Path | None, seed: int = 0) -> nn.Module:
    """The network with the weights kept in ``weights``, trained first where they are absent."""
    torch.manual_seed(seed)
    model = subject.make()
    place = weights / (subject.name.replace("/", "-").replace(" ", "-").replace(",", "") + ".safetensors")
    if place.exists():
        model.load_state_dict(read_tensors(place)[0])
    else:
        train(model, images_of(subject.source, data), subject, seed)
        write_tensors(place, model.state_dict())
    return model.eval().requires_grad_(False)


def train(model: nn.Module, data: ImageSource, subject: Subject, seed: int) -> None:
    """Adam on what PGD of 3 steps of eps/2 makes of each batch; the learning rate falls linearly to 0."""
    train_data, generator = data.train.limit(20_000), torch.Generator().manual_seed(seed)
    x, y = train_data.images, train_data.labels
    optimiser = torch.optim.Adam(model.parameters(), 3e-3 if subject.source != "cifar10" else 2e-3)
    for step in range(subject.steps):
        optimiser.param_groups[0]["lr"] *= (subject.steps - step) / (subject.steps - step + 1)
        index = torch.randint(0, len(x), (128,), generator=generator)
        image, threat = x[index], subject.training
        if threat is not None:
            steps = 3 if subject.source != "cifar10" else 1
            size = threat.eps * (1.25 if steps == 1 else 0.5)
            image = pgd(model, image, y[index], threat, steps=steps, step_size=size, generator=generator)
        optimiser.zero_grad()
        functional.cross_entropy(model(image), y[index]).backward()
        optimiser.step()


def defended(method: str, weights: Path, eps: float = 0.15, seed: int = 0) -> nn.Module:
    """The clean classifier of the digits (:mod:`heirloom.evaluation.broken`) behind a preprocessor.

    Its head is trained again on what the preprocessor makes of the clean images. Weights are kept as the others'.
    """
    data, place = load_images(DIGITS), weights / f"digits-{method}.safetensors"
    settings = PreprocessorSettings(
        method=method,  # type: ignore[arg-type]
        training=TrainingSettings(epochs=60, learning_rate=3e-3, seed=seed),
    )
    threat, encoder = Threat("Linf", eps), broken.clean_net(seed).encoder.requires_grad_(False)  # type: ignore[union-attr]
    front = fresh_preprocessor(data.train, settings)
    if not place.exists():
        front, _ = train_preprocessor(data.train, threat, settings)
    torch.manual_seed(seed)
    model = Defended(front.requires_grad_(False), encoder, nn.Linear(512, CLASSES))
    if place.exists():
        model.load_state_dict(read_tensors(place)[0])
    else:
        fit_head(model, data)
        write_tensors(place, model.state_dict())
    return model.eval().requires_grad_(False)


def fit_head(model: Defended, data: ImageSource) -> None:
    with torch.no_grad():
        features, y = model.features(data.train.images), data.train.labels
    optimiser = torch.optim.Adam(model.head.parameters(), 1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        functional.cross_entropy(model.head(features), y).backward()
        optimiser.step()
