"""Contrastive losses of a built network, clean and under FGM, without one dense d x H product (I3 to I6).

With A = tau W^+ and everything written in the feature basis (M drops out: z -> M^T z, W -> U, and both the
noise and the L2 ball keep their shape), G = U U^T is d x d and

    s(z) = U sigma(U^T z, b)        t = tau^2 G^-2 s(z')        g(z, z') = s(z) . t
    dg/dz = U D U^T t               D = diag(1{abs(U^T z) >= b})

U has H m equal entries, so U^T z and U v are sums over lists. Samples go in blocks whose H x block matrices
stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.theory.sparse_coding.built import BuiltNetwork
from heirloom.theory.sparse_coding.gate_aware import bracket_loss
from heirloom.theory.sparse_coding.network import Scores

BLOCK = 48  # examples at a time: H x BLOCK floats stay in the cache


@dataclass(frozen=True)
class PairLosses:
    """Losses log(1 + exp(-y g)) of n similar (y = +1) and n dissimilar (y = -1) pairs, (n,) each."""

    similar_clean: Tensor
    similar_adversarial: Tensor
    dissimilar_clean: Tensor
    dissimilar_adversarial: Tensor


class SparseNetwork:
    """A :class:`BuiltNetwork` with what its contrastive losses need: G^-1, tau^2 G^-2 and the gate.

    Args:
        b: the intercept of every node, above 0.
        tau: the scale of A = tau W^+ (sqrt 5 in E.1).
    """

    def __init__(self, network: BuiltNetwork, b: float, tau: float) -> None:
        self.network, self.b = network, b
        d, joins = network.members.shape
        self._nodes_of = network.members.reshape(-1)
        self._starts = torch.arange(0, d * joins + 1, joins)
        # abs(v) >= b in float32 is abs(v) > the number before it, which hardshrink does in one pass
        bound = torch.tensor(b / network.strength)
        self._bound = torch.nextafter(bound, torch.tensor(0.0)).item()
        self.G_inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram(network)))
        self._tail = tau**2 * (self.G_inverse @ self.G_inverse)

    def pull(self, z: Tensor) -> Tensor:
        """U^T z / strength for columns z (d, n): (H, n)."""
        return functional.embedding_bag(
            self.network.joined, z, self.network.offsets, mode="sum", include_last_offset=True
        )

    def push(self, v: Tensor) -> Tensor:
        """U v for columns v (H, n): (d, n)."""
        sums = functional.embedding_bag(self._nodes_of, v, self._starts, mode="sum", include_last_offset=True)
        return sums.mul_(self.network.strength)

    def losses(
        self, z: Tensor, similar: Tensor, dissimilar: Tensor, eps: float, *, frozen: bool = False
    ) -> PairLosses:
        """Losses of the pairs (z, similar) and (z, dissimilar), rows (n, d) in the feature basis.

        FGM moves z by eps along the sign of y times dg/dz; the partner stays. The gates are evaluated anew at
        the attacked point, or kept as they were with ``frozen``.
        """
        losses: list[list[Tensor]] = [[], [], [], []]
        for first in range(0, len(z), BLOCK):
            columns = [view[first : first + BLOCK].T.contiguous() for view in (z, similar, dissimilar)]
            v = self.pull(columns[0])
            for pair, y in enumerate((1, -1)):
                g, attacked = self._scores(columns[0], v, columns[1 + pair], -y * eps, frozen)
                losses[2 * pair].append(functional.softplus(-y * g))
                losses[2 * pair + 1].append(functional.softplus(-y * attacked))
        return PairLosses(*map(torch.cat, losses))

    def _scores(
        self, z: Tensor, v: Tensor, partner: Tensor, step: float, frozen: bool
    ) -> tuple[Tensor, Tensor]:
        """g, clean and after a step of that length along its gradient, (n,) each; columns are examples."""
        u = self.network.strength  # pull leaves this factor out: once for v, once for q
        t = (self._tail @ self.push(self._gated(self.pull(partner)))).mul_(u)
        q = self.pull(t)
        on = self._on(q, v)  # D q
        gradient = self.push(on)
        moved = z + gradient * (step / torch.linalg.vector_norm(gradient, dim=0).clamp_min(1e-30))
        after = self.pull(moved)
        attacked = (after.mul_(on) if frozen else self._gated(after).mul_(q)).sum(0)
        return on.mul_(v).sum(0).mul_(u**2), attacked.mul_(u**2)

    def output_weights(self, partner: Tensor) -> Tensor:
        """a (n, H) with g(z, z') = sum_h a_h sigma(z^T U_h, b) for the partners z' (n, d)."""
        u = self.network.strength
        t = (self._tail @ self.push(self._gated(self.pull(partner.T.contiguous())))).mul_(u)
        return self.pull(t).mul_(u).T

    def _gated(self, v: Tensor) -> Tensor:
        """sigma(v, b) in place, v from :meth:`pull`."""
        return torch.ops.aten.hardshrink.out(v, self._bound, out=v)

    def _on(self, q: Tensor, v: Tensor) -> Tensor:
        """q where abs(v) >= b, else 0: what hardshrink's derivative does in one pass."""
        return torch.ops.aten.hardshrink_backward(q, v, self._bound)

    def couplings(self, x: Tensor) -> tuple[float, float, float]:
        """gamma_1, gamma_2 and gamma_2 without its diagonal for one x (d,), signed averages (Theorem 5.2).

        The entries of K = U D U^T G^-1, D on where a node holds an active feature: gamma_1 averages i
        inactive, j active; gamma_2 both inactive, i = j included (which Table 8 needs) or left out (which
        the text prints).
        """
        active = (x != 0).double()[:, None]
        inactive = 1 - active
        D = (self.pull(active) > 0).double()
        G_inverse, u = self.G_inverse.double(), self.network.strength
        column = self.push(D * self.pull(inactive)).mul_(u)
        sums = G_inverse @ column  # sums[j] = sum over inactive i of K[i, j]
        off, on = float(inactive.sum()), float(active.sum())
        inside = float((inactive * sums).sum())
        diagonal = float((self._masked_gram(D[:, 0]) * G_inverse).sum(1) @ inactive[:, 0])
        gamma_1 = float((active * sums).sum()) / max(off * on, 1)
        return gamma_1, inside / off**2, (inside - diagonal) / (off * (off - 1))

    def coupling_matrix(self, x: Tensor) -> Tensor:
        """U diag(D) U^T (U U^T)^-1 (d, d), D on where a node holds an active feature of x (d,)."""
        D = (self.pull((x != 0).double()[:, None]) > 0).double()
        return self._masked_gram(D[:, 0]) @ self.G_inverse.double()

    def _masked_gram(self, D: Tensor) -> Tensor:
        return gram(self.network, D).double()


def gate_aware_increments(
    sparse: SparseNetwork,
    views: tuple[Tensor, Tensor, Tensor],
    eps: float,
    points: int,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """What the gate-aware attack adds to the mean loss of similar and of dissimilar pairs, with its bound and
    that of the linear map with every gate open, on the first ``points`` rows of ``views``; with a ``generator``, from
    one random start as well."""
    u, W, found = sparse.network.strength, sparse.network.dense(), {}
    z, *partners = (view[:points] for view in views)
    for name, partner, y in (("similar", partners[0], 1.0), ("dissimilar", partners[1], -1.0)):
        a = sparse.output_weights(partner)
        scores = Scores(
            lambda rows: sparse.pull(rows.T.contiguous()).mul_(u).T,
            lambda v: sparse.push(v.T.contiguous()).T,
            torch.tensor(sparse.b),
            a,
        )
        labels = torch.full((len(z),), y)
        adds, limit = bracket_loss(
            "contrastive",
            scores,
            (z, labels),
            eps,
            W,
            restarts=int(generator is not None),
            dictionary=torch.eye(z.shape[1]),
            generator=generator,
        ).gaps()
        theta = a @ W.T
        g = (z * theta).sum(1)
        opened = functional.softplus(-y * g + eps * torch.linalg.vector_norm(theta, dim=1))
        found[f"{name}_gate_aware"], found[f"{name}_linear"] = (
            adds,
            float((opened - functional.softplus(-y * g)).mean()),
        )
        if limit is not None:
            found[f"{name}_bound"] = limit
    return found


def gram(network: BuiltNetwork, D: Tensor | None = None) -> Tensor:
    """G = U diag(D) U^T (d, d), D = 1 where it is None; SciPy's sparse product, for most pairs never meet."""
    from scipy.sparse import csr_array

    shape = (network.nodes, len(network.members))
    ones = torch.ones(len(network.joined))
    Ut = csr_array((ones.numpy(), network.joined.numpy(), network.offsets.numpy()), shape)
    left = Ut if D is None else Ut[D.nonzero().flatten().numpy()]
    return torch.from_numpy((left.T @ left).toarray()) * network.strength**2
