"""Reconstruction from random noise: what training without an attack gives, the control to beat.

Vincent et al., "Extracting and composing robust features with denoising autoencoders", ICML 2008, with
uniform noise of the threat's shape.
"""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective


def noise(batch: Batch) -> Losses:
    """Mean squared error of the clean image from a noisy one."""
    reconstruction, z, _ = batch.forward(batch.noisy())
    error = functional.mse_loss(reconstruction, batch.x)
    return {"loss": error + 0 * z.sum(), "reconstruction": error}


OBJECTIVE = Objective(
    name="noise",
    title="Noise (random noise, no attack)",
    loss=noise,
    access="images",
    source="denoising auto-encoders (Vincent et al., ICML 2008)",
    cost="1 forward, 1 backward",
    wins="cheap, and level with CRoPD on the 8x8 digits in one of two seeds: the control to beat",
    fails="on colour images at 8/255: nothing",
    radius=1.5,
    reads=("radius",),
)
