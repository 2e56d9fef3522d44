"""Devices and precision, by Hugging Face Accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    known = "no" if mixed_precision == "tf32" else mixed_precision
    return Accelerator(cpu=wanted.type == "cpu", mixed_precision=known)


def autocast_as(precision: MixedPrecision, device: torch.device) -> Any:
    """Autocast in the type of ``precision``, for passes that go round the forward that Accelerate wraps."""
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision in ("bf16", "fp16"))


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Float32 products with 10 bits of fraction, on GPUs that can; afterwards as it was. Never in verdicts."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = wanted
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was


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
