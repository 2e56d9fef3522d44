"""Seeds: every random draw comes from a generator made from one, never from torch's global state."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*parts: object) -> int:
    """A seed of 63 bits from any printable parts, the same on every machine and run."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator_of(*parts: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator on ``device`` seeded by :func:`seed_of` ``(*parts)``."""
    return torch.Generator(device).manual_seed(seed_of(*parts))
