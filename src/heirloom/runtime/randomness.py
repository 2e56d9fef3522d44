"""Seeds: every random draw comes from a generator made from one, never from torch's global state."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def seed_of(*parts: object) -> int:
    """A seed of 63 bits from any printable parts, the same on every machine and run."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator_of(*parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator on ``device`` seeded by :func:`seed_of` ``(*parts)``."""
    return torch.Generator(device).manual_seed(seed_of(*parts))


class SharedGenerator(torch.Generator):
    """The generator of one of ``count`` processes that share a batch, of which it holds ``[rank::count]``.

    With the same seed in every process, the draws below are those that one process would make for the whole
    batch, so what is trained does not depend on how many processes train it.
    """

    rank: int
    count: int


def shared_generator_of(
    *parts: object, rank: int, count: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """:func:`generator_of` for a process that holds every ``count``-th example, from the ``rank``-th on."""
    if count == 1:
        return generator_of(*parts, device=device)
    generator = SharedGenerator(device)
    generator.manual_seed(seed_of(*parts))
    generator.rank, generator.count = rank, count
    return generator


def uniform(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Uniform in [0, 1), one row for each example, on ``device``.

    Drawn on the generator's device, so a CPU generator draws the same for every device.
    """
    return _drawn(torch.rand, shape, generator, device)


def normal(shape: Sequence[int], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Standard normal, one row for each example, on ``device``; see :func:`uniform`."""
    return _drawn(torch.randn, shape, generator, device)


def integers(
    low: int, high: int, shape: Sequence[int], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Uniform in {low, ..., high - 1}, one row for each example, on ``device``; see :func:`uniform`."""
    return _drawn(lambda size, **at: torch.randint(low, high, size, **at), shape, generator, device)


def _drawn(
    draw: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    source = device if generator is None else generator.device
    if not isinstance(generator, SharedGenerator):
        return draw(tuple(shape), generator=generator, device=source).to(device)
    whole = draw((shape[0] * generator.count, *shape[1:]), generator=generator, device=source)
    return whole[generator.rank :: generator.count].to(device)
