"""A model in another floating-point type, attacked and judged as it would run."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from heirloom.errors import require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class InDtype(nn.Module):
    """``model`` in ``dtype``: takes float32 pixels, returns float32 logits, computes in between in ``dtype``."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.to(self.dtype)).float()


def dtype_named(name: str, argument: str = "--dtype") -> torch.dtype:
    require(name in DTYPES, argument, f"one of {', '.join(DTYPES)}", name)
    return DTYPES[name]


def in_dtype(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of ``model`` in ``dtype``; the model itself for float32."""
    return model if dtype == torch.float32 else InDtype(model, dtype).train(model.training)
