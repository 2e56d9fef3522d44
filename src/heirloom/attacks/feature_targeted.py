"""Feature-based targeted attack: towards the representation of an image of another class.

Li and Li, arXiv 2410.08503, Appendix A.2: min over delta of |g(x + delta) - g(x_target)|, g the penultimate layer
of a reference network. The paper calls it NRF-PGD where that network was trained standardly (g holds non-robust
features) and RF-PGD where it was trained adversarially. The network that is judged is another one, so the attack
needs no access to it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import squared_distance
from heirloom.attacks.pgd import pgd
from heirloom.runtime.errors import require
from heirloom.threat import Threat


def feature_targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD on minus the squared distance to the target's representation.

    Args:
        model: the reference encoder g, pixels -> features (N, D), in the mode it is to be read in.
        x: images (N, C, H, W) in [0, 1] of the source class.
        y: g of the target images, (N, D): one target for each image.
        steps, step_size, restarts, random_start: of :func:`heirloom.attacks.pgd.pgd`. The paper's are lost.

    Returns:
        for each example the iterate whose representation lies nearest to the target's (L2), float32, inside the
        threat set.

    Raises:
        InputError: ``y`` has not one row of features for each image.
    """
    require(y.ndim == 2 and len(y) == len(x), "y", f"features (N, D) with N = {len(x)}", tuple(y.shape))
    return pgd(
        model,
        x,
        y,
        threat,
        loss=nearness,
        steps=steps,
        step_size=step_size,
        restarts=restarts,
        random_start=random_start,
        generator=generator,
    )


def nearness(output: Tensor, reference: Tensor) -> Tensor:
    """Minus the squared L2 distance between (N, D) representations, of shape (N,)."""
    return -squared_distance(output, reference)
