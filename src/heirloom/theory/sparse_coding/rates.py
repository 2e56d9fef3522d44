"""What FGM sees of built networks with U 1 = theta_0 = 1, in closed form while no gate flips (Xing et al., AISTATS
2024, proofs of Theorems A.1 and A.2).

g = a^T diag(gates) U^T is the gradient of f. Features are active independently with probability k / d, as in
Section 5.3, and a node is on when one of its features is active.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.settings import Loss


@dataclass(frozen=True)
class Seen:
    """Means of |g| and of |g|^2 over inputs."""

    length: float
    square: float

    @classmethod
    def of(cls, lengths: Tensor) -> Seen:
        """From |g| (n,) itself."""
        lengths = lengths.double()
        return cls(float(lengths.mean()), float(lengths.square().mean()))

    def added(self, loss: Loss, eps: float, sigma: float) -> float:
        """What a step of eps adds to the mean loss: eps |g| (absolute), 2 eps |r| |g| + (eps |g|)^2 (square), the
        residual r being N(0, sigma^2) whatever x is."""
        require(loss in ("absolute", "square"), "loss", "absolute or square", loss)
        if loss == "absolute":
            return eps * self.length
        return 2 * eps * sigma * math.sqrt(2 / math.pi) * self.length + eps**2 * self.square


def seen_by_groups(d: int, k: float, m: int) -> Seen:
    """Grouped nodes, the construction of A.1's proof: |g|^2 is m times the number of groups with an active feature."""
    return _mean(d // m, 1 - (1 - k / d) ** m, lambda groups: m * groups)


def seen_by_chance(d: int, k: float, m: int, whole: float, each: float) -> Seen:
    """Nodes of m features drawn at random, or of one: |g|^2 = K + sum over inactive i of s_i^2.

    s_i is the share of feature i's strength that lies in nodes which the K active features turn on. Each of its t_i
    nodes (of r_i) that hold others too is on with probability p = 1 - C(d - 1 - K, m - 1) / C(d - 1, m - 1), so that
    E s_i^2 = (t_i / r_i)^2 p^2 + t_i / r_i^2 p (1 - p).

    Args:
        whole, each: means over the features of (t_i / r_i)^2 and of t_i / r_i^2: 1 and d / (H m) where all nodes hold
            m features. The proof of A.2 has p^2 = 0, every leaked entry another feature, and so the least.
    """

    def square(active: Tensor) -> Tensor:
        p = -torch.expm1(_log_choose(d - 1 - active, m - 1) - _log_choose(torch.tensor(float(d - 1)), m - 1))
        return active + (d - active) * (whole * p.square() + each * p * (1 - p))

    return _mean(d, k / d, square)


def psi(d: int, k: float, nodes: int, m: int) -> float:
    """Equation (14): H m^3 k^3 log^2 k / d^2 + sqrt(k / d)."""
    return nodes * m**3 * k**3 * math.log(k) ** 2 / d**2 + math.sqrt(k / d)


def _mean(count: int, share: float, square: Callable[[Tensor], Tensor]) -> Seen:
    """Over N ~ Binomial(count, share), |g|^2 = square(N); all but 1e-12 of it lies in the range that is summed."""
    from scipy.stats import binom

    numbers = torch.arange(int(binom.isf(1e-12, count, share)) + 1, dtype=torch.float64)
    weights = torch.from_numpy(binom.pmf(numbers.numpy(), count, share))
    values = square(numbers).clamp_min(0)
    return Seen(float((weights * values.sqrt()).sum()), float((weights * values).sum()))


def _log_choose(n: Tensor, r: int) -> Tensor:
    """log of n choose r without r!, which the ratio above cancels; minus infinity where n < r."""
    falls = n[..., None].double() - torch.arange(r, dtype=torch.float64)
    return falls.clamp_min(0).log().sum(-1)
