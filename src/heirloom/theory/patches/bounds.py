"""Where robust training on patch data can succeed: the inequalities, derived in ``docs/patches.md``.

All arguments are numbers or arrays that broadcast; q is the power of the smoothed ReLU in its polynomial
region. P counts all patches, J_R of them robust; eps bounds every coordinate of every patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Regime:
    """The three conditions under which Theorems 4.3 and 4.4 can both hold, as ratios that must exceed 1.

    dominance: (P - J_R) beta^q / (J_R alpha^q). Above 1 the non-robust features grow faster from a small
        start, so that standard training learns them.
    vulnerability: P eps^q / ((P - J_R) (beta - eps)_+^q). At least 1 where a network of non-robust features
        alone can be attacked.
    slack: J_R (alpha - eps)_+^q / (P eps^q). Above 1 where a class-symmetric network of robust features alone
        withstands every attack, in the polynomial region.
    """

    dominance: Floats
    vulnerability: Floats
    slack: Floats

    @property
    def possible(self) -> Bools:
        """All three hold: robust training is needed, and it can succeed."""
        return np.asarray((self.dominance > 1) & (self.vulnerability >= 1) & (self.slack > 1))


def regime(
    alpha: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike,
    patches: ArrayLike,
    robust_patches: ArrayLike,
    *,
    q: int = 3,
) -> Regime:
    """The three ratios at each setting."""
    a, b, e, p, j = (np.asarray(v, dtype=np.float64) for v in (alpha, beta, eps, patches, robust_patches))
    with np.errstate(divide="ignore"):
        vulnerability = p * e**q / ((p - j) * np.maximum(b - e, 0) ** q)
    return Regime(
        np.asarray((p - j) * b**q / (j * a**q)),
        np.asarray(vulnerability),
        np.asarray(j * np.maximum(a - e, 0) ** q / (p * e**q)),
    )


def largest_robust_eps(alpha: float, patches: int, robust_patches: int, *, q: int = 3) -> float:
    """The eps at which ``slack`` is 1: alpha / (1 + (P / J_R)^(1/q))."""
    return float(alpha / (1 + (patches / robust_patches) ** (1 / q)))


def smoothed(z: ArrayLike, rho: float, q: int = 3) -> Floats:
    """The smoothed ReLU on numbers, written as its definition."""
    z = np.asarray(z, dtype=np.float64)
    polynomial = np.maximum(z, 0) ** q / (q * rho ** (q - 1))
    return np.where(z > rho, z - (1 - 1 / q) * rho, polynomial)


def robust_only_margin(
    gamma: ArrayLike, alpha: float, eps: float, patches: int, robust_patches: int, *, rho: float, q: int = 3
) -> Floats:
    """F_y - F_j, a filter each, under the strongest attack on the network of weights gamma u_i (Prop. 3.2).

    The attack takes eps from u_y on the robust patches and adds eps u_j to every patch:
    J_R s(gamma (alpha - eps)) - P s(gamma eps). Nothing stronger exists: on each patch both terms are at
    their extremes. Positive means robust. Linear growth of s beyond rho makes it negative at large gamma,
    even where it is positive at small gamma.
    """
    g = np.asarray(gamma, dtype=np.float64)
    kept = robust_patches * smoothed(g * (alpha - eps), rho, q)
    return np.asarray(kept - patches * smoothed(g * eps, rho, q))


def non_robust_only_margin(
    gamma: ArrayLike, beta: float, eps: float, patches: int, robust_patches: int, *, rho: float, q: int = 3
) -> Floats:
    """The same for weights gamma v_i (Prop. 3.1): (P - J_R) s(gamma (beta - eps)) - P s(gamma eps)."""
    g = np.asarray(gamma, dtype=np.float64)
    kept = (patches - robust_patches) * smoothed(g * (beta - eps), rho, q)
    return np.asarray(kept - patches * smoothed(g * eps, rho, q))


@dataclass(frozen=True)
class PairSums:
    """What decides between classes y and j for filters gamma_ir u_i of any norms, S_i(z) = sum_r s(gamma_ir z).

    kept_y, kept_j: J_R S_i(alpha - eps), what an attack leaves of a class's own score; raised_y, raised_j:
    P S_i(eps), what it can raise the class's score to on a point of the other.
    """

    kept_y: float
    kept_j: float
    raised_y: float
    raised_j: float

    @property
    def robust_for_both(self) -> bool:
        """Points of y withstand j and points of j withstand y."""
        return self.kept_y > self.raised_j and self.kept_j > self.raised_y


def pair_sums(
    norms: tuple[ArrayLike, ArrayLike],
    alpha: float,
    eps: float,
    patches: int,
    robust_patches: int,
    *,
    rho: float,
    q: int = 3,
) -> PairSums:
    """Both classes' sums for filter norms gamma_yr, gamma_jr (two vectors of any lengths, at least 0)."""
    kept, raised = (
        [count * float(smoothed(np.asarray(g, dtype=np.float64) * z, rho, q).sum()) for g in norms]
        for count, z in ((robust_patches, alpha - eps), (patches, eps))
    )
    return PairSums(kept[0], kept[1], raised[0], raised[1])
