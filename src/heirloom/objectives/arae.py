"""ARAE's objective: the clean image from the adversarial latent, and latents that stay together.

Salehi et al., "ARAE: Adversarially robust training of autoencoders improves novelty detection", Neural
Networks 2021, there for perceptrons and for novelty detection; CRoPD (arXiv 2504.10850, Table 4) uses it as a
preprocessor with gamma = 0.1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective, squared_error


def arae(
    reconstruction_adv: Tensor, x: Tensor, z: Tensor, z_adv: Tensor, *, gamma: float = 0.1
) -> dict[str, Tensor]:
    """Means over the batch: error of the reconstruction from adversarial input against the CLEAN image
    ``x``, plus gamma times the squared distance of the latents (mean over their entries).
    """
    error, latent = functional.mse_loss(reconstruction_adv, x), functional.mse_loss(z_adv, z)
    return {"loss": error + gamma * latent, "reconstruction": error, "latent": latent}


def _loss(batch: Batch) -> Losses:
    """Attack the distance of the latents, then :func:`arae`."""
    reference = batch.embed(batch.x).detach()
    x_adv = batch.attack(batch.embed, reference, squared_error)
    reconstruction_adv, z_adv, z = batch.forward(x_adv, batch.x)
    return arae(reconstruction_adv, batch.x, z, z_adv, gamma=batch.weight)


OBJECTIVE = Objective(
    name="arae",
    title="ARAE",
    loss=_loss,
    access="images",
    source="Salehi et al., Neural Networks 2021",
    cost="4 forward, 3 backward",
    wins="8x8 digits, about as CRoPD at its best weight",
    fails="on colour images at 8/255",
    weight=0.1,
    augments=False,
    reads=("weight", "radius", "attack_steps"),
)
