"""Both sides of Theorem 1 of CRoPD (arXiv 2504.10850, section 3.1) on trained pipelines, over lambda and eps.

The theorem: adversarial loss <= clean loss + kappa L_con, for SOME kappa, if every attacked latent stays within eta_1
of its own and all latents of other classes stay eta_2 > eta_1 away. Measured here on the digits, for each trained
preprocessor: the two losses (cross-entropy of the whole, under PGD-20 on it), the adversarial contrastive loss (under
the attack of training, with 20 steps), the least kappa that makes the inequality hold, and how often the premise does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy
from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.defence.settings import PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import Preprocessor
from heirloom.objectives.cropd import adversarial_contrastive
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings

TEMPERATURE, STEPS = 0.5, 20
Tell = Callable[[str], None]


def measure_bound(
    foundation: str,
    out: Path,
    *,
    weights: tuple[float, ...] = (0.0, 10.0),
    radii: tuple[float, ...] = (0.05, 0.15),
    epochs: int = 150,
    limit: int | None = 200,
    seed: int = 0,
    report: Tell = lambda words: None,
) -> Summary:
    """A row for each lambda and eps, each with a preprocessor of its own, trained at that eps.

    Args:
        foundation: a folder or hub id of the frozen model. limit: test images that are attacked.
    """
    stopwatch, data = Stopwatch(), load_images("digits")
    encoder, test = load_encoder(EncoderSettings(foundation)), data.test.limit(limit, seed)
    training = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=3e-3, warmup=0.1, seed=seed)
    rows = []
    for weight in weights:
        for eps in radii:
            threat = Threat("Linf", eps)
            settings = PreprocessorSettings(method="cropd", weight=weight, training=training)
            preprocessor, _ = train_preprocessor(data.train, threat, settings)
            assert isinstance(preprocessor, Preprocessor)
            whole = Defended(preprocessor, encoder, nn.Identity()).eval()
            features = extract_features(whole, data.train)
            whole.head = train_head(
                features, data.train.labels, len(data.train.classes), HeadSettings(epochs=60)
            )
            rows.append(
                {"weight": weight, "eps": eps, **both_sides(whole, test.images, test.labels, threat, seed)}
            )
            report(f"lambda {weight:g}, eps {eps:g}: least kappa {rows[-1]['least_kappa']}")
    summary = stopwatch.summary("benchmark", rows, seed=seed, data=data.used())
    summary.write(out / "summary.json")
    return summary


def both_sides(whole: Defended, x: Tensor, y: Tensor, threat: Threat, seed: int) -> dict[str, Any]:
    """The inequality's parts on images (N, C, H, W) with labels (N,).

    Returns:
        losses in nats; ``contrastive``, the mean over images of the adversarial contrastive loss in batches of
        all N; ``least_kappa``, None where no kappa above 0 will do because L_con is not above 0 (the paper's has
        no positive pair in its denominator and may be negative) though the attack costs something; latent distances
        relative to the mean distance between images: ``eta_1`` (mean, largest), ``eta_2`` (least between classes); and
        ``premise``, the share of images whose attacked latent is nearer to its own than to any of another class.
    """
    preprocessor = whole.preprocessor
    assert isinstance(preprocessor, Preprocessor)
    attacked = pgd(whole, x, y, threat, steps=STEPS, generator=generator_of(seed, "loss"))
    with torch.no_grad():
        clean, adversarial = (float(cross_entropy(whole(images), y).mean()) for images in (x, attacked))
        z = preprocessor.embed(x)
    moved = _away(preprocessor, x, z, threat, seed)
    with torch.no_grad():
        z_adv = preprocessor.embed(moved)
    contrastive = float(adversarial_contrastive(z, z_adv, TEMPERATURE).mean())
    gap = adversarial - clean
    kappa = 0.0 if gap <= 0 else gap / contrastive if contrastive > 0 else None
    return {
        "clean_loss": clean,
        "adversarial_loss": adversarial,
        "contrastive": contrastive,
        "least_kappa": kappa,
        **_distances(z, z_adv, y),
    }


def _away(preprocessor: Preprocessor, x: Tensor, z: Tensor, threat: Threat, seed: int) -> Tensor:
    class _Embed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return preprocessor.embed(images)

    return pgd(
        _Embed(),
        x,
        z,
        threat,
        steps=STEPS,
        generator=generator_of(seed, "contrastive"),
        loss=lambda z_adv, reference: adversarial_contrastive(reference, z_adv, TEMPERATURE),
    )


def _distances(z: Tensor, z_adv: Tensor, y: Tensor) -> dict[str, float]:
    apart = torch.cdist(z, z)
    scale = apart[~torch.eye(len(z), dtype=torch.bool)].mean()
    own = (z_adv - z).norm(dim=1)
    other = y[:, None] != y[None]
    infinite = torch.full_like(apart, torch.inf)
    nearest = torch.where(other, torch.cdist(z_adv, z), infinite).amin(1)
    least = torch.minimum(torch.where(other, apart, infinite).min(), nearest.min())
    return {
        "eta_1_mean": float(own.mean() / scale),
        "eta_1": float(own.max() / scale),
        "eta_2": float(least / scale),
        "premise": float((own < nearest).double().mean()),
    }
