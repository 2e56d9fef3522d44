"""The objectives that ``--method`` chooses from, by name."""

from __future__ import annotations

from heirloom.objectives import (
    adversarial_reconstruction,
    arae,
    cropd,
    denoise,
    denoise_stability,
    distil,
    feature_stability,
    noise,
    stability,
    vanilla,
)
from heirloom.objectives.objective import Objective

DEFENCES: dict[str, Objective] = {
    module.OBJECTIVE.name: module.OBJECTIVE
    for module in (
        vanilla,
        noise,
        denoise,
        denoise_stability,
        arae,
        cropd,
        adversarial_reconstruction,
        stability,
        feature_stability,
        distil,
    )
}
