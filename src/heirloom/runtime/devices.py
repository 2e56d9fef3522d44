"""Devices and precision, by Hugging Face Accelerate."""

from __future__ import annotations

from typing import Any

import torch

from heirloom.runtime.choices import MixedPrecision
from heirloom.runtime.errors import InputError


def make_accelerator(device: str, mixed_precision: MixedPrecision = "no") -> Any:
    """An Accelerator on ``device``; under ``torchrun`` it joins the process group."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    wanted = torch_device(device)
    AcceleratorState._reset_state(reset_partial_state=True)  # it is a singleton, and precision may differ
    return Accelerator(cpu=wanted.type == "cpu", mixed_precision=mixed_precision)


def autocast_as(precision: MixedPrecision, device: torch.device) -> Any:
    """Autocast in the type of ``precision``, for passes that go round the forward that Accelerate wraps."""
    kind = {"no": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, kind, enabled=precision != "no")


def torch_device(device: str) -> torch.device:
    """``device`` as torch has it, ``auto`` the fastest here; :class:`InputError` where this machine lacks it."""
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        wanted = torch.device(device)
        if wanted.type in ("meta", "lazy"):  # they hold no numbers
            raise NotImplementedError
        if wanted.type != "cpu":
            torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, NotImplementedError):
        usable = ["auto", "cpu"] + (["cuda"] if torch.cuda.is_available() else [])
        raise InputError("device", f"one of {', '.join(usable)} here", device) from None
    return wanted
