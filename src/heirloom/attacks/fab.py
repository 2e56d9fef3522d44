"""Fast Adaptive Boundary attack: Croce and Hein, "Minimally distorted adversarial examples with a fast
adaptive boundary attack", ICML 2020 (Linf, L2, L1). The targeted form, one backward pass a step, is that of
AutoAttack (Croce and Hein, ICML 2020, section 5).

Each step projects onto the decision boundary's linearisation within the pixel box, from the current point and
from the clean one, and mixes the two; a point that is misclassified moves back towards the clean one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.best import Best
from heirloom.attacks.engine.boundary import linearise, step_over
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.journal import repeat
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.engine.targets import ranked_targets
from heirloom.attacks.losses import misclassified
from heirloom.runtime.choices import Norm
from heirloom.runtime.errors import require
from heirloom.threat import GEOMETRIES, Threat

BACK = 0.9  # beta of the paper, section 4


def fab(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    targets: int | None = None,
    steps: int = 100,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The smallest perturbation that changes the class, kept where it lies inside the threat set.

    Args:
        model: a classifier; x: clean images (N, C, H, W) in [0, 1]; y: labels (N,).
        targets: None: each step takes the nearest of the linearised boundaries of (at most) the 9 other
            classes that score highest on ``x``, at as many backward passes. A number: targeted FAB, one run
            for each of so many classes, at one backward pass a step.
        restarts: the first run starts at ``x``, the others at a random point within half of eps.

    Returns:
        float32 images inside the threat set; the clean one where no such perturbation was found. An example
        is finished once found within eps. At most targets * restarts * steps * 2 forward passes.
    """
    x = x.detach().float()
    found, distance = fab_minimum(
        model,
        x,
        y,
        threat.norm,
        radius=threat.eps,
        targets=targets,
        steps=steps,
        restarts=restarts,
        enough=threat.eps,
        generator=generator,
    )
    inside = (distance <= threat.eps).view(-1, *[1] * (x.ndim - 1))
    return threat.project(torch.where(inside, found, x), x)


def fab_minimum(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: Norm,
    *,
    radius: float,
    targets: int | None = None,
    steps: int = 100,
    restarts: int = 1,
    enough: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The nearest misclassified image found, and its distance (N,), float64, infinite where none was found.

    Args:
        radius: random restarts start within half of it.
        enough: an example is finished once its distance is at most this.
    """
    require(steps >= 1, "steps", "at least 1", steps)
    require(restarts >= 1, "restarts", "at least 1", restarts)
    x = x.detach().float()
    classes, correct = ranked_targets(model, x, y, 9 if targets is None else targets)
    best = Best.of(x, torch.where(correct, -torch.inf, 0.0).double())  # its value: minus the distance
    # (N, runs, rivals in a run): untargeted, all classes rival in one run; targeted, each has its own
    runs, first = classes[:, None] if targets is None else classes[..., None], 0
    while first < runs.shape[1]:
        active = (best.value < -enough).nonzero().flatten()
        if not len(active):
            break
        width = rows_at_once(len(active), runs.shape[1] - first)
        rivals = runs[active, first : first + width].flatten(0, 1)
        row = active.repeat_interleave(width)
        for restart in range(restarts):
            start = _random_start(x[row], norm, radius, generator) if restart else x[row]
            rows = _Rows(row, x[row], y[row], rivals, start)
            _descend(_Run(model, norm, steps, enough), rows[best.value[row] < -enough], best)
        first += width
    return best.point, best.value.abs()


@dataclass(frozen=True)
class _Run:
    """What stays the same over a run."""

    model: nn.Module
    norm: Norm
    steps: int
    enough: float


@dataclass
class _Rows:
    """What still runs; some examples have several rows."""

    place: Tensor  # of the example in the batch
    clean: Tensor
    label: Tensor
    rivals: Tensor  # (N, K)
    point: Tensor

    def __getitem__(self, kept: Tensor) -> _Rows:
        return _Rows(*(getattr(self, field.name)[kept] for field in fields(self)))


def _descend(run: _Run, rows: _Rows, best: Best) -> None:
    """One run of all rows; fills ``best``."""
    geometry = GEOMETRIES[run.norm]

    def step(descent: _Descent) -> bool:
        rows = descent.rows
        if descent.step == run.steps or not len(rows.place):
            descent.rows = rows[rows.place[:0]]
            return False
        descent.step += 1
        gaps, gradients = linearise(run.model, rows.point, rows.label, rows.rivals)
        point = rows.point = step_over(rows.point, rows.clean, gaps, gradients, run.norm)
        with torch.no_grad():
            fooled = misclassified(predict(run.model, point), rows.label)
        if not bool(fooled.any()):
            return True
        distance = geometry.length(point.double() - rows.clean.double()).flatten()
        best.keep_highest(rows.place[fooled], point[fooled], -distance[fooled])
        back = rows.clean + BACK * (point - rows.clean)
        rows.point = torch.where(fooled.view(-1, *[1] * (point.ndim - 1)), back, point)
        left = best.value[rows.place] < -run.enough
        if not bool(left.all()):
            descent.rows = rows[left]
        return True

    repeat(_Descent(best, rows), step)


@dataclass
class _Descent:
    """A run under way: what is found, what still runs, and the next step."""

    best: Best
    rows: _Rows
    step: int = 0


def _random_start(x: Tensor, norm: Norm, radius: float, generator: torch.Generator | None) -> Tensor:
    geometry = GEOMETRIES[norm]
    noise = geometry.noise(x, generator)
    return (x + radius / 2 * noise / geometry.length(noise).clamp_min(1e-12)).clamp(0, 1)
