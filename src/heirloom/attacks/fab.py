"""Fast Adaptive Boundary attack: Croce and Hein, "Minimally distorted adversarial examples with a fast
adaptive boundary attack", ICML 2020 (Linf, L2, L1). The targeted form, one backward pass a step, is that of
AutoAttack (Croce and Hein, ICML 2020, section 5).

Each step projects onto the decision boundary's linearisation within the pixel box, from the current point and
from the clean one, and mixes the two; a point that is misclassified moves back towards the clean one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.apgd import ranked_targets
from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.region import noise_like
from heirloom.attacks.engine.rows import rows_at_once
from heirloom.attacks.losses import misclassified
from heirloom.runtime.errors import require
from heirloom.threat import Norm, Threat, norms

BIAS_MAX, OVERSHOOT, BACK = 0.1, 1.05, 0.9  # alpha_max, eta and beta of the paper, section 4


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
        model, x, y, threat.norm, radius=threat.eps, targets=targets, steps=steps, restarts=restarts,
        enough=threat.eps, generator=generator,
    )  # fmt: skip
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
    best = _Best(x.clone(), torch.where(correct, torch.inf, 0.0).double())
    # (N, runs, rivals in a run): untargeted, all classes rival in one run; targeted, each has its own
    runs, first = classes[:, None] if targets is None else classes[..., None], 0
    while first < runs.shape[1]:
        active = (best.distance > enough).nonzero().flatten()
        if not len(active):
            break
        width = rows_at_once(len(active), runs.shape[1] - first)
        rivals = runs[active, first : first + width].flatten(0, 1)
        row = active.repeat_interleave(width)
        for restart in range(restarts):
            start = _random_start(x[row], norm, radius, generator) if restart else x[row]
            kept = best.distance[row] > enough
            _descend(model, x, y, rivals[kept], start[kept], row[kept], norm, steps, enough, best)
        first += width
    return best.x_adv, best.distance


@dataclass
class _Best:
    x_adv: Tensor
    distance: Tensor

    def keep(self, place: Tensor, point: Tensor, distance: Tensor) -> None:
        """Of the rows of each example the nearest, where it is nearer than what was found before."""
        nearest = self.distance.scatter_reduce(0, place, distance, "amin")
        closer = (distance == nearest[place]) & (distance < self.distance[place])
        self.x_adv[place[closer]], self.distance[place[closer]] = point[closer], distance[closer]


def _descend(
    model: nn.Module, x: Tensor, y: Tensor, rival: Tensor, point: Tensor, active: Tensor, norm: Norm,
    steps: int, enough: float, best: _Best,
) -> None:  # fmt: skip
    """One run from ``point``, row by row, for the examples ``active`` (some in several rows); fills ``best``."""
    if not len(active):
        return
    clean, label = x[active], y[active]
    for _ in range(steps):
        gaps, gradients = _linearise(model, point, label, rival)
        point = _step(point, clean, gaps, gradients, norm)
        with torch.no_grad():
            fooled = misclassified(predict(model, point), label)
        if not bool(fooled.any()):
            continue
        distance = norms(point.double() - clean.double(), norm).flatten()
        best.keep(active[fooled], point[fooled], distance[fooled])
        back = clean + BACK * (point - clean)
        point = torch.where(fooled.view(-1, *[1] * (x.ndim - 1)), back, point)
        left = best.distance[active] > enough
        if not bool(left.all()):
            active, point, clean, label, rival = (t[left] for t in (active, point, clean, label, rival))
            if not len(active):
                return


def _linearise(model: nn.Module, x: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of ``rivals`` minus the true one (N, K), and their gradients (N, K, ...)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = predict(model, x)
        gaps = logits.gather(1, rivals) - logits.gather(1, y[:, None])
        gradients = [torch.zeros_like(x) for _ in range(gaps.shape[1])]
        for k in range(gaps.shape[1] if gaps.requires_grad else 0):
            (gradient,) = torch.autograd.grad(
                gaps[:, k].sum(), x, allow_unused=True, retain_graph=k + 1 < gaps.shape[1]
            )
            gradients[k] = gradients[k] if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
    return gaps.detach(), torch.stack(gradients, 1)


def _step(point: Tensor, clean: Tensor, gaps: Tensor, gradients: Tensor, norm: Norm) -> Tensor:
    dual: Norm = {"Linf": "L1", "L2": "L2", "L1": "Linf"}[norm]  # type: ignore[assignment]
    n, rivals = gaps.shape
    slope = norms(gradients.reshape(n * rivals, -1), dual).view(n, rivals)
    nearest = (gaps.abs() / (slope + 1e-12)).argmin(1)
    row = torch.arange(n, device=point.device)
    weight, gap = gradients[row, nearest].flatten(1), gaps[row, nearest]
    # the linearised boundary is weight . z = bound
    bound = (weight * point.flatten(1)).sum(1) - gap
    both = torch.cat([point, clean]).flatten(1)
    moves = project_hyperplane(both, weight.repeat(2, 1), bound.repeat(2), norm)
    from_point, from_clean = moves[:n].view_as(point), moves[n:].view_as(point)
    near, far = norms(from_point, norm).clamp_min(1e-8), norms(from_clean, norm).clamp_min(1e-8)
    bias = (near / (near + far)).clamp_max(BIAS_MAX)
    mixed = (point + OVERSHOOT * from_point) * (1 - bias) + (clean + OVERSHOOT * from_clean) * bias
    return mixed.clamp(0, 1)


def project_hyperplane(point: Tensor, weight: Tensor, bound: Tensor, norm: Norm) -> Tensor:
    """The smallest move ``d`` with ``weight . (point + d) = bound`` and ``point + d`` in [0, 1].

    Args:
        point, weight: (N, D); bound: (N,). Where the box does not reach the hyperplane, the move goes to the
            box's nearest corner.

    The dual has one unknown: the length of the longest entry of the move (Linf), the multiplier of ``weight``
    (L2), or the smallest weight that is used (L1). The first two are found by Newton's method on a concave
    piecewise linear function, which ends at the exact root; the third by sorting.
    """
    need = (weight * point).sum(1, keepdim=True) - bound[:, None]
    weight = torch.where(need < 0, -weight, weight)
    need = need.abs()
    slope = weight.abs()
    room = torch.where(weight > 0, point, 1 - point)  # how far each entry may go
    room = torch.where(slope > 0, room, 0.0)
    length = _sorted_lengths(slope, room, need) if norm == "L1" else _newton_lengths(slope, room, need, norm)
    return -weight.sign() * length


def _newton_lengths(slope: Tensor, room: Tensor, need: Tensor, norm: Norm) -> Tensor:
    speed = torch.ones_like(slope) if norm == "Linf" else slope
    gain = slope * speed
    level = torch.zeros_like(need)
    for _ in range(40):
        reached = level * speed
        free = reached < room
        rest = need - (slope * torch.where(free, reached, room)).sum(1, keepdim=True)
        rate = (gain * free).sum(1, keepdim=True)
        move = torch.where(rate > 0, rest / rate.clamp_min(1e-38), 0.0).clamp_min(0)
        level = level + move
        if bool((move <= 1e-6 * level).all()):
            break
    # where the box ends before the hyperplane, every entry goes as far as it may
    unreachable = (slope * room).sum(1, keepdim=True) <= need
    return torch.where(unreachable, room, torch.minimum(level * speed, room))


def _sorted_lengths(slope: Tensor, room: Tensor, need: Tensor) -> Tensor:
    order = slope.argsort(1, descending=True)
    gain = (slope * room).gather(1, order)
    before = gain.cumsum(1) - gain  # what the steeper entries have gained
    share = ((need - before) / gain.clamp_min(1e-38)).clamp(0, 1)
    return torch.zeros_like(room).scatter(1, order, share * room.gather(1, order))


def _random_start(x: Tensor, norm: Norm, radius: float, generator: torch.Generator | None) -> Tensor:
    noise = noise_like(x, norm, generator)
    return (x + radius / 2 * noise / norms(noise, norm).clamp_min(1e-12)).clamp(0, 1)
