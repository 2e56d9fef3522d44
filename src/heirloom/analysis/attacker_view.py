"""What an attacker sees beyond what an image shows: Lemma 4.2's ratio on any network (Xing et al., AISTATS 2024).

The lemma compares |a^T diag(gates) U^T|, the gradient that an L2 attacker climbs, with |theta_X|, the part of it
along the features that the input holds. On a network with orthonormal features, and on images with a learned
dictionary, the share of the margin's gradient outside the span of the active atoms is one number:

    off_span(x) = 1 - |P_X(x) g|^2 / |g|^2,     g = d margin / d x,

0 for a network of pure nodes, whose gradient lies in what is active, and near 1 - |X| / p for one whose gradient
knows nothing of it. For the theory's networks 1 - off_span = (lower / middle)^2 of equation (3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import margin
from heirloom.runtime.errors import require

ATOMS = 8


@dataclass(frozen=True)
class AttackerView:
    """For n images: ``off_span`` (n,) in [0, 1]; ``margin`` (n,), logit of the label less the largest other;
    ``reach`` (n,), margin over the L1 norm of its gradient: to first order the Linf radius that flips the label,
    the simplest measure there is and so the null to beat.

    Where the gradient is exactly 0, off_span is 0 and reach infinite.
    """

    off_span: Tensor
    margin: Tensor
    reach: Tensor


def attacker_view(
    model: nn.Module, images: tuple[Tensor, Tensor], dictionary: Tensor, *, atoms: int = ATOMS
) -> AttackerView:
    """Lemma 4.2's ratio for each image.

    Args:
        model: a classifier of pixels in [0, 1] to logits, in eval mode.
        images: x (n, ...) and labels y (n,).
        dictionary: (p, inputs), an atom in each row, of any lengths; M^T in the theory.
        atoms: how many atoms an image's sparse code may use; orthogonal matching pursuit picks them.
    """
    x, y = images
    inputs = x[0].numel()
    require(
        dictionary.ndim == 2 and dictionary.shape[1] == inputs,
        "dictionary",
        f"of shape (p, {inputs})",
        tuple(dictionary.shape),
    )
    require(1 <= atoms <= min(dictionary.shape), "atoms", f"from 1 to {min(dictionary.shape)}", atoms)
    gradient, value, _ = input_gradient(model, x, y, margin)
    flat, values = gradient.flatten(1).double(), -value.double()
    length = flat.square().sum(1)
    inside = _projected(flat, active_atoms(x.flatten(1), dictionary, atoms), dictionary)
    share = inside / length.clamp_min(1e-300)
    off = torch.where(length > 0, (1 - share).clamp(0, 1), torch.zeros_like(share))
    return AttackerView(off, values, values / flat.abs().sum(1))


def active_atoms(x: Tensor, dictionary: Tensor, atoms: int) -> Tensor:
    """The atoms of each image's sparse code (n, atoms), by orthogonal matching pursuit on x (n, inputs).

    Once nothing is left of an image its last atom is repeated.
    """
    unit = _unit(dictionary)
    left, picked = x.double(), torch.empty(len(x), 0, dtype=torch.long)
    for _ in range(atoms):
        fit = (left @ unit.T).abs()
        if picked.shape[1]:
            fit = fit.scatter(1, picked, -1.0)
        best, index = fit.max(1, keepdim=True)
        if picked.shape[1]:
            index = torch.where(best > 1e-9, index, picked[:, -1:])
        picked = torch.cat([picked, index], 1)
        left = x.double() - _onto(x.double(), unit[picked])
    return picked


def _projected(g: Tensor, picked: Tensor, dictionary: Tensor) -> Tensor:
    """|P g|^2 (n,) on the span of each image's atoms."""
    return _onto(g, _unit(dictionary)[picked]).square().sum(1)


def _onto(v: Tensor, basis: Tensor) -> Tensor:
    """v (n, inputs) projected onto the rows of basis (n, atoms, inputs), which may repeat."""
    solved = torch.linalg.pinv(basis.mT, rtol=1e-9) @ v[..., None]
    return (basis.mT @ solved)[..., 0]


def _unit(dictionary: Tensor) -> Tensor:
    atoms = dictionary.double()
    return atoms / torch.linalg.vector_norm(atoms, dim=1, keepdim=True).clamp_min(1e-300)
