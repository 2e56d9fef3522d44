"""What a model answers, as a fact of a run: two models with the same weights and layers may still differ in code."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from heirloom.data.unit_images import Images
from heirloom.evaluation.apart import on_a_copy
from heirloom.evaluation.copies import logits
from heirloom.runtime import distributed
from heirloom.runtime.identity import module_facts
from heirloom.runtime.randomness import generator_of

IMAGES = 4  # of the data, and as many of noise
GRID = 0.1  # in units of the logits' spread: far above what another device or batch changes, below what code does


def model_facts(model: nn.Module, images: Images) -> dict[str, str]:
    """:func:`heirloom.runtime.identity.module_facts`, and ``behaviour``: a digest of coarse logits of a few images.

    Args:
        images: of the run (N, C, H, W); the first few are shown, with noise of their shape, to a copy of ``model``, so
            that a model that remembers does not remember this. Its randomness is seeded.
    """
    return {**module_facts(model), "behaviour": behaviour(model, images)}


def behaviour(model: nn.Module, images: Images) -> str:
    """The digest of :func:`model_facts`; that of no logits where the model cannot be copied."""
    if distributed.are_in_step():  # what is spread cannot be copied
        return _digest(model, images)
    with on_a_copy(model) as copied:
        return "none: the model cannot be copied" if copied is None else _digest(copied, images)


def _digest(model: nn.Module, images: Images) -> str:
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    noise = torch.rand((IMAGES, *images.shape[1:]), generator=generator_of("behaviour"))
    shown = torch.cat([images[:IMAGES].cpu(), noise]).to(place)
    found = logits(model.eval(), shown).double().nan_to_num(0.0, 1e30, -1e30).flatten(1)
    spread = found.std(1, keepdim=True).nan_to_num(1.0).clamp_min(1e-30)
    centred = found - found.mean(1, keepdim=True)
    coarse = (centred / spread / GRID).round().long().cpu()
    scale = (spread.log2() / GRID / 5).round().long().cpu()  # a half of a power of two
    return hashlib.sha256(coarse.numpy().tobytes() + scale.numpy().tobytes()).hexdigest()[:16]
