"""Test images as a page shows them: clean, attacked, and what the preprocessor makes of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heirloom.data.labelled import LabelledImages
from heirloom.data.pictures import image_uri
from heirloom.evaluation.verdicts import Evaluation
from heirloom.models.defended import Defended


@torch.no_grad()
def examples(
    model: Defended, evaluation: Evaluation, test: LabelledImages, count: int, device: str
) -> list[dict[str, Any]]:
    """The first ``count`` test images: clean, adversarial, what the preprocessor makes of each, predictions."""
    model = model.to(device)
    x, x_adv = test.select(torch.arange(min(count, len(test)))).images, evaluation.x_adv[:count]
    seen = [model.preprocessor(batch.to(device)).cpu() for batch in (x, x_adv)]
    said = [model(batch.to(device)).argmax(1).tolist() for batch in (x, x_adv)]
    eps = evaluation.threat.eps
    names = test.classes
    return [
        {
            "label": names[int(test.labels[i])],
            "clean": image_uri(x[i].numpy()),
            "perturbation": image_uri(_visible(x_adv[i] - x[i], eps).numpy()),
            "adversarial": image_uri(x_adv[i].numpy()),
            "clean_preprocessed": image_uri(seen[0][i].numpy()),
            "adversarial_preprocessed": image_uri(seen[1][i].numpy()),
            "clean_prediction": names[said[0][i]],
            "adversarial_prediction": names[said[1][i]],
        }
        for i in range(len(x))
    ]


def _visible(delta: Tensor, eps: float) -> Tensor:
    """A perturbation as an image: grey is none, black and white the largest one."""
    return 0.5 + 0.5 * delta / delta.abs().max().clamp_min(min(eps, 1e-6))
