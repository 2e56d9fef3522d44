"""A model in another floating-point type, attacked and judged as it would run."""

from __future__ import annotations

import torch
from torch import nn

from heirloom.attacks.engine.low_precision import InDtype
from heirloom.runtime.errors import require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_named(name: str) -> torch.dtype:
    require(name in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", name)
    return DTYPES[name]


def in_dtype(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of ``model`` in ``dtype``; the model itself where it computes in float32 and is to."""
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return model if dtype == own == torch.float32 else InDtype(model, dtype)
