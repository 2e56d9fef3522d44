"""How much a network has learned of each kind of feature.

Li and Li, arXiv 2410.08503: feature-learning accuracy (Definition 4.1) for any model and any data that
represent one kind of feature, and the normalised weight-feature correlations of a two-layer network
(Section 6.1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import check_labels, misclassified
from heirloom.runtime.errors import require

Data = tuple[Tensor, Tensor]


def feature_learned(
    model: nn.Module, representative: Data, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> Tensor:
    """True (N,) where the model gives a representative its feature's class.

    Args:
        model: any classifier, measured in eval mode and left as it was.
        representative: data (N, ...) in which one kind of feature alone is present, and the labels (N,) to
            which these features belong. On patch data: ``PatchSample.representative``; on images: data sets
            built by inverting the representations of a robust or a standard network.

    A tie counts as an error, so a model to which the feature means nothing scores 0, not 1 / classes.
    """
    x, y = representative
    require(len(x) == len(y) and len(x) > 0, "labels", f"as many as data ({len(x)}), at least 1", len(y))
    was_training = model.training
    model = model.to(device).eval()
    correct = []
    try:
        with torch.no_grad():
            for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
                logits = model(images.to(device)).float()
                check_labels(labels, logits.shape[1])
                correct.append(~misclassified(logits, labels.to(device)).cpu())
    finally:
        model.train(was_training)
    return torch.cat(correct)


def feature_learning_accuracy(
    model: nn.Module, representative: Data, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> float:
    """The share of :func:`feature_learned` (Definition 4.1)."""
    learned = feature_learned(model, representative, batch_size=batch_size, device=device)
    return float(learned.double().mean())


def feature_correlation(weight: Tensor, features: Tensor) -> Tensor:
    """The normalised weight-feature correlation of S networks, in [0, 1].

    The share of a class's filter weight that points along its own feature,
    |(<w_ir, f_i>_+)_r| / |W_i| (Euclidean norms over the filters r), averaged over the classes i. The
    paper's own normalisation is lost; this one weighs every filter by its size, so that a filter that stayed
    small cannot stand for the class.

    Args:
        weight: (S, k, m, d). features: (k, d) of unit length.
    """
    along = torch.einsum("skmd,kd->skm", weight, features.to(weight)).clamp_min(0)
    return (along.norm(dim=-1) / weight.flatten(2).norm(dim=-1)).mean(-1)
