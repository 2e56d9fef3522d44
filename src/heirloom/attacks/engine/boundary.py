"""A step over the decision boundary's linearisation: Croce and Hein, "Minimally distorted adversarial examples
with a fast adaptive boundary attack", ICML 2020, section 3."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.engine.hyperplane import project_hyperplane
from heirloom.runtime.choices import Norm
from heirloom.threat import GEOMETRIES

BIAS_MAX, OVERSHOOT = 0.1, 1.05  # alpha_max and eta of the paper, section 4


def linearise(model: nn.Module, x: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
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


def step_over(point: Tensor, clean: Tensor, gaps: Tensor, gradients: Tensor, norm: Norm) -> Tensor:
    """From ``point`` a little over the nearest of the linearised boundaries, and towards ``clean``."""
    n, rivals = gaps.shape
    geometry = GEOMETRIES[norm]
    slope = geometry.dual_length(gradients.reshape(n * rivals, -1)).view(n, rivals)
    nearest = (gaps.abs() / (slope + 1e-12)).argmin(1)
    row = torch.arange(n, device=point.device)
    weight, gap = gradients[row, nearest].flatten(1), gaps[row, nearest]
    # the linearised boundary is weight . z = bound
    bound = (weight * point.flatten(1)).sum(1) - gap
    both = torch.cat([point, clean]).flatten(1)
    moves = project_hyperplane(both, weight.repeat(2, 1), bound.repeat(2), norm)
    from_point, from_clean = moves[:n].view_as(point), moves[n:].view_as(point)
    near, far = (geometry.length(move).clamp_min(1e-8) for move in (from_point, from_clean))
    bias = (near / (near + far)).clamp_max(BIAS_MAX)
    mixed = (point + OVERSHOOT * from_point) * (1 - bias) + (clean + OVERSHOOT * from_clean) * bias
    return mixed.clamp(0, 1)
