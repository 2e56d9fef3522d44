"""The one kind of error that a user's wrong input raises."""

from __future__ import annotations

from typing import Any, NoReturn


class InputError(ValueError):
    """A wrong input, told in one sentence: the argument, what is allowed, what came.

    The command line prints the sentence and exits with status 2.
    """


def reject(argument: str, allowed: str, got: Any) -> NoReturn:
    """Raise :class:`InputError` for ``argument``.

    >>> reject("eps", "a number above 0", -1)
    Traceback (most recent call last):
    heirloom.runtime.errors.InputError: eps must be a number above 0, but -1 came.
    """
    raise InputError(f"{argument} must be {allowed}, but {_shown(got)} came.")


def require(holds: bool, argument: str, allowed: str, got: Any) -> None:
    """Raise :class:`InputError` unless ``holds``."""
    if not holds:
        reject(argument, allowed, got)


def _shown(got: Any) -> str:
    text = got if isinstance(got, str) else repr(got)
    text = " ".join(text.split())
    return text if len(text) <= 120 else text[:117] + "..."


class TrainingError(RuntimeError):
    """Training that cannot go on (a loss that is not finite, say), told in one sentence."""
