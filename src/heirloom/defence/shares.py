"""Who sees which of the images."""

from __future__ import annotations

from dataclasses import dataclass

from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.settings import DefendSettings


@dataclass(frozen=True)
class Shares:
    """Preprocessors learn from ``pictures`` (labels unread), heads from ``train``; ``validation`` chooses, and the
    figures are of ``test``.
    """

    pictures: LabelledImages
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages


def shares_of(data: ImageSource, settings: DefendSettings) -> Shares:
    """Validation images are held out of the training images; pictures are the rest, or the images from elsewhere."""
    train, validation = data.train.split(settings.validation, seed=settings.defence.training.seed)
    elsewhere = data.unlabelled
    return Shares(train if elsewhere is None else elsewhere.images, train, validation, data.test)
