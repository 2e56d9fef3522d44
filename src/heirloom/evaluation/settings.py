"""What ``heirloom evaluate`` is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from heirloom.attacks.named import attack_list
from heirloom.runtime.errors import require
from heirloom.threat import Threat


@dataclass(frozen=True)
class EvaluationSettings:
    """What ``heirloom evaluate`` was asked for.

    Attributes:
        attack_dtype: of the attacks' passes; ``"auto"``: the faster of float32 and bfloat16, measured
            (:mod:`heirloom.evaluation.pass_dtype`). compile: them. audit_examples: 0: no audit.
        fsdp: spread the frozen model's weights over the processes (:mod:`heirloom.models.sharded`).
        draws: None: 20 for a random model that is attacked adaptively.
    """

    name: str
    data: str
    threat: Threat
    attacks: tuple[str, ...]
    batch_size: int | None = None
    seed: int = 0
    seeds: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    attack_dtype: torch.dtype | Literal["auto"] | None = None
    compile: bool = False
    fsdp: bool = False
    audit_examples: int = 64
    limit: int | None = None
    adaptive: bool = False
    bpda: tuple[str, ...] = ()
    draws: int | None = None

    def __post_init__(self) -> None:
        attack_list(self.attacks)
        size = self.batch_size
        require(size is None or size >= 1, "batch_size", "at least 1", size)
        require(self.seeds >= 1, "seeds", "at least 1", self.seeds)
