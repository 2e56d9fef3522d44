"""Fixtures that several files share: the digits, and a small foundation model saved as the hub's are."""

from pathlib import Path

import pytest
import torch

from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.demo import pretrain_foundation

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def digits() -> ImageSource:
    return load_images("digits")


@pytest.fixture(scope="session")
def foundation(digits: ImageSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Transformers ResNet folder, pre-trained for two epochs: features, though not good ones."""
    folder = tmp_path_factory.mktemp("foundation")
    pretrain_foundation(digits.train.limit(512), folder, epochs=2)
    return folder


@pytest.fixture
def few(digits: ImageSource) -> LabelledImages:
    return digits.train.limit(64)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
