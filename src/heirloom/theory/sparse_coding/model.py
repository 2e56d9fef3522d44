"""The sparse coding model Z = M X + xi (Xing et al., "Better Representations via Adversarial Training in
Pre-Training", AISTATS 2024, Sections 3.1, 5.1 and 5.3).

Rows are examples: X, Z are (n, d). The dictionary M is (d, d) and unitary; column i is feature i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from heirloom.runtime.errors import require

Noise = Literal["zeta^2/d", "zeta^2"]


@dataclass(frozen=True)
class SparseCoding:
    """The distribution of X and of the noise (Assumption 3.1, with the X of Section 5.3).

    Args:
        d: number of features, and of observed coordinates; at least 2.
        k: expected number of active (non-zero) features, above 0 and below d.
        zeta: noise level, at least 0. The noise has the expected norm zeta with ``noise="zeta^2/d"``.
        noise: the variance of each coordinate of xi. Assumption 3.1 has zeta^2/d, which Figure 4 needs;
            Section 5.3 prints zeta^2, under which the noise alone activates the nodes.
    """

    d: int = 1000
    k: float = 10
    zeta: float = 0.005
    noise: Noise = "zeta^2/d"

    def __post_init__(self) -> None:
        require(self.d >= 2, "d", "at least 2", self.d)
        require(0 < self.k < self.d, "k", f"above 0 and below d = {self.d}", self.k)
        require(0 <= self.zeta < float("inf"), "zeta", "at least 0", self.zeta)
        require(self.noise in get_args(Noise), "noise", f"one of {', '.join(get_args(Noise))}", self.noise)

    @property
    def noise_sd(self) -> float:
        """The standard deviation of one coordinate of xi."""
        return self.zeta / self.d**0.5 if self.noise == "zeta^2/d" else self.zeta

    def features(self, n: int, generator: torch.Generator) -> Tensor:
        """X (n, d): each X_i is 0, or with probability k/d +-min(1, (1 + abs(N(0, 1))) / sqrt k)."""
        require(n >= 1, "n", "at least 1", n)
        # only the active entries need a magnitude: 1 % of the draws of a dense formulation
        uniform = torch.rand(n, self.d, generator=generator)
        x = torch.zeros(n, self.d)
        row, column = (uniform < self.k / self.d).nonzero(as_tuple=True)
        magnitude = (1 + torch.randn(len(row), generator=generator).abs()) / self.k**0.5
        sign = torch.randint(0, 2, (len(row),), generator=generator) * 2 - 1
        x[row, column] = sign * magnitude.clamp_max(1)
        return x

    def xi(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise (n, d)."""
        return torch.randn(n, self.d, generator=generator).mul_(self.noise_sd)

    def observe(self, x: Tensor, M: Tensor | None, generator: torch.Generator) -> Tensor:
        """Z = M X + xi (n, d); ``M`` None stands for the identity, that is, the feature basis."""
        return (x if M is None else x @ M.T) + self.xi(len(x), generator)

    def views(self, x: Tensor, M: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Z, its similar partner Z'(1) and its dissimilar partner Z'(-1), (n, d) each (Section 5.1).

        The similar partner shares x; the dissimilar one is the x of another example, by a random permutation
        which keeps its fixed points, as independent draws from n examples would. The noise of every view is
        its own.
        """
        other = x[torch.randperm(len(x), generator=generator)]
        z, similar, dissimilar = (self.observe(source, M, generator) for source in (x, x, other))
        return z, similar, dissimilar


def random_dictionary(d: int, generator: torch.Generator) -> Tensor:
    """A unitary M (d, d), uniform over the orthogonal group (Haar): QR with the signs of R's diagonal."""
    Q, R = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))
    return (Q * R.diagonal().sign()).float()


def regression_targets(x: Tensor, theta: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Y = theta^T X + N(0, sigma^2), shape (n,)."""
    return x @ theta + sigma * torch.randn(len(x), generator=generator)


def class_targets(x: Tensor, theta: Tensor, generator: torch.Generator) -> Tensor:
    """Y = +1 with probability 1 / (1 + exp(-theta^T X)), else -1; float, shape (n,).

    The paper prints exp(+theta^T X), with which a positive theta would mean the class 0; only the names of
    the two classes change.
    """
    return torch.where(torch.rand(len(x), generator=generator) < torch.sigmoid(x @ theta), 1.0, -1.0)
