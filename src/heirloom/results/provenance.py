"""Where a result comes from: its command, versions, commit, device and seconds."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from heirloom.results.schema import Summary, to_plain


class Stopwatch:
    """Starts when made; ``summary(...)`` stamps a :class:`Summary` with time, versions and commit."""

    def __init__(self, command: str | None = None) -> None:
        self._started = time.perf_counter()
        self._command = command or shown_command()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def summary(
        self,
        *,
        seed: int,
        rows: list[dict[str, Any]],
        device: str = "cpu",
        settings: dict[str, Any] | None = None,
        details: dict[str, Any] | None = None,
        earlier_seconds: float = 0.0,
    ) -> Summary:
        """``earlier_seconds``: what an interrupted run had already spent, added to this one's time."""
        return Summary(
            command=self._command,
            seed=seed,
            device=device_name(device),
            threads=thread_count(),
            versions=versions(),
            commit=commit(),
            seconds=round(earlier_seconds + self.seconds, 2),
            settings=to_plain(settings or {}),
            rows=to_plain(rows),
            details=to_plain(details or {}),
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
