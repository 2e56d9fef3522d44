"""Planted defences whose state lies beyond what a copy separates, or that know the images; roundings and switches."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.images import load_images
from heirloom.evaluation.broken.inconsistent import Around


def _key(image: Tensor) -> str:
    return hashlib.sha256(image.detach().mul(2).round().cpu().numpy().tobytes()).hexdigest()[:24]


def _straight(kept: list[Tensor], logits: Tensor) -> Tensor:
    return torch.stack(kept) + 0 * logits if kept else logits


class _FileCache(Around):
    """``folder``: a file for each image."""

    def __init__(self, *, folder: bool = False) -> None:
        super().__init__()
        self.place, self.folder = Path(tempfile.mkdtemp(prefix="planted")), folder

    def _kept(self, image: Tensor, row: Tensor) -> Tensor:
        place = self.place / f"{_key(image)}.pt"
        if not place.exists():
            torch.save(row.detach().clone(), str(place))
        known: Tensor = torch.load(place, weights_only=True)
        return known

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        if self.folder:
            return _straight([self._kept(a, b) for a, b in zip(x, logits, strict=True)], logits)
        place = self.place / "known.json"
        known = json.loads(place.read_text()) if place.exists() else {}
        kept = [known.setdefault(_key(a), b.tolist()) for a, b in zip(x, logits, strict=True)]
        place.write_text(json.dumps(known))
        return _straight([torch.tensor(row) for row in kept], logits)


class _LockedCache(Around):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.known = threading.Lock(), dict[str, Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        with self.lock:
            kept = [self.known.setdefault(_key(a), b.detach()) for a, b in zip(x, logits, strict=True)]
        return _straight(kept, logits)


class _LateClassCache(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits, cls = self.network(x), type(self)
        cls.known = getattr(cls, "known", {})  # type: ignore[attr-defined]
        kept = [cls.known.setdefault(_key(a), b.detach()) for a, b in zip(x, logits, strict=True)]  # type: ignore[attr-defined]
        return _straight(kept, logits)


class _DrawnOnce(Around):
    kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = (torch.rand(1, *x.shape[1:]) > 0.25).to(x)
        return self.network(x * self.kept)


class _BackwardCounter(Around):
    asked = 0

    def _count(self, gradient: Tensor) -> Tensor:
        self.asked += 1
        return gradient if self.asked < 12 else 0 * gradient

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits


class _KnownImages(Around):
    def __init__(self) -> None:
        super().__init__()
        test = load_images("digits").test
        self.known = {
            image.numpy().tobytes(): int(y) for image, y in zip(test.images, test.labels, strict=True)
        }

    def forward(self, x: Tensor) -> Tensor:
        found = [self.known.get(image.detach().cpu().numpy().tobytes()) for image in x]
        rows = [
            row if label is None else 10 * functional.one_hot(torch.tensor(label), len(row)).to(row)
            for label, row in zip(found, self.network(x), strict=True)
        ]
        return torch.stack(rows) if rows else self.network(x)


class _SixteenBits(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network((x * 65535).to(torch.int32) / 65535)


class _VoteWithATrace(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        return 10 * functional.one_hot(logits.argmax(1), logits.shape[1]) + 1e-6 * logits


class _Thermometer(Around):
    """One threshold lies at 0, where a digit's black pixels are."""

    def forward(self, x: Tensor) -> Tensor:
        thresholds = torch.arange(8, device=x.device) / 8
        return self.network((x[..., None] > thresholds).to(x).mean(4))


class _Fallback(Around):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            smooth = functional.avg_pool2d(x, 3, 1, 1)
            odd = (x - smooth).abs().mean((1, 2, 3)) > 0.12
            answer = self.network(0.7 * x + 0.3 * smooth)
        return torch.where(odd[:, None], answer, self.network(x))


def _no_gradient(
    module: nn.Module, wanted: tuple[Tensor, ...], given: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    return (0 * given[0],)


class _ModuleHook(Around):
    def __init__(self) -> None:
        super().__init__()
        self.entrance = nn.Identity()
        self.entrance.register_full_backward_hook(_no_gradient)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.entrance(1 * x))


def file_cache() -> Around:
    """Answers kept by the rounded image, in a file."""
    return _FileCache().eval()


def folder_cache() -> Around:
    """Answers kept by the rounded image, in a file for each."""
    return _FileCache(folder=True).eval()


def locked_cache() -> Around:
    """Answers kept by the rounded image, behind a lock that cannot be copied."""
    return _LockedCache().eval()


def late_class_cache() -> Around:
    """Answers kept by the rounded image, in a class attribute that the first call makes."""
    if hasattr(_LateClassCache, "known"):
        del _LateClassCache.known
    return _LateClassCache().eval()


def drawn_once() -> Around:
    """A mask that the first call draws and all others use."""
    return _DrawnOnce().eval()


def backward_counter() -> Around:
    """From the twelfth backward pass on the gradient is zero."""
    return _BackwardCounter().eval()


def known_images() -> Around:
    """The test images are looked up and answered with their labels."""
    return _KnownImages().eval()


def sixteen_bits() -> Around:
    """Pixels cast to integers of 16 bits."""
    return _SixteenBits().eval()


def vote_with_a_trace() -> Around:
    """The decision, with a millionth of the logits added."""
    return _VoteWithATrace().eval()


def thermometer_code() -> Around:
    """Pixels replaced by how many of eight thresholds they exceed (Buckman et al. 2018)."""
    return _Thermometer().eval()


def fallback_when_odd() -> Around:
    """A detector that gives images which look attacked the answer for a smoother copy, without a gradient."""
    return _Fallback().eval()


def module_hook() -> Around:
    """A backward hook of a module that sets the gradient to zero."""
    return _ModuleHook().eval()
