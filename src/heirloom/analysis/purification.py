"""How far each node of a layer has settled on one feature: feature purification (Allen-Zhu and Li 2020; Xing
et al., AISTATS 2024, Section 4). Serves any linear or convolutional layer: a weight in, numbers out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import require

Features = Literal["entries", "channels"]


@dataclass(frozen=True)
class NodePurity:
    """Measures of each node, all (..., nodes). See :class:`Purification` for what they mean."""

    top_1: Tensor
    hoyer: Tensor
    count: Tensor
    pure: Tensor
    alignment: Tensor
    energy: Tensor

    def weighted(self) -> dict[str, Tensor]:
        """Means over nodes weighted by squared norm, (...,) each; ``nodes`` counts those above zero."""
        weight = self.energy / self.energy.sum(-1, keepdim=True).clamp_min(1e-300)
        names = ("top_1", "hoyer", "count", "pure", "alignment")
        means = {name: (getattr(self, name) * weight).sum(-1) for name in names}
        return means | {"nodes": (self.energy > 0).sum(-1)}


@dataclass(frozen=True)
class Purification:
    """Means over nodes, weighted by squared node norm.

    Args:
        top_1: the largest feature's share of the node's energy (squared strength), 1/p to 1.
        hoyer: Hoyer's sparsity (sqrt p - L1 / L2) / (sqrt p - 1), 0 (all equal) to 1 (one feature).
        count: features above ``fraction`` of the node's largest, 1 to p.
        pure: share of nodes whose top_1 is at least ``pure_above``, 0 to 1.
        alignment: largest absolute cosine between the node and a feature's direction, 0 to 1.
        nodes: nodes whose weight is not zero.
    """

    top_1: float
    hoyer: float
    count: float
    pure: float
    alignment: float
    nodes: int

    def row(self) -> dict[str, float]:
        return asdict(self)


def purification(
    layer: Tensor | nn.Module,
    dictionary: Tensor | None = None,
    *,
    features: Features = "entries",
    fraction: float = 0.3,
    pure_above: float = 0.9,
) -> Purification:
    """Measure one layer.

    Args:
        layer: a weight (nodes, inputs, ...) as ``nn.Linear`` and ``nn.Conv*d`` keep it, or such a module
            (transposed convolutions too); each filter of a convolution is a node.
        dictionary: (inputs * ..., p), a feature's direction in each column (M in the paper); by default the
            inputs themselves are the features. Strengths are the inner products with unit columns.
        features: ``channels`` adds up the energy of each input channel over the kernel (colours of a first
            layer); it goes without a dictionary.
    """
    weight = _weight(layer)
    require(features in ("entries", "channels"), "features", "entries or channels", features)
    if features == "channels":
        require(dictionary is None, "dictionary", "left out with features='channels'", "a tensor")
        strengths = weight.flatten(2).square().sum(2).sqrt() if weight.ndim > 2 else weight
    else:
        strengths = in_features(weight.flatten(1), dictionary)
    energy = weight.double().flatten(1).square().sum(1)
    measures = node_purity(strengths, energy, fraction=fraction, pure_above=pure_above).weighted()
    numbers = {name: float(value) for name, value in measures.items() if name != "nodes"}
    return Purification(**numbers, nodes=int(measures["nodes"]))


def node_purity(
    strengths: Tensor, energy: Tensor | None = None, *, fraction: float = 0.3, pure_above: float = 0.9
) -> NodePurity:
    """Measures of each node from the strengths (..., nodes, p) of the p features in it (U^T in the paper).

    ``energy`` (..., nodes) is each node's squared norm where the features are not orthonormal.
    """
    require(strengths.ndim >= 2, "strengths", "of shape (..., nodes, p)", tuple(strengths.shape))
    p = strengths.shape[-1]
    require(p >= 2, "strengths", "of at least 2 features", p)
    require(0 < fraction < 1, "fraction", "between 0 and 1", fraction)
    require(0 < pure_above <= 1, "pure_above", "above 0, at most 1", pure_above)
    size = strengths.detach().double().abs()
    norm, largest = size.square().sum(-1).sqrt().clamp_min(1e-300), size.amax(-1)
    energy = norm.square() if energy is None else energy.double()
    alignment = (largest / energy.sqrt().clamp_min(1e-300)).clamp_max(1)
    top_1 = (largest / norm).square()
    hoyer = (p**0.5 - size.sum(-1) / norm) / (p**0.5 - 1)
    count = ((size > fraction * largest[..., None]) & (size > 0)).sum(-1).double()
    return NodePurity(top_1, hoyer, count, (top_1 >= pure_above).double(), alignment, energy)


def in_features(weight: Tensor, dictionary: Tensor | None) -> Tensor:
    """Strengths (..., nodes, p) of the features in the nodes (..., nodes, inputs): U^T = W^T M.

    Columns of ``dictionary`` (..., inputs, p) are scaled to length 1; with an orthonormal one the energy of a
    node is that of its strengths.
    """
    if dictionary is None:
        return weight
    inputs = weight.shape[-1]
    require(dictionary.shape[-2] == inputs, "dictionary", f"of {inputs} rows", tuple(dictionary.shape))
    unit = dictionary.double() / torch.linalg.vector_norm(
        dictionary.double(), dim=-2, keepdim=True
    ).clamp_min(1e-300)
    return weight.double() @ unit


def _weight(layer: Tensor | nn.Module) -> Tensor:
    weight = layer if isinstance(layer, Tensor) else getattr(layer, "weight", None)
    kind = type(layer).__name__
    require(isinstance(weight, Tensor), "layer", "a weight or a linear or convolutional module", kind)
    assert isinstance(weight, Tensor)
    require(weight.ndim >= 2, "layer", "a weight of shape (nodes, inputs, ...)", tuple(weight.shape))
    require(bool(torch.isfinite(weight).all()), "layer", "finite weights", "NaN or infinity")
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        require(layer.groups == 1, "layer", "a transposed convolution of one group", layer.groups)
        weight = weight.transpose(0, 1)  # it keeps (inputs, nodes, ...)
    return weight.detach()
