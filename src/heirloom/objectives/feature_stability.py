"""Feature stability: what the frozen model sees behind the preprocessor stays what it saw without.

The loss of FARE (Schlarmann et al., "Robust CLIP: Unsupervised adversarial fine-tuning of vision embeddings for
robust large vision-language models", ICML 2024), there by fine-tuning the model, here by a network in front
of it, as in the high-level guided denoiser (HGD: Liao et al., CVPR 2018). A reconstruction term keeps the
picture one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from heirloom.objectives.objective import Batch, Losses, Objective, squared_error


def feature_stability(batch: Batch) -> Losses:
    """||E(D(x')) - E(x)||^2 over the mean of ||E(x)||^2, x' chosen to make it large, plus ``weight`` times the
    mean squared error of D(x') from x. E is the frozen model, D the preprocessor.
    """
    target = batch.features(batch.x)
    x_adv = batch.attack(batch.seen, target, squared_error)
    made, z, _ = batch.forward(x_adv)
    moved = relative(batch.gather(batch.seen_of(made)), batch.gather(target))
    error = functional.mse_loss(made, batch.x)
    return {"loss": moved + batch.weight * error + 0 * z.sum(), "features": moved, "reconstruction": error}


def relative(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of ``features`` (N, D) from ``target`` in units of the target's mean square."""
    return squared_error(features, target).mean() / target.flatten(1).square().sum(1).mean().clamp_min(1e-12)


OBJECTIVE = Objective(
    name="feature-stability",
    title="Feature stability",
    loss=feature_stability,
    access="images and model",
    source="FARE (Schlarmann et al., ICML 2024); HGD (Liao et al., CVPR 2018)",
    cost="2 forward, 2 backward of preprocessor and model together, 1 forward of the model",
    wins="8x8 digits, at three times the time of stability, and Fashion-MNIST, where it is ahead of it",
    fails="MNIST at 0.2: nothing; colour images at 8/255: next to nothing before a good classifier",
    weight=1.0,
    radius=1.5,
    reads=("weight", "radius", "attack_steps"),
)
