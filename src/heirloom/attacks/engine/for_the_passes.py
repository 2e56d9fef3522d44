"""What the attacks' passes go through in a model's place. Verdicts are passed on the model itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.compiled import compiled
from heirloom.attacks.engine.folding import folded
from heirloom.attacks.engine.low_precision import low_precision


def for_the_passes(
    model: nn.Module, x: Tensor, dtype: torch.dtype | None, *, compile: bool = False
) -> nn.Module:
    """The same function at less cost, or ``model`` itself; ``dtype`` None: in its own. ``x``: a few images."""
    copy = folded(model, x)
    copy = copy if dtype is None else low_precision(copy, x, dtype)
    return compiled(copy, x) if compile else copy
