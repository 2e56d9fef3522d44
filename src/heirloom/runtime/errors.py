"""The one kind of error that a user's wrong input raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, NoReturn


class InputError(ValueError):
    """A wrong input, told in one sentence: the argument, what is allowed, what came.

    The library names its arguments (``batch_size``); the command line says the option instead (``--batch-size``),
    prints the sentence and exits with status 2.

    >>> raise InputError("eps", "a number above 0", -1)
    Traceback (most recent call last):
    heirloom.runtime.errors.InputError: eps must be a number above 0, got -1.
    """

    def __init__(self, argument: str, allowed: str, got: Any) -> None:
        super().__init__(argument, allowed, got)  # all three, so that it can be pickled
        self.argument, self.allowed, self.got = argument, allowed, got

    def __str__(self) -> str:
        return self.sentence(self.argument)

    def sentence(self, name: str) -> str:
        """The sentence with the argument called ``name``."""
        return f"{name} must be {self.allowed}, got {_shown(self.got)}."


def reject(argument: str, allowed: str, got: Any) -> NoReturn:
    """Raise :class:`InputError` for ``argument``."""
    raise InputError(argument, allowed, got)


def require(holds: bool, argument: str, allowed: str, got: Any) -> None:
    """Raise :class:`InputError` unless ``holds``."""
    if not holds:
        raise InputError(argument, allowed, got)


@contextmanager
def renamed(**names: str) -> Iterator[None]:
    """Errors from inside about an argument are about the caller's of another name: ``renamed(model="encoder")``."""
    try:
        yield
    except InputError as error:
        name = names.get(error.argument, error.argument)
        raise InputError(name, error.allowed, error.got) from error


def _shown(got: Any) -> str:
    text = str(got) if isinstance(got, str | PurePath) else repr(got)
    text = " ".join(text.split()).removesuffix(".")
    return text if len(text) <= 240 else text[:237] + "..."


class TrainingError(RuntimeError):
    """Training that cannot go on (a loss that is not finite, say), told in one sentence."""


def out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch and NumPy say that memory has run out, on a GPU or on the CPU."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said
