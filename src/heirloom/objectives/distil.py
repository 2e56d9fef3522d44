"""Robust distillation with feature inversion: a robust student of the frozen model, and a painter behind it.

Zhang et al., "Decoupled Adversarial Contrastive Learning for Self-supervised Adversarial Robustness" (DeACL),
ECCV 2022: a student learns a frozen teacher's features under attack. Dosovitskiy and Brox, "Inverting Visual
Representations with Convolutional Networks", CVPR 2016: an image from features. No label is read. What the
frozen model is shown is painted from the student's features alone, so an attacker must go through those.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.objectives.feature_stability import relative
from heirloom.objectives.objective import Objective, squared_error

SHARPNESS = 10.0  # of the softmax over cosine similarities to the prototypes


def prototypes(features: Tensor, count: int, generator: torch.Generator, rounds: int = 25) -> Tensor:
    """Unit centres (count, D) of the directions of ``features`` (N, D): spherical k-means from k-means++ seeds
    (Dhillon and Modha, Machine Learning 2001; Arthur and Vassilvitskii, SODA 2007). Draws come from ``generator``;
    a centre that loses all its points stays where it was.
    """
    points = functional.normalize(features, dim=1)
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        gap = (1 - (points @ centres.T).amax(1)).clamp_min(0) + 1e-12
        centres = torch.cat([centres, points[torch.multinomial(gap, 1, generator=generator)]])
    for _ in range(rounds):
        nearest = functional.one_hot((points @ centres.T).argmax(1), count).to(points.dtype)
        sums = nearest.T @ points
        centres = torch.where(sums.norm(dim=1, keepdim=True) > 0, functional.normalize(sums, dim=1), centres)
    return centres


def shares(features: Tensor, centres: Tensor) -> Tensor:
    """Log of the softmax of 10 cosine similarities to ``centres`` (C, D): (N, C)."""
    return (SHARPNESS * functional.normalize(features, dim=1) @ centres.T).log_softmax(1)


def student_each(q: Tensor, target: Tensor, centres: Tensor, scale: Tensor) -> Tensor:
    """One value an example, (N,): the cross-entropy of the student's shares of the prototypes with the
    teacher's, plus ||q - target||^2 / ``scale``.

    Args:
        q, target: features (N, D) of the student and of the teacher. scale: the teacher's mean ||target||^2.
    """
    entropy = -(shares(target, centres).exp() * shares(q, centres)).sum(1)
    return entropy + squared_error(q, target) / scale


def logit_each(logits: Tensor, target: Tensor) -> Tensor:
    """One value an example, (N,): the cross-entropy of ``logits`` with the probabilities of the frozen classifier's
    own logits ``target``, both (N, classes) (Hinton et al., 2015, at temperature 1): a target that needs no label.
    """
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1)


def painter(seen: Tensor, q: Tensor) -> Tensor:
    """Scalar: how far what the frozen model says of the paintings is from the features they were painted from,
    ||E(D(q)) - q||^2, relative to ||q||^2.
    """
    return relative(seen, q)


def likeness(made: Tensor, x: Tensor) -> Tensor:
    """Scalar: squared error of paintings and images, both (N, C, H, W) in [0, 1], over the images' own variance, meaned
    over three scales: as they are, and averaged over 2x2 and 4x4 pixels. 0 is the image, 1 the mean colour.
    """
    errors = []
    for side in (1, 2, 4):
        a, b = (functional.avg_pool2d(images, side) for images in (made, x))
        spread = (b - b.mean((0, 2, 3), keepdim=True)).square().mean().clamp_min(1e-6)
        errors.append((a - b).square().mean() / spread)
    return torch.stack(errors).mean()


OBJECTIVE = Objective(
    name="distil",
    title="Distil (robust student, painted)",
    loss=None,
    access="images and model",
    source="DeACL (Zhang et al., ECCV 2022); feature inversion (Dosovitskiy and Brox, CVPR 2016)",
    cost="student: 2 forward, 2 backward of the student; painter: 1 forward, 1 backward through the model",
    wins="colour images, where no other gives robustness at 8/255, and 28x28 grey ones",
    fails="clean accuracy is the student's, and so is the robustness",
    caveat="the robustness is the student's; the frozen model is its teacher, and where the student's features are "
    "painted for it, the paintings are textures that look alike to a person. A row 'student alone' beside it is what "
    "is left without the frozen model.",
    weight=1.0,
    augments=False,
    radius=1.25,
    reads=("radius", "attack_steps"),
)
