"""Both sides of Theorem 1 of CRoPD (arXiv 2504.10850, section 3.1) on trained pipelines, over lambda and eps.

The theorem: adversarial loss <= clean loss + kappa L_con, for SOME kappa, if every attacked latent stays within eta_1
of its own and all latents of other classes stay eta_2 > eta_1 away. Measured here on the digits, for each trained
preprocessor: the two losses (cross-entropy of the whole, under PGD-20 on it), the adversarial contrastive loss (under
the attack of training, with 20 steps), the least kappa that makes the inequality hold, and how often the premise does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy
from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.defence.settings import PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended, check_whole
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.models.preprocessor import Preprocessor
from heirloom.objectives.cropd import adversarial_contrastive
from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.identity import module_facts
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings

TEMPERATURE, STEPS = 0.5, 20
WEIGHTS, RADII = (0.0, 1.0, 10.0), (0.05, 0.1, 0.15)


def measure_bound(
    foundation: str,
    out: Path,
    *,
    weights: tuple[float, ...] = WEIGHTS,
    radii: tuple[float, ...] = RADII,
    epochs: int = 150,
    limit: int | None = 200,
    seed: int = 0,
    seeds: int = 1,
    resume: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Summary:
    """A row for each seed, lambda and eps, each with a preprocessor of its own, trained at that eps; with lambda 0
    training knows no eps, and one preprocessor serves all.

    Args:
        foundation: a folder or hub id of the frozen model. limit: test images that are attacked, the same for
            every seed. seeds: trainings of each kind, with the seeds from ``seed`` on.
    """
    require(seeds >= 1, "seeds", "at least 1", seeds)
    for name, values in (("weights", weights), ("radii", radii)):
        words = ", ".join(f"{value:g}" for value in values)
        require(len(set(values)) == len(values), name, "different from each other", words)
    data = load_images("digits")
    encoder = load_encoder(EncoderSettings(foundation), trust_remote_code=trust_remote_code)
    test = data.test.limit(limit, seed)
    check_whole(encoder, test.select(torch.arange(2)).images)
    judged = ImageSource(data.name, data.train, test)
    settings = {"weights": list(weights), "radii": list(radii), "epochs": epochs, "seeds": seeds}
    facts = {"encoder": module_facts(encoder), "data": judged.facts(), "settings": settings, "seed": seed}
    run, rows, grid = Run(out, facts, resume=resume), [], [(w, e) for w in weights for e in radii]
    progress = run.counting(progress)
    for each in range(seed, seed + seeds):
        trained: dict[tuple[float, float | None], Defended] = {}

        def row(weight: float, eps: float, each: int = each, trained: Any = trained) -> dict[str, Any]:
            key = (weight, eps if weight else None)
            if key not in trained:
                trained[key] = _pipeline(encoder, judged, (weight, eps), epochs, each)
            sides = both_sides(trained[key], test.images, test.labels, Threat("Linf", eps), each)
            return {"seed": each, "weight": weight, "eps": eps, **sides}

        for weight, eps in grid:
            name = f"seed-{each}-lambda-{weight:g}-eps-{eps:g}"
            rows.append(run.stage(name, lambda w=weight, e=eps: row(w, e)))  # type: ignore[misc]
            progress("lambda and eps", len(rows), len(grid) * seeds, name)
    return run.finish("cropd-bound", rows, seed=seed, data=judged.used(), settings=settings)


def _pipeline(
    encoder: FrozenEncoder, data: ImageSource, at: tuple[float, float], epochs: int, seed: int
) -> Defended:
    """The frozen model behind a CRoPD trained at ``at`` = (lambda, eps), with a head of its own."""
    training = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=3e-3, warmup=0.1, seed=seed)
    settings = PreprocessorSettings(method="cropd", weight=at[0], training=training)
    preprocessor, _ = train_preprocessor(data.train, Threat("Linf", at[1]), settings)
    assert isinstance(preprocessor, Preprocessor)
    whole = Defended(preprocessor, encoder, nn.Identity()).eval()
    head, classes = HeadSettings(epochs=60, seed=seed), len(data.train.classes)
    whole.head = train_head(extract_features(whole, data.train), data.train.labels, classes, head)
    return whole


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
