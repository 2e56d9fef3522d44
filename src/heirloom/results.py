"""The one JSON schema of a result. Every table, figure and page is made from such files alone."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from heirloom.errors import InputError
from heirloom.files import read_json, write_text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Proportion(_Strict):
    """A share of ``n`` examples with its 95 % interval (see ``heirloom.evaluation.statistics``)."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Proportion:
        if not self.low <= self.value <= self.high:
            raise ValueError("low <= value <= high must hold")
        return self

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


class Difference(_Strict):
    """A difference of two shares of the same ``n`` examples with its 95 % interval."""

    value: float = Field(ge=-1, le=1)
    low: float = Field(ge=-1, le=1)
    high: float = Field(ge=-1, le=1)
    n: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


class Mean(_Strict):
    """A mean over ``n`` repeats (seeds, say) with their standard deviation."""

    value: float
    sd: float = Field(ge=0)
    n: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.sd:.2g}"


class Summary(_Strict):
    """What a command measured, and everything that is needed to measure it again.

    ``rows`` are the figures: mappings of names to numbers, texts, :class:`Proportion` or :class:`Mean`. A
    paper's figure stands beside ours under ``"paper"``. ``details`` holds what a page draws besides
    (curves, images as data URIs, audits); ``commit`` is None outside a git checkout.
    """

    command: str
    seed: int
    device: str
    threads: int
    versions: dict[str, str]
    commit: str | None
    seconds: float = Field(ge=0)
    settings: dict[str, Any] = {}
    rows: list[dict[str, Any]]
    details: dict[str, Any] = {}

    def write(self, path: Path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read and validate ``path``; :class:`InputError` in one sentence where it is not a summary."""
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(f"{path} must be a result summary, but {place}: {first['msg']}.") from None


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
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


def device_name(device: str) -> str:
    """``cpu`` with the processor's name, or the GPU's own name."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.processor() or platform.machine()})"


def thread_count() -> int:
    import torch

    return torch.get_num_threads()


def shown_command() -> str:
    """The command line as the user typed it, the program by its bare name (``python -m`` as such)."""
    import shlex

    run_as_module = getattr(sys.modules["__main__"], "__spec__", None)
    if run_as_module is None:
        return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return shlex.join(["python", "-m", run_as_module.name.removesuffix(".__main__"), *sys.argv[1:]])


def to_plain(value: Any) -> Any:
    """``value`` as JSON gives it back: tuples are lists, models mappings, paths texts."""
    return json.loads(json.dumps(to_jsonable_python(value), allow_nan=False))
