"""Which classes a model takes for which, on clean images and on those that the attacks left."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.data.labelled import LabelledImages
from heirloom.evaluation.verdicts import Evaluation

MOST_CLASSES, MOST_IMAGES, AT_ONCE = 30, 2048, 64


@torch.no_grad()
def confusion(model: nn.Module, evaluation: Evaluation, test: LabelledImages, device: str) -> dict[str, Any]:
    """``{"clean": counts, "attacked": counts}``, counts[true][said] over at most 2048 images; empty for many classes.

    An attacked image is the first that fooled the model, else the clean one.
    """
    classes, count = len(test.classes), min(len(test), MOST_IMAGES)
    if classes > MOST_CLASSES:
        return {}
    model = model.to(device).eval()
    counts = {kind: torch.zeros(classes, classes, dtype=torch.int64) for kind in ("clean", "attacked")}
    for place in torch.arange(count).split(min(AT_ONCE, evaluation.batch)):
        clean = test.select(place).images
        attacked = evaluation.x_adv[place]
        for kind, images in (("clean", clean), ("attacked", attacked)):
            said = predict(model, images.to(device)).argmax(1).cpu()
            _count(counts[kind], test.labels[place], said)
    return {kind: found.tolist() for kind, found in counts.items()}


def _count(counts: Tensor, labels: Tensor, said: Tensor) -> None:
    known = said < len(counts)
    index = labels[known] * len(counts) + said[known]
    counts += index.bincount(minlength=counts.numel()).view_as(counts)
