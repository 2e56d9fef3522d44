"""What no option may be given, whatever its command: nothing, a number beyond all bounds, one that is none."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import typer

from heirloom.runtime.errors import require

EMPTY_IS_NONE = ("compare", "pretrain_eps", "shares")  # options that say so
MOST = 2**63 - 1  # of a tensor's sizes and of a generator's seed


FOLDERS, FILES = ("out",), ("onnx", "program", "html", "picture")  # that a command writes
typed: dict[str, tuple[str, ...]] = {}  # the words that came, by the option as it is called


@cache
def command_of(app: typer.Typer) -> Any:
    """The command line of ``app``, each of its options checked as soon as it is read."""
    command: Any = typer.main.get_command(app)
    for parameter in {id(found): found for found in parameters_of(command)}.values():  # some are shared
        if not getattr(parameter, "is_flag", False):
            parameter.process_value = partial(_checked, parameter, parameter.process_value)
    return command


def parameters_of(command: Any) -> Iterator[Any]:
    """Every option and argument of ``command`` and of those below it."""
    yield from command.params
    for below in getattr(command, "commands", {}).values():
        yield from parameters_of(below)


def _checked(parameter: Any, read: Callable[[Any, Any], Any], context: Any, words: Any) -> Any:
    each = words if isinstance(words, (list, tuple)) else [words]
    if parameter.name not in EMPTY_IS_NONE:
        require("" not in each, parameter.name, "given or left out", "an empty text")
    typed[called(parameter)] = tuple(str(word) for word in each if word is not None)
    value = read(context, words)
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, float):
            require(math.isfinite(one), parameter.name, "a finite number", one)
        elif isinstance(one, int):
            require(-MOST <= one <= MOST, parameter.name, f"at most {MOST}", one)
        elif isinstance(one, Path) and parameter.name in FOLDERS + FILES:
            from heirloom.runtime.files import check_place

            check_place(one, parameter.name, is_file=parameter.name in FILES)
        elif isinstance(one, Path):
            require(
                one.exists(), parameter.name, "an existing file or folder", f"{one}, which does not exist"
            )
    return value


def called(parameter: Any) -> str:
    """An option as it is typed, an argument as help shows it: ``--out``, ``FOLDER``."""
    return max(parameter.opts, key=len) if parameter.opts[0].startswith("-") else parameter.name.upper()


def owner_of(path: str) -> tuple[str, str]:
    """(the option whose value holds ``path``, ``path`` inside that value); two empty texts where there is none."""
    path = os.path.normpath(path)
    for name, values in typed.items():
        for value in map(os.path.normpath, values):
            if path == value or path.startswith(value + "/"):
                return name, os.path.relpath(path, value) if path != value else ""
    return "", ""
