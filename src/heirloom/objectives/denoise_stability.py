"""Denoised smoothing with stability: the frozen model's own output on the clean image is the target under noise.

Salman et al., NeurIPS 2020, objective STAB (section 3.2), with the frozen model's features in place of a classifier's
probabilities, so that no labels and no head are needed.
"""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.feature_stability import relative
from heirloom.objectives.objective import Batch, Losses, Objective


def denoise_stability(batch: Batch) -> Losses:
    """||E(D(x + noise)) - E(x)||^2 over the mean of ||E(x)||^2, plus ``weight`` times the mean squared error of
    D(x + noise) from x. E is the frozen model, D the preprocessor.
    """
    made, z, _ = batch.forward(batch.gaussian())
    moved = relative(batch.seen_of(made), batch.features(batch.x))
    error = functional.mse_loss(made, batch.x)
    return {"loss": moved + batch.weight * error + 0 * z.sum(), "features": moved, "reconstruction": error}


OBJECTIVE = Objective(
    name="denoise-stability",
    title="Denoised smoothing, stability",
    loss=denoise_stability,
    access="images and model",
    source="denoised smoothing (Salman et al., NeurIPS 2020), STAB towards the frozen model's features",
    cost="1 forward, 1 backward of preprocessor and model together, 1 forward of the model",
    wins="as denoise, closer to what the frozen model needs",
    fails="as denoise",
    weight=1.0,
    reads=("weight", "sigma"),
)
