"""What an attack maximises: functions of (output, y) with one value per example, shape (N,).

For classifiers ``output`` is logits (N, classes) and ``y`` class indices (N,) unless said
otherwise. A higher value is a better attack. ``margin`` and ``dlr`` are above 0 exactly where the example is
misclassified.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Highest other logit minus the true one (Carlini and Wagner 2017, f6, without its constant)."""
    true = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - true


def target_margin(logits: Tensor, pairs: Tensor) -> Tensor:
    """The target's logit minus the true one; ``pairs`` (N, 2) holds the true label and the target."""
    both = logits.gather(1, pairs)
    return both[:, 1] - both[:, 0]


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce and Hein, ICML 2020, section 4): the margin over the distance from
    the first to the third logit, so that it does not change when logits are scaled.

    With fewer than 3 classes there is no third logit; the margin takes its place.
    """
    if logits.shape[1] < 3:
        return margin(logits, y)
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, pairs: Tensor) -> Tensor:
    """Targeted DLR (Croce and Hein, ICML 2020, equation 7); ``pairs`` (N, 2) holds label and target.

    With fewer than 4 classes there is no fourth logit; the targeted margin takes its place.
    """
    gain = target_margin(logits, pairs)
    if logits.shape[1] < 4:
        return gain
    top = logits.topk(4, dim=1).values
    return gain / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """True where the attack has succeeded: another class scores at least as high as the true one.

    A tie counts as an error: the defender cannot claim a decision that rests on the order of classes. So does
    a logit that is not a number.
    """
    return ~(margin(logits, y) < 0)


def squared_distance(output: Tensor, reference: Tensor) -> Tensor:
    """Squared L2 distance to a reference embedding: drives a representation away from ``reference``."""
    return (output - reference).flatten(1).square().sum(1)


def check_labels(y: Tensor, classes: int, argument: str = "labels") -> None:
    """Raise :class:`heirloom.InputError` unless ``y`` holds class indices below ``classes``."""
    from heirloom.runtime.errors import require

    require(
        y.ndim == 1 and not torch.is_floating_point(y),
        argument,
        "whole numbers of shape (N,)",
        tuple(y.shape),
    )
    if len(y):
        require(
            int(y.min()) >= 0 and int(y.max()) < classes,
            argument,
            f"class indices from 0 to {classes - 1}",
            f"{int(y.min())} to {int(y.max())}",
        )
