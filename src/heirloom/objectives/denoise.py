"""Denoised smoothing: Gaussian noise removed in front of a frozen model, so that its smoothed self can be certified.

Salman et al., "Denoised smoothing: A provable defense for pretrained classifiers", NeurIPS 2020, objective MSE (section
3.1). ``heirloom certify`` then gives the smoothed model's L2 radius.
"""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective


def denoise(batch: Batch) -> Losses:
    """Mean squared error of the image from what is made of it under Gaussian noise."""
    made, z, _ = batch.forward(batch.gaussian())
    error = functional.mse_loss(made, batch.x)
    return {"loss": error + 0 * z.sum(), "reconstruction": error}


OBJECTIVE = Objective(
    name="denoise",
    title="Denoised smoothing",
    loss=denoise,
    access="images",
    source="denoised smoothing (Salman et al., NeurIPS 2020), MSE",
    cost="1 forward, 1 backward",
    wins="the only one here with a proof: the smoothed model's L2 radius (heirloom certify)",
    fails="without noise at test time it promises nothing; in Linf on large images the radius is small",
    reads=("sigma",),
)
