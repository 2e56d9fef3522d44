"""How many images go through a model at once: what memory there is, and on a CPU what is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from heirloom.data.pixels import BATCH_BYTES
from heirloom.runtime import distributed
from heirloom.runtime.processors import free_memory

MOST = 256
SHARE = 0.5  # of the free memory: others work here too
BACKWARD = 2.0  # times what a forward pass allocates: what is saved for the backward pass, and its gradients
LARGE = 24 << 20  # bytes an image in a forward pass, from which a CPU is faster with few images ...
FAST = 256 << 20  # ... so many that they allocate about this much
_ASKED: ContextVar[int | None] = ContextVar("asked", default=None)


class Allocated(TorchDispatchMode):
    """Counts the bytes that the operations inside allocate: all that a forward pass could keep for a backward one."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        given = {_storage(value) for value in args if isinstance(value, Tensor)}
        for value in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(value, Tensor) and _storage(value) not in given:
                self.bytes += value.numel() * value.element_size()
        return made


def _storage(value: Tensor) -> int:
    """Which storage a tensor lies in. Tensors inside ``torch.func`` have one without an address; sparse ones none."""
    with suppress(NotImplementedError):
        return value.untyped_storage()._cdata
    return id(value)


@torch.no_grad()
def bytes_per_image(model: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """What a forward pass of ``model`` allocates for one of the images ``x`` (n, C, H, W), which it is shown once."""
    with Allocated() as allocated:
        model(x)
    return allocated.bytes // max(1, len(x))


def at_once(each: int, device: torch.device, most: int = MOST, image: int = 0) -> int:
    """How many images, at most ``most``, of which a forward pass allocates ``each`` bytes, go together forwards and
    backwards; a power of two where it is fewer. At least 1: what does not fit then is halved, or does not fit at all.

    ``image``: bytes of one as float32; on a CPU a batch of them stays within :data:`BATCH_BYTES`.
    """
    fits, room = most, _room(device)
    if room is not None:
        fits = min(fits, int(SHARE * room / (BACKWARD * max(1, each))))
    if device.type == "cpu" and image:
        fits = min(fits, BATCH_BYTES // image)
    if device.type == "cpu" and each >= LARGE:
        fits = min(fits, max(8, FAST // each))
    return most if fits >= most else max(1, 1 << (max(1, fits).bit_length() - 1))


@contextmanager
def at_most(size: int | None) -> Iterator[None]:
    """Inside, :func:`fitting` finds ``size``, which the user asked for, whatever the memory says; None: as before."""
    token = _ASKED.set(size or _ASKED.get())
    try:
        yield
    finally:
        _ASKED.reset(token)


def fitting(model: Callable[[Tensor], Tensor], x: Tensor, most: int = MOST) -> int:
    """:func:`at_once` for ``model``, shown the images ``x`` once; ``most`` where it cannot be told. Processes that go
    in step take what fits into each of them.
    """
    asked, found = _ASKED.get(), most
    if asked is not None:
        return min(asked, most)
    with suppress(RuntimeError, NotImplementedError):
        found = at_once(bytes_per_image(model, x), x.device, most, 4 * x[0].numel())
    return distributed.least(found) if distributed.are_in_step() else found


def _room(device: torch.device) -> int | None:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory()
