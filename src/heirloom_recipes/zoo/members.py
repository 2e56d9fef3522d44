"""What is in the zoo, and how long each is trained at each scale.

``smoke`` shows in seconds that everything runs (``digits`` alone is audited); its figures mean nothing. ``small`` is
minutes a model on one thread; where a pass takes 0.1 s (imagenette), that is so few test images that an interval is
some 40 points wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from heirloom.runtime.choices import DefenceMethod, MixedPrecision

EFFICIENTNET = "examples.imagenet_efficientnet:features"


@dataclass(frozen=True)
class Size:
    """Images that are used, epochs of the foundation model and of the preprocessor; images that the audit and the
    security curve look at (0: none is made)."""

    train: int | None
    test: int
    foundation_epochs: int
    epochs: int
    head_epochs: int = 40
    audit: int = 32
    curve: int = 64


@dataclass(frozen=True)
class Member:
    """One defended model.

    Attributes:
        source: where its images come from unless ``--data NAME=SOURCE`` says so. made: how its frozen foundation model
            comes about: ``simclr`` (without labels), ``supervised`` (``heirloom pretrain``), or a factory's name.
        network: of a ``supervised`` one. method, eps: of the defence. keeps_head: the frozen classifier's own head
            stays, and no label is read. precision: of all training.
    """

    name: str
    source: str
    made: Literal["simclr", "supervised"] | str
    method: DefenceMethod
    eps: float
    sizes: dict[str, Size]
    architecture: str = "mlp"
    learning_rate: float = 3e-3
    network: str = "resnet8"
    keeps_head: bool = False
    precision: MixedPrecision = "no"


MEMBERS = (
    Member(
        "digits",
        "digits",
        "simclr",
        "stability",
        0.15,
        {"smoke": Size(120, 16, 1, 1, 2, 8), "small": Size(None, 450, 40, 150, 60, 64)},
    ),
    Member(
        "mnist",
        "ylecun/mnist",
        "supervised",
        "distil",
        0.1,
        {"smoke": Size(80, 8, 1, 1, 2, 0, 0), "small": Size(6000, 300, 3, 40)},
    ),
    Member(
        "fashion_mnist",
        "zalando-datasets/fashion_mnist",
        "supervised",
        "distil",
        0.05,
        {"smoke": Size(80, 8, 1, 1, 2, 0, 0), "small": Size(6000, 300, 3, 40)},
    ),
    Member(
        "cifar10",
        "uoft-cs/cifar10",
        "supervised",
        "distil",
        8 / 255,
        {"smoke": Size(80, 8, 1, 1, 2, 0, 0), "small": Size(None, 300, 6, 12)},
        "conv",
        2e-3,
        "resnet10-6x6-w32",
        keeps_head=True,
        precision="bf16",
    ),
    Member(
        "imagenette",
        "frgfm/imagenette",
        EFFICIENTNET,
        "denoise",
        1 / 255,
        {"smoke": Size(40, 8, 0, 1, 2, 0, 0), "small": Size(300, 16, 0, 4, 40, 0, 0)},
        "conv",
        2e-3,
    ),
)
