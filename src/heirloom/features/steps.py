"""One batch: representations in, images out, and how near they came, measured on the pixels that are stored."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import predict
from heirloom.attacks.feature_targeted import feature_targeted
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import to_unit_range
from heirloom.features.inversion import invert
from heirloom.features.pairing import NO_IMAGE, Pairing
from heirloom.features.settings import BuildSettings
from heirloom.models.memory import fitting
from heirloom.runtime.randomness import generator_of, uniform
from heirloom.threat import Threat, norms


@dataclass(frozen=True)
class Built:
    """Images of one kind of feature and their quality.

    Attributes:
        pixels: (N, C, H, W) uint8, as they are stored.
        relative_error: (N,) |g(stored) - g(original)| / |g(original)| (L2); ``unrounded_error``: before the pixels
            became whole grey levels; ``start_error``: of the start.
        distance: (N,) L2 distance of the stored pixels from the start, in pixel units over the whole image.
    """

    pixels: Tensor
    relative_error: Tensor
    unrounded_error: Tensor
    start_error: Tensor
    distance: Tensor


def build_batch(
    encoder: nn.Module,
    data: LabelledImages,
    pairing: Pairing,
    rows: Tensor,
    settings: BuildSettings,
    threat: Threat | None,
    split: str,
) -> Built:
    """The entries ``rows`` (n,) of ``pairing``, of which as many go through the encoder together as the memory has
    room for.

    Every draw comes from the seed, the split and the first row, so a batch is the same whichever came before it.
    """
    device = torch.device(settings.device)
    generator = generator_of(settings.seed, "features", "batch", split, int(rows[0]))
    originals = to_unit_range(data.pixels.batch(pairing.original[rows])).to(device)
    starts = _starts(data, pairing.start[rows], settings, generator).to(device)
    size = fitting(encoder, originals[:2], settings.batch_size)
    pairs = zip(originals.split(size), starts.split(size), strict=True)
    made = [_made(encoder, *each, settings, threat) for each in pairs]
    return Built(*(torch.cat([getattr(one, field.name) for one in made]) for field in fields(Built)))


def _made(
    encoder: nn.Module, original: Tensor, start: Tensor, settings: BuildSettings, threat: Threat | None
) -> Built:
    """From ``start`` towards the representations of ``original``, at once."""
    with torch.no_grad():
        target = predict(encoder, original)
    steps, size = settings.steps, settings.step_size
    if threat is not None:
        size = 2.5 * threat.eps / steps if size is None else size
        x = feature_targeted(encoder, start, target, threat, steps=steps, step_size=size, random_start=False)
    else:
        x = invert(encoder, target, start, steps=steps, step_size=size, step_rule=settings.step_rule).x
    return _measured(encoder, x, start, target)


def _starts(
    data: LabelledImages, indices: Tensor, settings: BuildSettings, generator: torch.Generator
) -> Tensor:
    if bool((indices != NO_IMAGE).all()):
        return to_unit_range(data.pixels.batch(indices))
    shape = (len(indices), *data.shape)
    if settings.start == "noise":
        return uniform(shape, generator, torch.device("cpu"))
    return torch.full(shape, 0.5)


@torch.no_grad()
def _measured(encoder: nn.Module, x: Tensor, start: Tensor, target: Tensor) -> Built:
    pixels = (x * 255).round().to(torch.uint8)
    stored = to_unit_range(pixels)
    final, unrounded, first = (_error(encoder, images, target) for images in (stored, x, start))
    return Built(pixels.cpu(), final, unrounded, first, norms(stored - start, "L2").flatten().cpu())


def _error(encoder: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    missing = (predict(encoder, x) - target).flatten(1).norm(dim=1)
    return (missing / target.flatten(1).norm(dim=1).clamp_min(1e-12)).cpu()
