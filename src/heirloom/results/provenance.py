"""Where a result comes from: its command, versions, commit, device and seconds."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from heirloom.results.schema import DataUsed, Summary, to_plain
from heirloom.runtime.given import GIVEN
from heirloom.threat import Threat


class Stopwatch:
    """Starts when made; ``summary(...)`` stamps a :class:`Summary` with time, versions and commit."""

    def __init__(self, command: str | None = None) -> None:
        self._started = time.perf_counter()
        given = GIVEN.get()
        self._command = command or (given and given.command) or shown_command()
        self._options = {} if given is None else given.options

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def summary(
        self,
        kind: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        seed: int,
        device: str = "cpu",
        threat: Threat | None = None,
        data: DataUsed | None = None,
        settings: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        earlier_seconds: float = 0.0,
    ) -> Summary:
        """``earlier_seconds``: what an interrupted run had already spent, added to this one's time."""
        return Summary(
            kind=kind,
            command=self._command,
            seed=seed,
            device=device_name(device),
            threads=thread_count(),
            versions=versions(),
            commit=commit(),
            seconds=round(earlier_seconds + self.seconds, 2),
            threat=threat,
            data=data,
            settings=to_plain(dict(settings or {})),
            options=to_plain(dict(self._options)),
            rows=to_plain(list(rows)),
            details=to_plain(dict(details or {})),
        )


def versions() -> dict[str, str]:
    """Versions of Python, heirloom and the libraries that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in ("heirloom-robust", "torch", "numpy", "transformers", "accelerate", "kornia"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The git commit of the heirloom source tree, ``+dirty`` where it has uncommitted changes."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+dirty", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def device_name(device: str) -> str:
    """``cpu`` with the processor's name, or the GPU's own name."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()})"


def thread_count() -> int:
    return torch.get_num_threads()


def shown_command() -> str:
    """The command line as the user typed it, the program by its bare name (``python -m`` as such)."""
    run_as_module = getattr(sys.modules["__main__"], "__spec__", None)
    if run_as_module is None:
        return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return shlex.join(["python", "-m", run_as_module.name.removesuffix(".__main__"), *sys.argv[1:]])
