"""Training checkpoints: one safetensors file, whole or absent, that holds no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.identity import check_same


@dataclass
class TrainingState:
    """What a checkpoint holds besides the tensors."""

    step: int = 0
    seconds: float = 0.0
    first_loss: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)


def shapes_of(model: nn.Module) -> dict[str, list[int]]:
    """The shapes of a model's state, one of the facts that a run must share with a checkpoint to resume it."""
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: Any, state: TrainingState, facts: dict[str, Any]
) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    write_tensors(path, tensors, {"state": json.dumps(asdict(state)), "facts": json.dumps(facts)})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> TrainingState:
    tensors, metadata = read_tensors(path)
    check_same(json.loads(metadata.get("facts", "null")), facts, path)
    weights = {
        name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")
    }
    model.load_state_dict(weights)
    stored: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".", 2)
            stored.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": stored, "param_groups": optimizer.state_dict()["param_groups"]})
    _lay_out(optimizer)
    return TrainingState(**json.loads(metadata["state"]))


def _lay_out(optimizer: torch.optim.Optimizer) -> None:
    """Slots laid out in memory as their weights are: fused AdamW reads both as they lie, and a channels-last filter
    would be moved by another one's momentum.
    """
    for parameter, slots in optimizer.state.items():
        for name, slot in slots.items():
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slots[name] = torch.empty_like(parameter).copy_(slot)
