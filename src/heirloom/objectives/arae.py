"""ARAE's objective: the clean image from the adversarial latent, and latents that stay together.

Salehi et al., "ARAE: Adversarially robust training of autoencoders improves novelty detection", Neural
Networks 2021, there for perceptrons and for novelty detection; CRoPD (arXiv 2504.10850, Table 4) uses it as a
preprocessor with gamma = 0.1.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def arae(
    reconstruction_adv: Tensor, x: Tensor, z: Tensor, z_adv: Tensor, *, gamma: float = 0.1
) -> dict[str, Tensor]:
    """Means over the batch: error of the reconstruction from adversarial input against the CLEAN image
    ``x``, plus gamma times the squared distance of the latents (mean over their entries).
    """
    error, latent = functional.mse_loss(reconstruction_adv, x), functional.mse_loss(z_adv, z)
    return {"loss": error + gamma * latent, "reconstruction": error, "latent": latent}
