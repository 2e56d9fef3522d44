"""Stability: a reconstruction that the attacker cannot move.

Zheng et al., "Improving the Robustness of Deep Neural Networks via Stability Training", CVPR 2016, with the
attack that moves the output most in place of Gaussian noise (as TRADES does for logits: Zhang et al., ICML
2019).
"""

from __future__ import annotations

from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective, squared_error


def stability(batch: Batch) -> Losses:
    """MSE(D(x), x) + ``weight`` MSE(D(x'), D(x)), x' chosen to make the second large."""
    reference = batch.reconstruct(batch.x).detach()
    x_adv = batch.attack(batch.reconstruct, reference, squared_error)
    made, z, _ = batch.forward(batch.x)
    made_adv, _, _ = batch.forward(x_adv)
    error, moved = functional.mse_loss(made, batch.x), functional.mse_loss(made_adv, made)
    return {"loss": error + batch.weight * moved + 0 * z.sum(), "reconstruction": error, "moved": moved}


OBJECTIVE = Objective(
    name="stability",
    title="Stability",
    loss=stability,
    access="images",
    source="stability training (Zheng et al., CVPR 2016), adversarial as in TRADES (ICML 2019)",
    cost="4 forward, 3 backward",
    wins="8x8 digits; of what reads images alone, on MNIST and Fashion-MNIST too",
    fails="behind distil on 28x28 images; on colour images at 8/255",
    weight=4.0,
    radius=1.5,
    reads=("weight", "radius", "attack_steps"),
)
