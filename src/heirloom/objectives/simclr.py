"""NT-Xent, the contrastive loss of SimCLR.

Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020, equation 1; here for two or more views, as RoCL (Kim, Tack and Hwang, NeurIPS 2020) extends it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.runtime.errors import require


def nt_xent(
    views: Sequence[Tensor], *, temperature: float = 0.5, detach_right_factor: bool = False
) -> Tensor:
    """The normalised temperature-scaled cross-entropy over all ordered pairs of views.

    Row i of every view belongs to the same image. For V views of N images each of the V N projections is
    compared with the V N - 1 others; the V - 1 others of the same image are positives, one at a time, the
    denominator holding all others. For two views this is SimCLR's equation 1; the sum over ordered pairs is
    divided by V N (so three views weigh twice two), as RoCL's equation 4 with its code's normalisation.

    Args:
        views: tensors (N, D), any scale (cosine similarity is used).
        detach_right_factor: the quirk of RoCL's code, whose similarity matrix is ``z @ z.detach().T``: each
            projection moves only as the anchor, never as another one's positive or negative.

    Returns:
        a scalar; log(V N - 1) (V - 1) where all projections are equal.
    """
    logits = similarity(views, temperature, detach_right_factor)
    total, n = len(logits), len(views[0])
    log_share = functional.log_softmax(logits, dim=1)
    image = torch.arange(total, device=logits.device) % n
    positive = (image[:, None] == image[None, :]) & ~torch.eye(total, dtype=torch.bool, device=logits.device)
    return -log_share[positive].sum() / total


def nt_xent_each(
    view: Tensor, other: Tensor, *, temperature: float = 0.5, detach_right_factor: bool = False
) -> Tensor:
    """Two-view NT-Xent split over the images, shape (N,): its mean is :func:`nt_xent`.

    What RoCL's attack maximises. The values are coupled (every image is a negative of every other), so an
    attack has to ascend their sum.
    """
    log_share = functional.log_softmax(similarity([view, other], temperature, detach_right_factor), dim=1)
    n = len(view)
    return -(log_share[:n, n:].diagonal() + log_share[n:, :n].diagonal()) / 2


def similarity(views: Sequence[Tensor], temperature: float, detach_right_factor: bool) -> Tensor:
    """Cosine similarities over ``temperature`` of all projections (V N, V N), -inf on the diagonal."""
    require(len(views) >= 2, "views", "two or more tensors (N, D)", len(views))
    shapes = {tuple(view.shape) for view in views}
    require(len(shapes) == 1, "views", "tensors of one shape (N, D)", sorted(shapes))
    require(temperature > 0, "temperature", "a number above 0", temperature)
    z = functional.normalize(torch.cat(list(views)).float(), dim=1)
    logits = z @ (z.detach() if detach_right_factor else z).T / temperature
    return logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
