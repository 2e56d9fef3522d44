"""What the attacker may do: a norm ball of radius eps around each image, inside the pixel range [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import get_args

import torch
from torch import Tensor

from heirloom.runtime.choices import Norm
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.kinds import plain
from heirloom.threat.geometry import Geometry
from heirloom.threat.l1 import L1
from heirloom.threat.l2 import L2
from heirloom.threat.linf import Linf

NORMS: tuple[str, ...] = get_args(Norm)
GEOMETRIES: dict[Norm, Geometry] = {"Linf": Linf(), "L2": L2(), "L1": L1()}


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
        is_number = isinstance(self.eps, Real) and not isinstance(self.eps, bool)
        wanted = "a number above 0 in pixel units (8/255, say)"
        require(is_number and 0 < self.eps < float("inf"), "eps", wanted, self.eps)
        object.__setattr__(self, "eps", plain(self.eps))

    def __str__(self) -> str:
        return f"{self.norm} {format_eps(self.eps)}"

    @property
    def geometry(self) -> Geometry:
        """Lengths, projections and steps of this norm."""
        return GEOMETRIES[self.norm]

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
        return self.geometry.project(x_adv.to(x.dtype), x, self.eps)

    def project_delta(self, delta: Tensor) -> Tensor:
        """The point of the norm ball alone (no pixel range) nearest to ``delta`` (N, ...)."""
        return self.geometry.onto_ball(delta, self.eps)

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random point of the threat set for each image.

        Linf: uniform in the ball. L2 and L1: a uniform (Gaussian, Laplace) direction and a radius uniform
        in [0, eps]. The draw is made on the generator's device, so a CPU generator gives the same start
        on every device.
        """
        return self.project(x + self.geometry.random_delta(x, self.eps, generator), x)

    def ascent_direction(self, gradient: Tensor) -> Tensor:
        """The step of unit norm along which a linear function with this gradient grows most.

        Linf: the sign; L2: the normalised gradient; L1: the sign of the largest entry alone. A zero
        gradient gives a zero step.
        """
        return self.geometry.steepest(gradient)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """``norm(x_adv - x)`` of each example in float64, shape (N,)."""
        return self.geometry.length(x_adv.double() - x.double()).flatten()


def norms(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each example of ``delta`` (N, ...), shaped (N, 1, ..., 1) to broadcast against it."""
    return GEOMETRIES[norm].length(delta)


def parse_eps(text: str, argument: str = "eps") -> float:
    """eps as the command line takes it: ``"8/255"`` or ``"0.03"``.

    >>> parse_eps("8/255") == 8 / 255
    True
    """
    numerator, slash, denominator = text.partition("/")
    try:
        eps = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        eps = float("nan")
    require(0 < eps < float("inf"), argument, "a number above 0 such as 8/255 or 0.03", text)
    return eps


def parse_threat(norm: str, eps: str, argument: str = "eps") -> Threat:
    """The threat as the command line takes it; an Linf radius above all pixels' range is a slip.

    Raises:
        InputError: Linf and eps above 1, which means every image whatever: 8 where 8/255 was meant.
    """
    threat = Threat(norm, parse_eps(eps, argument))  # type: ignore[arg-type]
    meant = f"{eps}/255" if threat.eps <= 255 and "/" not in eps else "8/255"
    allowed = f"at most 1 for Linf, since pixels lie in [0, 1]: {meant}, say"
    require(norm != "Linf" or threat.eps <= 1, argument, allowed, eps)
    return threat


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
