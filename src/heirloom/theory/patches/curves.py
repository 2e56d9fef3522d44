"""What is measured while patch networks train, and the rule that finds the phases in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.analysis.feature_learning import feature_correlation
from heirloom.theory.patches.attack import multi_targeted_margins, robustly_correct
from heirloom.theory.patches.network import patch_logits
from heirloom.theory.patches.training import Batch, PatchTraining

ROBUST = 0.95
COLUMNS = ("clean", "robust", "robust_correlation", "non_robust_correlation")


@dataclass(frozen=True)
class Curves:
    """R records of S networks: ``steps`` (R,), everything else (R, S)."""

    steps: Tensor
    clean: Tensor
    robust: Tensor
    robust_correlation: Tensor
    non_robust_correlation: Tensor


@dataclass(frozen=True)
class Phases:
    """Where one network's training passes its landmarks (steps; None where it never does).

    clean: first record with clean accuracy 1. overtaken: first record from which the robust correlation stays
    above the non-robust one to the end. robust: first record from which robust accuracy stays at least .95
    to the end. robust_at_clean: robust accuracy at ``clean``.
    """

    clean: int | None
    overtaken: int | None
    robust: int | None
    robust_at_clean: float | None

    @property
    def in_order(self) -> bool:
        """The paper's order: clean accuracy perfect while robust accuracy is still 0, then the robust
        features overtake, then robust accuracy."""
        if self.clean is None or self.overtaken is None or self.robust is None:
            return False
        return self.robust_at_clean == 0 and self.clean < self.overtaken < self.robust


def clean_correct(weight: Tensor, batch: Batch, training: PatchTraining) -> Tensor:
    """True (S, N) where the true class scores strictly highest."""
    logits, _ = patch_logits(weight, batch.x, batch.counts, training.rho, training.q)
    true = logits.gather(-1, batch.y.expand(len(logits), -1)[..., None])
    return (true > logits.masked_fill(batch.onehot.bool(), float("-inf"))).all(-1)


def robust_correct(weight: Tensor, batch: Batch, training: PatchTraining) -> Tensor:
    """True (S, N) where the multi-targeted attack fails."""
    margins, _ = multi_targeted_margins(
        weight, batch.x, batch.y, batch.counts, training.eps, rho=training.rho, q=training.q
    )
    return robustly_correct(margins)


class Recorder:
    """Collects :class:`Curves` on ``test`` as ``train_networks`` calls it."""

    def __init__(self, test: Batch, training: PatchTraining, features: tuple[Tensor, Tensor]) -> None:
        self._test, self._training, self._features = test, training, features
        self._steps: list[int] = []
        self._records: list[tuple[Tensor, ...]] = []

    def __call__(self, step: int, weight: Tensor) -> None:
        self._steps.append(step)
        self._records.append(
            (
                clean_correct(weight, self._test, self._training).double().mean(1),
                robust_correct(weight, self._test, self._training).double().mean(1),
                *(feature_correlation(weight, feature).double() for feature in self._features),
            )
        )

    def curves(self) -> Curves:
        return Curves(
            torch.tensor(self._steps), *(torch.stack(column) for column in zip(*self._records, strict=True))
        )


def detect_phases(curves: Curves, network: int) -> Phases:
    """Apply the rule of :class:`Phases` to one network."""
    clean, robust = curves.clean[:, network], curves.robust[:, network]
    above = curves.robust_correlation[:, network] > curves.non_robust_correlation[:, network]
    first = _first(clean == 1)
    return Phases(
        clean=_step(curves, first),
        overtaken=_step(curves, _first(_from_here_on(above))),
        robust=_step(curves, _first(_from_here_on(robust >= ROBUST))),
        robust_at_clean=None if first is None else float(robust[first]),
    )


def join_curves(parts: list[Curves]) -> Curves:
    """Networks trained one after the other as one set of curves."""
    joined = (torch.cat([getattr(part, column) for part in parts], 1) for column in COLUMNS)
    return Curves(parts[0].steps, *joined)


def _from_here_on(holds: Tensor) -> Tensor:
    return holds.int().flip(0).cumprod(0).flip(0).bool()


def _first(holds: Tensor) -> int | None:
    return int(holds.int().argmax()) if bool(holds.any()) else None


def _step(curves: Curves, index: int | None) -> int | None:
    return None if index is None else int(curves.steps[index])
