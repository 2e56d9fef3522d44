"""What makes two runs the same: digests of tensors and modules, and the facts in which two runs differ."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_json, write_json

BLOCK = 1 << 26  # values that are hashed at once
WITHOUT_EFFECT = (
    "device",
    "checkpoint_seconds",
    "channels_last",
    "compile",
    "fsdp",
)  # settings that decide no number


def whole(tensor: Tensor) -> Tensor:
    """``tensor`` itself; of one that is spread over processes (a DTensor) all of it, for which all must ask."""
    gathered: Any = getattr(tensor, "full_tensor", None)
    return tensor if gathered is None else gathered()


def digest(*tensors: Tensor) -> str:
    """A digest of the tensors' shapes, types and bytes."""
    total = hashlib.sha256()
    for tensor in map(whole, tensors):
        total.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        for block in tensor.detach().reshape(-1).split(BLOCK):
            total.update(block.cpu().contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()[:32]


def module_facts(module: nn.Module) -> dict[str, str]:
    """``weights``: a digest of all parameters and buffers, those outside the state dict too. ``structure``: one of
    the layers as printed, sizes and settings included, which is also where a module says how it reads its
    weights (``extra_repr``).
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    state |= {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    names = hashlib.sha256(repr(sorted(state)).encode()).hexdigest()[:16]
    printed = re.sub(r" at 0x[0-9a-f]+", "", f"{type(module).__qualname__} {module!r}")
    if any(hasattr(value, "full_tensor") for value in state.values()):
        printed = re.sub(r"\bFSDP(?=[A-Z])", "", printed)  # what fully_shard calls the same classes
    return {
        "weights": f"{names}-{digest(*(state[name] for name in sorted(state)))}",
        "structure": hashlib.sha256(printed.encode()).hexdigest()[:32],
    }


def differing(stored: Any, now: Any, name: str = "") -> list[str]:
    """The facts that differ, by name: ``["model.pooling", "settings.epochs"]``; a fact that one side lacks differs."""
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        keys = dict.fromkeys([*now, *stored])
        pairs = ((stored.get(key, _ABSENT), now.get(key, _ABSENT), key) for key in keys)
        return [found for a, b, key in pairs for found in differing(a, b, f"{name}.{key}".lstrip("."))]
    return [] if stored == now else [name or "everything"]


def check_same(stored: Any, now: Any, place: object) -> None:
    """Raise :class:`InputError` that names what differs, unless the run ``stored`` at ``place`` is the one ``now``."""
    names = differing(stored, now)
    if names:
        raise InputError("resume", f"of the run in {place}", f"another {', '.join(names)}")


def open_marker(path: Path, facts: Mapping[str, Any], *, resume: bool, place: object) -> dict[str, Any]:
    """The marker file of a run: written where there is none, else checked to be of the same run.

    Raises:
        InputError: it is there and ``resume`` is off, or of a run with other facts.
    """
    if not path.exists():
        write_json(path, {"facts": facts})
        return {}
    if not resume:
        raise InputError("out", "a new folder unless resume is given", f"{place}, which holds a run")
    stored = read_json(path)
    if not isinstance(stored, dict) or "facts" not in stored:
        raise InputError(str(path), "the marker of a run", "something else")
    check_same(stored["facts"], facts, place)
    return stored


def deciding(settings: Any) -> dict[str, Any]:
    """The fields of a settings dataclass that decide the numbers, nested ones too."""
    return _without(asdict(settings), WITHOUT_EFFECT)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without(item, names) for key, item in value.items() if key not in names}


_ABSENT = object()
