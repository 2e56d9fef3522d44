"""What :func:`heirloom.attacks.cascade.cascade` knows of each example while its rungs follow each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.ascent import Ascent, ascend_in_stages
from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.region import Region
from heirloom.attacks.engine.targets import any_target
from heirloom.attacks.losses import check_labels, margin, misclassified
from heirloom.attacks.pma import spread
from heirloom.threat import Threat


@dataclass
class Campaign:
    """The attack on one batch.

    Attributes:
        best: the point of highest logit margin of each example; ``best.active`` are those that stand.
        clean: (N,): the logit margin on the clean image, below 0 where it is right.
        scale: (N, 1): the spread of the logits on the clean image, in which probability margins measure logits.
        reached: (N, classes): the highest margin reached towards each class; -inf at the label.
        masked: a random search came as far as the gradients.
    """

    model: nn.Module
    region: Region
    y: Tensor
    threat: Threat
    generator: torch.Generator | None
    best: Best
    clean: Tensor
    scale: Tensor
    reached: Tensor
    masked: bool = False

    @staticmethod
    def of(
        model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator | None
    ) -> Campaign:
        region = Region.around(x, threat)
        with torch.no_grad():
            logits = predict(model, region.x)
        check_labels(y, logits.shape[1])
        clean = margin(logits, y)
        best = Best.of(region.x, clean.clone())
        best.finish(misclassified(logits, y))
        scale = spread(logits)
        return Campaign(model, region, y, threat, generator, best, clean, scale, _gaps(logits, y))

    def left(self, place: Tensor) -> Tensor:
        """The share of the clean margin that the best point has not taken away: 1 untouched, 0 fallen."""
        return self.best.value[place] / self.clean[place]

    def standing(self, reach: float, nearest: float = 0.0) -> Tensor:
        """The places of those that stand with at most the share ``reach`` of their margin left, or among the
        share ``nearest`` of all that stand that have the least left."""
        left = self.left(self.best.active)
        rank = left.argsort().argsort()
        return self.best.active[(left <= reach) | (rank < nearest * len(left))]

    def promising(self, place: Tensor, first: int, last: int) -> Tensor:
        """(K, last - first): the wrong classes whose margins came highest, from the ``first``-th on."""
        order = self.reached[place].argsort(dim=1, descending=True, stable=True)
        return order[:, first : min(last, order.shape[1] - 1)]

    def look(self, place: Tensor, point: Tensor) -> Tensor:
        """Predict at ``point`` (K, ...) for the examples ``place`` (some several times) and keep what is better.

        Returns:
            the margins there (K,), infinite where misclassified.
        """
        with torch.no_grad():
            logits = predict(self.model, point)
        label = self.y[place]
        value = torch.where(misclassified(logits, label), torch.inf, margin(logits, label))
        self.best.keep_highest(place, point, value)
        index = place[:, None].expand_as(logits)
        self.reached.scatter_reduce_(0, index, _gaps(logits, label), "amax")
        self.best.finish(self.best.value[self.best.active] >= 0)
        return value

    def ascend(
        self, task: Tensor, start: Tensor, steps: int, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """One run of APGD for each row of ``task`` (K, 3), (label, target, place); where they ended (K, ...).

        A row ends at the first success of any row of its example.
        """
        place = task[:, 2]
        ascent = Ascent(self.model, loss, any_target(self.y))
        point = ascend_in_stages(ascent, self.region[place], task, start, steps).point
        self.look(place, point)
        return point


def _gaps(logits: Tensor, y: Tensor) -> Tensor:
    """Each logit minus the true one, -inf for the label itself."""
    return (
        (logits - logits.gather(1, y[:, None])).scatter(1, y[:, None], -torch.inf).nan_to_num(nan=torch.inf)
    )
