"""Which classes a targeted attack tries, and when it may stop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.losses import check_labels, misclassified
from heirloom.runtime.errors import require

Success = Callable[[Tensor, Tensor], Tensor]


def ranked_targets(model: nn.Module, x: Tensor, y: Tensor, targets: int) -> tuple[Tensor, Tensor]:
    """The ``targets`` wrong classes of highest logit on ``x`` (N, at most targets), and which examples
    are classified correctly (N,), bool. One forward pass."""
    require(targets >= 1, "targets", "at least 1", targets)
    with torch.no_grad():
        logits = predict(model, x.detach().float())
    check_labels(y, logits.shape[1])
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.topk(min(targets, logits.shape[1] - 1), dim=1).indices, ~misclassified(logits, y)


def any_target(y: Tensor) -> Success:
    """For (label, target, example) rows (N, 3): the example is misclassified, in this row or one before."""
    fallen = torch.zeros_like(y, dtype=torch.bool)

    def until(output: Tensor, task: Tensor) -> Tensor:
        fallen[task[misclassified(output, task[:, 0]), 2]] = True
        return fallen[task[:, 2]]

    return until
