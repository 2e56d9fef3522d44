"""The model in bfloat16 (or float16), for the attacks' passes: several times faster where the hardware multiplies
matrices in that type (GPUs; CPUs with AMX). Verdicts are passed on the model itself.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

TOLERANCE = 0.1  # of the largest logit: what rounding may do, and a broken conversion exceeds


def low_precision(model: nn.Module, x: Tensor, dtype: torch.dtype) -> nn.Module:
    """A module that takes float32 pixels, computes in ``dtype`` and returns float32 logits.

    Args:
        model: in eval mode; it is not changed. x: a few images, to check the copy with.

    Returns:
        a copy of ``model`` converted as a whole, channels last, if it runs and its logits on ``x`` are within a
        tenth of the largest of the model's own; else ``model`` under autocast, which leaves to float32 what
        does not bear conversion; ``model`` itself where that fails too (an operation without a kernel).
    """
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        candidate = Converted(model, dtype)
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            state = torch.random.get_rng_state()
            expected = model(x).float()
            torch.random.set_rng_state(state)
            apart = (candidate(x) - expected).abs().max()
    except Exception:  # whatever a foreign model's conversion meets: autocast is made for it
        return _under_autocast(model, x, dtype)
    close = bool(apart <= TOLERANCE * expected.abs().max().clamp_min(1e-12))
    return candidate if close else _under_autocast(model, x, dtype)


def _under_autocast(model: nn.Module, x: Tensor, dtype: torch.dtype) -> nn.Module:
    """The model under autocast, or as it is where some operation has no kernel for ``dtype`` even so."""
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            (candidate := Autocast(model, dtype))(x)
    except Exception:  # speed is all that is lost
        return model
    return candidate


class InDtype(nn.Module):
    """``model`` in ``dtype``: takes float32 pixels, returns float32 logits, computes in between in ``dtype``."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.to(self.dtype)).float()


class Converted(InDtype):
    """For passes alone: weights that need no gradient, images and filters channels last, and on the CPU attention
    whose backward pass is not slow."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__(model, dtype)
        self.model.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        with _PlainAttention() if x.device.type == "cpu" else nullcontext():
            return super().forward(x.contiguous(memory_format=torch.channels_last))


class Autocast(nn.Module):
    """The model under autocast, which casts weights and activations at every layer."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.dtype):
            return self.model(x).float()


class _PlainAttention(TorchFunctionMode):
    """Attention as two matrix products and a softmax.

    On the CPU the backward pass of torch's fused bfloat16 attention takes 12 times as long as the forward pass
    (torch 2.13, 65 tokens), three quarters of a ViT's whole step.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.interpolate and args[0].dtype != torch.float32:  # no kernel with antialiasing
            out: Tensor = func(args[0].float(), *args[1:], **kwargs)
            return out.to(args[0].dtype)
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    **other: Any,
) -> Tensor:
    if attn_mask is not None or dropout_p or is_causal or any(other.values()):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **other
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return ((query * scale) @ key.transpose(-2, -1)).softmax(-1) @ value
