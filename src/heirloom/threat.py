"""What the attacker may do: a norm ball of radius eps around each image, inside the pixel range [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from heirloom.runtime.errors import InputError, require
from heirloom.runtime.randomness import normal, uniform

Norm = Literal["Linf", "L2", "L1"]
NORMS: tuple[str, ...] = get_args(Norm)


@dataclass(frozen=True)
class Threat:
    """All perturbations of an image with ``norm(delta) <= eps`` whose result stays in [0, 1].

    Args:
        norm: ``"Linf"``, ``"L2"`` or ``"L1"``, over all pixels and channels of one image.
        eps: the radius in pixel units, where pixels lie in [0, 1] (8/255, not 8). It must be above 0.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        require(self.norm in NORMS, "norm", f"one of {', '.join(NORMS)}", self.norm)
        require(
            isinstance(self.eps, (int, float)) and 0 < self.eps < float("inf"),
            "eps",
            "a number above 0 in pixel units (8/255, say)",
            self.eps,
        )

    def __str__(self) -> str:
        return f"{self.norm} {format_eps(self.eps)}"

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The point of the threat set nearest to ``x_adv`` (for L1, of the ball and then of the box).

        Args:
            x_adv: any float tensor (N, ...).
            x: the clean images in [0, 1], same shape.

        Returns:
            float32 images in [0, 1] whose distance from ``x``, computed in float64, never exceeds eps:
            rounding is always towards ``x``.
        """
        x = x.float()
        x_adv = x_adv.to(x.dtype)
        if self.norm == "Linf":
            lower, upper = self.box(x)
            return torch.minimum(torch.maximum(x_adv, lower), upper)
        delta = (x_adv.clamp(0, 1) - x) if self.norm == "L2" else (x_adv - x)
        inside = x + self.project_delta(delta)
        return self._shrink(inside.clamp(0, 1), x)

    def project_delta(self, delta: Tensor) -> Tensor:
        """The point of the norm ball alone (no pixel range) nearest to ``delta`` (N, ...)."""
        if self.norm == "Linf":
            return delta.clamp(-self.eps, self.eps)
        if self.norm == "L2":
            return delta * (self.eps / norms(delta, "L2").clamp_min(1e-30)).clamp_max(1)
        return _project_l1(delta, self.eps)

    def box(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest and highest pixel values that Linf allows around ``x``, exact in float64."""
        exact_lower, exact_upper = x.double() - self.eps, x.double() + self.eps
        lower, upper = exact_lower.float(), exact_upper.float()
        lower = torch.where(lower.double() < exact_lower, torch.nextafter(lower, x), lower)
        upper = torch.where(upper.double() > exact_upper, torch.nextafter(upper, x), upper)
        return lower.clamp_min(0), upper.clamp_max(1)

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random point of the threat set for each image.

        Linf: uniform in the ball. L2 and L1: a uniform (Gaussian, Laplace) direction and a radius uniform
        in [0, eps]. The draw is made on the generator's device, so a CPU generator gives the same start
        on every device.
        """
        if self.norm == "Linf":
            noise = uniform(x.shape, generator, x.device) * 2 - 1
            return self.project(x + self.eps * noise, x)
        direction = normal(x.shape, generator, x.device)
        if self.norm == "L1":
            direction = direction.sign() * -uniform(x.shape, generator, x.device).clamp_min(1e-7).log()
        radius = uniform(x.shape[:1], generator, x.device).view(-1, *[1] * (x.ndim - 1))
        delta = self.eps * radius * direction / norms(direction, self.norm).clamp_min(1e-12)
        return self.project(x + delta, x)

    def ascent_direction(self, gradient: Tensor) -> Tensor:
        """The step of unit norm along which a linear function with this gradient grows most.

        Linf: the sign; L2: the normalised gradient; L1: the sign of the largest entry alone. A zero
        gradient gives a zero step.
        """
        if self.norm == "Linf":
            return gradient.sign()
        if self.norm == "L2":
            return gradient / norms(gradient, "L2").clamp_min(1e-30)
        flat = gradient.flatten(1)
        top = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign()).view_as(gradient)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``norm(x_adv - x)`` of each example in float64, shape (N,)."""
        return norms(x_adv.double() - x.double(), self.norm).flatten()

    def _shrink(self, x_adv: Tensor, x: Tensor) -> Tensor:
        # float32 rounding can leave a projected point a few ulp outside: pull it in until float64 agrees
        for attempt in range(12):
            distance = self.distance(x_adv, x)
            outside = distance > self.eps
            if not bool(outside.any()):
                return x_adv
            # a perturbation of few ulp does not change by a factor near 1, so the slack grows
            factor = torch.where(outside, self.eps / distance * (1 - 2e-7 * 4**attempt), 1.0)
            factor = factor.view(-1, *[1] * (x.ndim - 1)).float()
            x_adv = torch.where(factor < 1, x + (x_adv - x) * factor, x_adv)
        return torch.where((self.distance(x_adv, x) > self.eps).view(-1, *[1] * (x.ndim - 1)), x, x_adv)


def norms(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each example of ``delta`` (N, ...), shaped (N, 1, ..., 1) to broadcast against it."""
    order = {"Linf": float("inf"), "L2": 2.0, "L1": 1.0}[norm]
    value = torch.linalg.vector_norm(delta.flatten(1), order, dim=1)
    return value.view(-1, *[1] * (delta.ndim - 1))


def parse_eps(text: str) -> float:
    """eps as the command line takes it: ``"8/255"`` or ``"0.03"``.

    >>> parse_eps("8/255") == 8 / 255
    True
    """
    numerator, slash, denominator = text.partition("/")
    try:
        eps = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        eps = float("nan")
    require(0 < eps < float("inf"), "eps", "a number above 0 such as 8/255 or 0.03", text)
    return eps


def format_eps(eps: float) -> str:
    """``8/255`` where eps is a whole number of grey levels, else four significant digits."""
    levels = eps * 255
    whole = abs(levels - round(levels)) < 1e-6 and 1 <= levels < 255
    return f"{round(levels)}/255" if whole else f"{eps:.4g}"


def check_images(x: Tensor, argument: str = "images") -> None:
    """Raise :class:`InputError` unless ``x`` holds float images (N, C, H, W) in [0, 1] without NaN."""
    require(x.ndim == 4 and x.numel() > 0, argument, "a tensor of shape (N, C, H, W)", tuple(x.shape))
    require(x.is_floating_point(), argument, "float pixels in [0, 1]", x.dtype)
    if not bool(torch.isfinite(x).all()):
        raise InputError(argument, "pixels in [0, 1]", "NaN or infinite values")
    low, high = x.min().item(), x.max().item()
    require(low >= 0 and high <= 1, argument, "pixels in [0, 1]", f"[{low:.4g}, {high:.4g}]")


def _project_l1(delta: Tensor, eps: float) -> Tensor:
    """Projection onto the L1 ball (Duchi et al., ICML 2008, Figure 1)."""
    flat = delta.flatten(1)
    magnitude = flat.abs()
    ordered = magnitude.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - eps
    count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
    support = (ordered * count > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = (excess.gather(1, support - 1) / support).clamp_min(0)
    return (flat.sign() * (magnitude - threshold).clamp_min(0)).view_as(delta)
