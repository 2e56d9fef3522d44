"""RoCL: adversarial contrastive learning without labels.

Kim, Tack and Hwang, "Adversarial Self-Supervised Contrastive Learning", NeurIPS 2020.
"""

from __future__ import annotations

from torch import Tensor

from heirloom.objectives.simclr import nt_xent


def rocl(
    first: Tensor,
    second: Tensor,
    adversarial: Tensor,
    *,
    temperature: float = 0.5,
    regulariser_weight: float = 1 / 256,
    detach_right_factor: bool = False,
) -> Tensor:
    """Three-view NT-Xent plus a weighted two-view NT-Xent of (adversarial, second view) (equation 6).

    Args:
        first, second: projections (N, D) of two augmentations of the same images.
        adversarial: projections (N, D) of the first view after an attack against the second.
        regulariser_weight: 1/256 in the authors' code.
        detach_right_factor: see :func:`heirloom.objectives.simclr.nt_xent`; their code does it.
    """
    options = {"temperature": temperature, "detach_right_factor": detach_right_factor}
    three = nt_xent([first, second, adversarial], **options)  # type: ignore[arg-type]
    regulariser = nt_xent([adversarial, second], **options)  # type: ignore[arg-type]
    return three + regulariser_weight * regulariser
