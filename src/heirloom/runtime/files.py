"""Files that are either whole or absent: written aside, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from heirloom.runtime.errors import InputError, require


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_place(path: Path, argument: str, *, is_file: bool = False) -> None:
    """Raise :class:`InputError` unless the folder (or file) ``path`` is there or can be made; nothing is left."""
    kind = "file" if is_file else "folder"
    if path.exists():
        allowed = f"a {kind}, or the place of a new one"
        require(path.is_file() if is_file else path.is_dir(), argument, allowed, f"{path}, which is none")
    places = path.absolute().parents if is_file else (path, *path.absolute().parents)
    above = next(p for p in places if p.is_dir() or os.path.lexists(p))
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise InputError(
            argument, f"a place where a {kind} can be written", f"{path}: {error.strerror}"
        ) from None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was still writing under ``folder``."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON of ``path``; :class:`InputError` where it is missing or corrupt."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(str(path), "a JSON file", "no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(str(path), "a JSON file", str(error)) from None


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; ``metadata`` goes into its header."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(stored, dict(metadata or {})))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors (on the CPU) and the metadata of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(str(path), "a safetensors file", "no such file") from None
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), "a safetensors file", str(error)) from None
