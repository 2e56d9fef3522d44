"""Adversarial reconstruction: the clean image from the input that reconstructs it worst.

A min-max denoising auto-encoder: adversarial training (Madry et al., ICLR 2018) with the reconstruction error
as loss, on the attacker's side as well. ARAE (Salehi et al., Neural Networks 2021) has the same target and an
attack on the latent code instead. Here the decoder sees adversarial codes, which CRoPD never shows it.
"""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective, squared_error


def adversarial_reconstruction(batch: Batch) -> Losses:
    """Mean over pixels of (D(x') - x)^2, x' chosen to make it large; plus ``weight`` times that of x itself."""
    x_adv = batch.attack(batch.reconstruct, batch.x, squared_error)
    made, z, _ = batch.forward(x_adv)
    error = functional.mse_loss(made, batch.x)
    losses = {"loss": error + 0 * z.sum(), "reconstruction": error}
    if batch.weight:
        clean = functional.mse_loss(batch.forward(batch.x)[0], batch.x)
        losses |= {"loss": losses["loss"] + batch.weight * clean, "clean_reconstruction": clean}
    return losses


OBJECTIVE = Objective(
    name="adversarial-reconstruction",
    title="Adversarial reconstruction",
    loss=adversarial_reconstruction,
    access="images",
    source="Madry et al., ICLR 2018, with a reconstruction error",
    cost="2 forward, 2 backward: four of CRoPD's seven",
    wins="8x8 digits: two to three times CRoPD for four sevenths of its passes",
    fails="on colour images at 8/255: a picture near in pixels is not near for the model",
    radius=1.5,
    reads=("weight", "radius", "attack_steps"),
)
