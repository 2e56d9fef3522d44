"""The adaptive attack: every source in turn on what still stands, then Square; scored over fresh draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy, margin
from heirloom.attacks.pgd import pgd
from heirloom.attacks.square import square
from heirloom.data.unit_images import Pair
from heirloom.evaluation.adaptive.sources import Source
from heirloom.evaluation.adversarial_images import AdversarialImages
from heirloom.evaluation.chunks import margins_of, repair, seeded
from heirloom.results.schema import Proportion
from heirloom.results.statistics import interval, proportion
from heirloom.runtime.errors import require
from heirloom.runtime.files import write_tensors
from heirloom.runtime.randomness import generator_of, seed_of
from heirloom.threat import Threat

STEPS, RESTARTS, QUERIES, CHOOSING = 100, 2, 1000, 10
OnBatch = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Draws:
    """Verdicts over fresh draws of a model: ``right`` (draws, N) bool."""

    right: Tensor

    def mean(self) -> Proportion:
        """The share of right answers over images and draws. Its interval is that of as many images that are right or
        wrong for good: an image that is right now and then varies less, so it is too wide rather than too narrow."""
        n = self.right.shape[1]
        value = float(self.right.double().mean())
        low, high = interval(value * n, n)
        return Proportion(value=value, low=min(low, value), high=max(high, value), n=n)

    def majority(self) -> Proportion:
        """Right in more than half of the draws."""
        return proportion(self.right.double().mean(0) > 0.5)

    def worst(self) -> Proportion:
        """Right in every draw."""
        return proportion(self.right.all(0))

    def details(self) -> dict[str, Any]:
        return {
            "draws": len(self.right),
            "mean": self.mean(),
            "majority": self.majority(),
            "worst": self.worst(),
        }


@dataclass(frozen=True)
class Setting:
    """What is attacked and how it is scored.

    Attributes:
        model: the model that is judged; ``sources``: what is differentiated in its place.
        together: the model looks at the whole batch, so that what is found counts for all of it or not at all.
        random: choose between images by :data:`CHOOSING` draws rather than one.
    """

    model: nn.Module
    sources: Sequence[Source]
    threat: Threat
    seed: int = 0
    random: bool = False
    together: bool = False
    device: str | torch.device = "cpu"


def adaptive(
    setting: Setting,
    data: Pair,
    known: Tensor | AdversarialImages,
    *,
    batch_size: int = 256,
    folder: Path | None = None,
    report: OnBatch | None = None,
) -> AdversarialImages:
    """For each image the one (N, C, H, W) on which the model is right least often, of all that were found.

    Args:
        known: what the evaluation's attacks found (N, C, H, W).
        folder: finished batches are kept there and read again.
    """
    images, labels = data
    shape = tuple(images.shape)
    require(tuple(known.shape) == shape, "known", f"of shape {shape}", tuple(known.shape))
    found = AdversarialImages(images)
    for number, index in enumerate(torch.arange(len(images)).split(batch_size)):
        place = folder / f"{number:05d}.safetensors" if folder else None
        if place is not None and place.exists():
            found.put(index, place)
        else:
            made = _attacked(setting, images[index], labels[index], known[index], int(index[0])).cpu()
            if place is not None:
                write_tensors(place, {"x_adv": made})
            found.put(index, made if place is None else place)
        if report is not None:
            report("adaptive", int(index[-1]) + 1, len(images))
    return found


def _attacked(setting: Setting, x: Tensor, y: Tensor, known: Tensor, first: int) -> Tensor:
    x, y, best = x.to(setting.device), y.to(setting.device), known.to(setting.device).clone()
    with seeded(x.device, seed_of(setting.seed, "adaptive", first)):
        score = torch.minimum(_score(setting, x, y), _score(setting, best, y))
        for source in [*setting.sources, None]:
            for loss in (margin, cross_entropy) if source else (margin,):
                alive = ((score > 0) | setting.together).nonzero().flatten()
                if not bool((score > 0).any()):
                    return best
                generator = generator_of(
                    setting.seed, source and source.name, loss.__name__, first, device=x.device
                )
                tried = _one(setting, source, x[alive], y[alive], loss, generator)
                tried, _ = repair(tried, x[alive], setting.threat, "adaptive")
                whole = best.clone()
                whole[alive] = tried
                best, score = _better(setting, (best, score), whole, y)
    return best


def _better(
    setting: Setting, known: tuple[Tensor, Tensor], whole: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """(images, scores): of each image the one that fools more often; for a model that looks at the whole batch, the
    new batch, the old one or their mixture, whichever is right least often.
    """
    best, score = known
    scored = _score(setting, whole, y)
    better = (scored < score)[:, None, None, None]
    mixed = torch.where(better, whole, best)
    if not setting.together:
        return mixed, torch.minimum(score, scored)
    tried = [(best, score), (whole, scored), (mixed, _score(setting, mixed, y))]
    return min(tried, key=lambda pair: float(pair[1].mean()))


def _one(setting: Setting, source: Source | None, x: Tensor, y: Tensor, loss: Any, generator: Any) -> Tensor:
    if source is None:
        return square(setting.model, x, y, setting.threat, queries=QUERIES, generator=generator)
    try:
        return pgd(
            source.model, x, y, setting.threat, loss=loss, steps=STEPS, restarts=RESTARTS, generator=generator
        )
    except (RuntimeError, TypeError):  # a rewritten model may refuse what its author never meant
        return x


def _score(setting: Setting, x: Tensor, y: Tensor) -> Tensor:
    """The share of draws (K,) in which ``x`` is classified rightly."""
    return drawn(setting.model, x, y, CHOOSING if setting.random else 1).right.double().mean(0)


def drawn(
    model: nn.Module,
    x: Tensor | AdversarialImages,
    y: Tensor,
    draws: int,
    batch_size: int = 256,
    device: str | torch.device | None = None,
) -> Draws:
    """``model``, on ``device`` (None: where the labels are), asked ``draws`` times about ``x``."""
    place = y.device if device is None else device

    def once() -> Tensor:
        parts = zip(x.split(batch_size), y.split(batch_size), strict=True)
        return torch.cat([margins_of(model, a.to(place), b.to(place)) < 0 for a, b in parts])

    return Draws(torch.stack([once() for _ in range(draws)]))
