"""Randomised smoothing: the radius within which a smoothed classifier provably keeps its answer.

Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019: algorithm
CERTIFY and theorem 1. What is certified is the smoothed classifier, the class that the model gives most often
under Gaussian noise, in L2, each image with probability 1 - alpha; it says nothing of the model without noise,
nor of another norm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from scipy.special import betaincinv, ndtri
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.data.unit_images import Pair, check_all
from heirloom.evaluation.chunks import seeded
from heirloom.models.memory import fitting
from heirloom.results.schema import Proportion
from heirloom.results.statistics import proportion
from heirloom.runtime.errors import require
from heirloom.runtime.files import read_json, write_json
from heirloom.runtime.randomness import generator_of, seed_of

ABSTAIN = -1
EVERY = 8  # images between two writes
OnImages = Callable[[int, int], None]


@dataclass(frozen=True)
class CertifySettings:
    """How the smoothed classifier is sampled.

    Attributes:
        sigma: standard deviation of the noise, in pixel units.
        n: draws that bound the probability of the chosen class. n0: other draws, which choose it.
        alpha: the probability, for each image, that its certificate is wrong.
        batch_size: noisy images at once, at most: fewer where the memory has no room; it does not decide the numbers
            beyond rounding.
    """

    sigma: float = 0.25
    n: int = 1000
    n0: int = 100
    alpha: float = 0.001
    seed: int = 0
    batch_size: int = 256
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(0 < self.sigma < float("inf"), "sigma", "above 0, in pixel units", self.sigma)
        require(self.n >= 1, "n", "at least 1", self.n)
        require(self.n0 >= 1, "n0", "at least 1", self.n0)
        require(0 < self.alpha < 1, "alpha", "a probability between 0 and 1", self.alpha)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        fewest = fewest_draws(self.alpha)
        allowed = f"at least {fewest} with alpha {self.alpha:g}, since fewer that all agree certify nothing"
        require(self.n >= fewest, "n", allowed, self.n)


@dataclass(frozen=True)
class Certificate:
    """Of one image: ``predicted`` (:data:`ABSTAIN` where no class is), the L2 ``radius`` in pixel units, and how often
    of n the class that n0 draws chose came up."""

    predicted: int
    radius: float
    count: int


def certify(
    model: nn.Module,
    data: Pair,
    settings: CertifySettings,
    *,
    kept: Path | None = None,
    report: OnImages | None = None,
) -> list[Certificate]:
    """CERTIFY for each of ``images`` (N, C, H, W) in [0, 1].

    ``kept`` is a file of finished certificates of the same model, images and settings, gone on with and written to.
    The noise of an image is drawn on the CPU from a generator of (seed, its number), so that a run that was interrupted
    and resumed from ``kept`` has the certificates of one that was not.

    Raises:
        InputError: images outside [0, 1].
    """
    images, _ = data
    check_all(images)
    model = model.to(settings.device).eval()
    with seeded(torch.device(settings.device), 0):
        size = fitting(model, images[:2].to(settings.device), settings.batch_size)
    settings = replace(settings, batch_size=size)
    done = [Certificate(**one) for one in read_json(kept)] if kept is not None and kept.exists() else []
    for number in range(len(done), len(images)):
        done.append(certify_one(model, images[[number]][0], number, settings))
        if kept is not None and ((number + 1) % EVERY == 0 or number + 1 == len(images)):
            write_json(kept, [asdict(one) for one in done])
        if report is not None:
            report(number + 1, len(images))
    return done


def certify_one(model: nn.Module, image: Tensor, number: int, settings: CertifySettings) -> Certificate:
    """The certificate of ``image`` (C, H, W), the ``number``-th of its data."""
    chosen = int(counts(model, image, settings.n0, settings, number, "choose").argmax())
    count = int(counts(model, image, settings.n, settings, number, "bound")[chosen])
    low = lower_bound(count, settings.n, settings.alpha)
    if low <= 0.5:
        return Certificate(ABSTAIN, 0.0, count)
    return Certificate(chosen, settings.sigma * float(ndtri(low)), count)


@torch.no_grad()
def counts(
    model: nn.Module, image: Tensor, draws: int, settings: CertifySettings, number: int, purpose: str
) -> Tensor:
    """How often ``model`` gives each class for ``image`` under noise, (classes,); NaN logits count for no class."""
    generator = generator_of(settings.seed, "certify", number, purpose)
    device, found = torch.device(settings.device), None
    with seeded(device, seed_of(settings.seed, "certify", number, purpose, "model")):
        for size in [settings.batch_size] * (draws // settings.batch_size) + [draws % settings.batch_size]:
            if not size:
                continue
            noise = torch.stack([torch.randn(image.shape, generator=generator) for _ in range(size)])
            logits = predict(model, (image + settings.sigma * noise).to(device))
            valid = logits[~logits.isnan().any(1)].argmax(1).bincount(minlength=logits.shape[1]).cpu()
            found = valid if found is None else found + valid
    assert found is not None
    return found


def lower_bound(count: int, n: int, alpha: float) -> float:
    """The exact one-sided lower bound of a probability at confidence 1 - alpha (Clopper and Pearson 1934)."""
    return float(betaincinv(count, n - count + 1, alpha)) if count else 0.0


def fewest_draws(alpha: float) -> int:
    """With fewer draws not even those that all agree bound a probability above a half."""
    return math.floor(math.log(alpha) / math.log(0.5)) + 1


def largest_radius(settings: CertifySettings) -> float:
    """What n draws that all agree certify: no image can have more."""
    return settings.sigma * float(ndtri(lower_bound(settings.n, settings.n, settings.alpha)))


def certified_accuracy(certificates: list[Certificate], labels: Tensor, radius: float) -> Proportion:
    """The share of images whose certificate names the label and reaches ``radius``, with its interval over images."""
    return proportion(_right(certificates, labels, radius))


def abstained(certificates: list[Certificate]) -> Proportion:
    return proportion(torch.tensor([one.predicted == ABSTAIN for one in certificates]))


def _right(certificates: list[Certificate], labels: Tensor, radius: float) -> Tensor:
    pairs = zip(certificates, labels.tolist(), strict=True)
    return torch.tensor([one.predicted == label and one.radius >= radius for one, label in pairs])
