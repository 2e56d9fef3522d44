"""The images of CRoPD's recipes, by the names of their rows."""

from __future__ import annotations

from dataclasses import replace

import torch

from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom_recipes.cropd.scales import Scale

SUBSETS = {"cifar2": "cifar10"}  # its first two classes


def images_of(name: str, scale: Scale, seed: int, *, held_out: bool) -> ImageSource:
    """The images called ``name``; ``cifar2``: the first two classes of ``cifar10``.

    ``held_out``: in the place of the test images are some of the training images, which are not trained on then.
    """
    found = load_images(
        scale.sources[SUBSETS.get(name, name)],
        image_size=scale.of_size(name),
        limit=None if name in SUBSETS else scale.limit,
        limit_test=None if name in SUBSETS else scale.limit_test,
        seed=seed,
    )
    found = _first_classes(found, 2, scale.limit, scale.limit_test) if name in SUBSETS else found
    return _validation(found, seed) if held_out else found


def first_images(data: ImageSource, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first ``count`` test images and their labels."""
    chosen = data.test.select(torch.arange(min(count, len(data.test))))
    return chosen.images, chosen.labels


def _first_classes(source: ImageSource, count: int, limit: int | None, limit_test: int | None) -> ImageSource:
    def cut(data: LabelledImages, most: int | None) -> LabelledImages:
        kept = data.select((data.labels < count).nonzero().flatten())
        return replace(kept, classes=data.classes[:count]).limit(most)

    return ImageSource(
        f"{source.name}, {count} classes", cut(source.train, limit), cut(source.test, limit_test)
    )


def _validation(source: ImageSource, seed: int) -> ImageSource:
    """Held-out training images in the place of the test images, about as many of them, but half at most."""
    share = min(0.5, len(source.test) / len(source.train))
    train, held_out = source.train.split(share, seed)
    return ImageSource(f"{source.name}, held out", train, held_out)
