"""``cascade``: an ensemble that spends its passes where they may still decide something.

AutoAttack (Croce and Hein, ICML 2020) spends nearly 10,000 passes on every image that stays robust. Here each rung
of a ladder attacks only what stands so near that more effort may break it, by the share of the clean margin that
is left. From others: fewer iterations for what is out of reach (A3: Liu et al., CVPR 2022, "online statistics-based
discarding"), margins of probabilities (PMA: Xie et al., arXiv 2411.15210, section 3), targets one by one
(Gowal et al., arXiv 1910.09338), and AutoAttack's own parts for what stands by little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.campaign import Campaign
from heirloom.attacks.engine.rungs import RUNGS
from heirloom.threat import Threat

# the sprint, a third as long: what training chooses epochs and methods by. Nearer to AutoAttack than PGD-10 at half
# its passes (docs/attacks.md)
FIRST_LOOK = "pma-5"


def cascade(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack in rungs, each on what stands and is near enough for it.

    Args:
        model: a classifier in the mode it is to be attacked in; x: clean images (N, C, H, W) in [0, 1];
            y: labels (N,).
        generator: draws random starts, flat coordinates and Square's windows.

    Returns:
        float32 images inside the threat set: for each example the first misclassified point, else that of the
        highest logit margin found. An example that is wrong already comes back as it is.
    """
    campaign = Campaign.of(model, x, y, threat, generator)
    for rung in RUNGS:
        place = campaign.standing(rung.reach, rung.nearest)
        if len(place):
            rung.attack(campaign, place)
    return threat.project(campaign.best.point, x)
