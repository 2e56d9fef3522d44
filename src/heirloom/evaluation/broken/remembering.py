"""Planted defences whose state no copy of the model separates, or whose answer depends on who asks and when."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from heirloom.evaluation.broken.inconsistent import Around

KNOWN: dict[bytes, Tensor] = {}
DRAWS = np.random.default_rng(0)


def _coarse(image: Tensor) -> bytes:
    return image.detach().mul(2).round().cpu().numpy().tobytes()


def _kept(known: dict[bytes, Tensor], x: Tensor, logits: Tensor) -> Tensor:
    kept = [known.setdefault(_coarse(image), row.detach()) for image, row in zip(x, logits, strict=True)]
    return torch.stack(kept) + 0 * logits if kept else logits


class _GlobalCache(Around):
    def forward(self, x: Tensor) -> Tensor:
        return _kept(KNOWN, x, self.network(x))


class _ClassCache(Around):
    seen: dict[bytes, Tensor] = {}  # noqa: RUF012 - that all copies share it is what is planted

    def forward(self, x: Tensor) -> Tensor:
        return _kept(type(self).seen, x, self.network(x))


class _CachedFunction(Around):
    def __init__(self) -> None:
        super().__init__()
        self.shift = functools.lru_cache(None)(_counter())

    def forward(self, x: Tensor) -> Tensor:
        shifts = [self.shift(_coarse(image)) % 3 - 1 for image in x]
        return self.network(
            torch.stack([a.roll(s, 2) for a, s in zip(x, shifts, strict=True)]) if shifts else x
        )


def _counter() -> Callable[[bytes], int]:
    """Numbers its questions: what is asked first is 1."""
    asked = 0

    def number(question: bytes) -> int:
        nonlocal asked
        asked += 1
        return asked

    return number


class _ClosureCounter(Around):
    def __init__(self) -> None:
        super().__init__()
        self.count = _counter()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x if self.count(b"") % 2 else x.flip(3))


class _LateDefence(Around):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x if self.calls < 200 else x.detach())


class _WritesIntoInput(Around):
    def forward(self, x: Tensor) -> Tensor:
        x.data.mul_(0.9)
        return self.network(x)


class _ByTheClock(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.roll(int(time.time_ns() // 1000 % 3) - 1, 3))


class _ByItsHash(Around):
    def forward(self, x: Tensor) -> Tensor:
        digests = [hashlib.md5(image.detach().cpu().numpy().tobytes()).digest()[0] for image in x]
        moved = [image.roll(digest % 3 - 1, 2) for image, digest in zip(x, digests, strict=True)]
        return self.network(torch.stack(moved) if moved else x)


class _NumpyResizePad(Around):
    def forward(self, x: Tensor) -> Tensor:
        size = int(DRAWS.integers(6, 9))
        left = int(DRAWS.integers(0, 9 - size))
        return self.network(
            functional.pad(functional.interpolate(x, (size, size)), (left, 8 - size - left, 8 - size, 0))
        )


class _CallStack(Around):
    def forward(self, x: Tensor) -> Tensor:
        frame = sys._getframe()
        while frame is not None:
            if f"{os.sep}attacks{os.sep}" in frame.f_code.co_filename:
                return self.network(x.flip(3))
            frame = frame.f_back  # type: ignore[assignment]
        return self.network(x)


class _MemoryLayout(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x if x.storage_offset() == 0 and x.is_contiguous() else x.flip(3))


class _CentredLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return logits - logits.mean(0, keepdim=True)


class _Decimals(Around):
    def forward(self, x: Tensor) -> Tensor:
        return (self.network(x) * 10).round() / 10


class _SharpSoftmax(Around):
    def forward(self, x: Tensor) -> Tensor:
        return (100 * self.network(x)).softmax(1)


class _HalfRounded(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.cat([(3 * x[..., :4]).round() / 3, x[..., 4:]], 3))


class _SquashedLogits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return 5 * torch.tanh(1e4 * self.network(x))


class _Float16Backward(Around):
    def forward(self, x: Tensor) -> Tensor:
        return (self.network(x).half() * 1e-3).mul(1e-4).float() * 1e7


def global_cache() -> Around:
    """Answers kept by the rounded image, in a dictionary of the module."""
    KNOWN.clear()
    return _GlobalCache().eval()


def class_cache() -> Around:
    """Answers kept by the rounded image, in an attribute of the class."""
    _ClassCache.seen.clear()
    return _ClassCache().eval()


def cached_function() -> Around:
    """A shift by when the rounded image was first seen, in functools.lru_cache."""
    return _CachedFunction().eval()


def closure_counter() -> Around:
    """Every second call sees the image mirrored; the counter is a closure's."""
    return _ClosureCounter().eval()


def late_defence() -> Around:
    """From the two hundredth call on no gradient reaches the image."""
    return _LateDefence().eval()


def writes_into_input() -> Around:
    """Darkens the image that it is given, in place."""
    return _WritesIntoInput().eval()


def by_the_clock() -> Around:
    """A shift by the time of day."""
    return _ByTheClock().eval()


def by_its_hash() -> Around:
    """A shift by the digest of the image's bytes; nothing is drawn."""
    return _ByItsHash().eval()


def numpy_resize_pad() -> Around:
    """Resized and padded at random, drawn from a NumPy generator of the module."""
    return _NumpyResizePad().eval()


def call_stack() -> Around:
    """Mirrors the image when a file called attacks is among the callers."""
    return _CallStack().eval()


def memory_layout() -> Around:
    """Mirrors images that do not lie at the start of their memory, or in rows."""
    return _MemoryLayout().eval()


def centred_logits() -> Around:
    """The batch's mean logits are subtracted."""
    return _CentredLogits().eval()


def decimals() -> Around:
    """Logits rounded to one decimal."""
    return _Decimals().eval()


def sharp_softmax() -> Around:
    """Probabilities of a hundred times the logits."""
    return _SharpSoftmax().eval()


def half_rounded() -> Around:
    """Half of the pixels rounded to 4 levels."""
    return _HalfRounded().eval()


def squashed_logits() -> Around:
    """Logits through a tanh so steep that it is at its limits."""
    return _SquashedLogits().eval()


def float16_backward() -> Around:
    """Logits scaled down in float16 and up in float32: the backward pass overflows."""
    return _Float16Backward().eval()
