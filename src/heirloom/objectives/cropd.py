"""CRoPD's objective: reconstruction plus lambda times the adversarial contrastive loss.

Liu, Huang and Xing, arXiv 2504.10850: equation (1), Section 2.3, and Algorithm 1, line 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective


def adversarial_contrastive(z: Tensor, z_adv: Tensor, temperature: float) -> Tensor:
    """The paper's l_con for each image of the batch, shape (N,).

    -sim(z_i^adv, z_i)/tau + log of the sum over z' of exp(sim(z_i, z')/tau), where z' runs over the clean and
    adversarial embeddings of all OTHER images: the pair itself is not among its negatives.

    Args:
        z, z_adv: embeddings (N, D) of the images and of their adversarial versions; N >= 2.
        temperature: tau > 0; sim is the cosine similarity.
    """
    z, z_adv = functional.normalize(z, dim=1), functional.normalize(z_adv, dim=1)
    positive = (z * z_adv).sum(1) / temperature
    others = z @ torch.cat([z, z_adv]).T / temperature
    own = torch.eye(len(z), dtype=torch.bool, device=z.device).repeat(1, 2)
    return others.masked_fill(own, -torch.inf).logsumexp(1) - positive


def cropd(
    reconstruction: Tensor, x: Tensor, z: Tensor, z_adv: Tensor, *, weight: float, temperature: float
) -> dict[str, Tensor]:
    """Algorithm 1, line 2, averaged over the batch; the reconstruction error is the mean over pixels.

    Returns:
        scalars ``loss`` = ``reconstruction`` + ``weight`` * ``contrastive``, and these two.
    """
    error = functional.mse_loss(reconstruction, x)
    contrastive = adversarial_contrastive(z, z_adv, temperature).mean()
    return {"loss": error + weight * contrastive, "reconstruction": error, "contrastive": contrastive}


def _loss(batch: Batch) -> Losses:
    """Attack the contrastive loss of the latents, then :func:`cropd`."""
    reference = batch.embed(batch.x).detach()

    def each(z_adv: Tensor, z: Tensor) -> Tensor:
        z_adv, z = batch.gather(z_adv), batch.gather(z)
        return batch.own(adversarial_contrastive(z, z_adv, batch.temperature))

    x_adv = batch.attack(batch.embed, reference, each)
    reconstruction, z, z_adv = batch.forward(batch.x, x_adv)
    z, z_adv = batch.gather(z), batch.gather(z_adv)
    return cropd(reconstruction, batch.x, z, z_adv, weight=batch.weight, temperature=batch.temperature)


OBJECTIVE = Objective(
    name="cropd",
    title="CRoPD",
    loss=_loss,
    access="images",
    source="Liu, Huang and Xing, arXiv 2504.10850",
    cost="4 forward, 3 backward",
    wins="28x28 images, above noise",
    fails="8x8 digits: little or nothing beyond noise; colour images: its decoder never sees adversarial codes",
    weight=10.0,
    reads=("weight", "radius", "attack_steps", "temperature"),
)
