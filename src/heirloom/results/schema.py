"""The one JSON schema of a result. Every table, figure and page is made from such files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_json, write_text
from heirloom.threat import Threat


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Proportion(_Strict):
    """A share of ``n`` examples with its 95 % interval (see ``heirloom.results.statistics``)."""

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


class DataUsed(_Strict):
    """The images behind a result: the source's name, how many were used, and a digest of pixels and labels."""

    name: str
    train: int = Field(ge=0)
    test: int = Field(ge=0)
    digest: str

    def __str__(self) -> str:
        return f"{self.name}: {self.train} training, {self.test} test images"


class Summary(_Strict):
    """What a command measured, and everything that is needed to measure it again.

    ``kind`` says which page draws it (see ``heirloom.report.pages``); ``threat`` and ``data`` are None where there
    is no attack or no image. ``rows`` are the figures: mappings of names to numbers, texts, :class:`Proportion`
    or :class:`Mean`; a paper's figure stands beside ours under ``"paper"``. ``options`` are the command's words (under
    ``"command"``) and every option's value, so that the run can be repeated; ``details`` holds what a page draws
    besides (curves, images as data URIs, audits); ``commit`` is None outside a git checkout.
    """

    kind: str
    command: str
    seed: int
    device: str
    threads: int
    versions: dict[str, str]
    commit: str | None
    seconds: float = Field(ge=0)
    threat: Threat | None = None
    data: DataUsed | None = None
    settings: dict[str, Any] = {}
    options: dict[str, Any] = {}
    rows: list[dict[str, Any]]
    details: dict[str, Any] = {}

    def write(self, path: Path) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Summary:
        """Read and validate ``path``; :class:`InputError` in one sentence where it is not a summary."""
        path = Path(path)
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(str(path), "a result summary", f"{place}: {first['msg']}") from None


def to_plain(value: Any) -> Any:
    """``value`` as JSON gives it back: tuples are lists, models mappings, paths texts."""
    return json.loads(json.dumps(to_jsonable_python(value), allow_nan=False))
