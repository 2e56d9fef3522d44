"""Reconstruction alone: the auto-encoder that every other objective is measured against."""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective


def vanilla(batch: Batch) -> Losses:
    """Mean squared error over pixels of the clean image from the clean image."""
    reconstruction, z, _ = batch.forward(batch.x)
    error = functional.mse_loss(reconstruction, batch.x)
    # 0 * z: the projector takes part in no loss, which DistributedDataParallel would call an error
    return {"loss": error + 0 * z.sum(), "reconstruction": error}


OBJECTIVE = Objective(
    name="vanilla",
    title="Vanilla (reconstruction only)",
    loss=vanilla,
    access="images",
    source="CRoPD (arXiv 2504.10850), Table 4",
    cost="1 forward, 1 backward",
    wins="nowhere: it is a control",
    fails="under every attack; what it seems to give is what a bottleneck gives",
)
