"""Whether a setting is of the kind that it is declared to be: the first thing asked of every settings object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from heirloom.runtime.errors import require

WORDS: dict[Any, tuple[type, str, str]] = {  # what is taken for it, in words, and several of them
    bool: (bool, "True or False", "True or False each"),
    int: (Integral, "a whole number", "whole numbers"),
    float: (Real, "a number", "numbers"),
    str: (str, "a text", "texts"),
}


def check_kinds(settings: Any) -> None:
    """Raise :class:`InputError` for the first field of a dataclass that is not of its declared kind.

    Whole numbers, numbers, texts, True and False, tuples of these and other settings are looked at; what a field's
    words or range may be, its class says after this. Numbers of numpy become Python's (:func:`plain`).
    """
    kind: Any = type(settings)
    hints = _hints(kind)
    for field in fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        require(_fits(value, hint), field.name, _said(hint), repr(value))
        object.__setattr__(settings, field.name, plain(value))


def plain(value: Any) -> Any:
    """The same value, and of one of numpy's numbers, alone or in a sequence, Python's: those are no JSON."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value)) if type(value) in (tuple, list) else value
    if type(value) in (bool, int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def require_kind(value: Any, kind: type, argument: str) -> None:
    """Raise :class:`InputError` unless ``value`` is a ``kind``: for the arguments of the public functions."""
    told = value if isinstance(value, str) or value is None else type(value).__name__
    require(isinstance(value, kind), argument, _one(kind.__name__), told)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint in WORDS:
        return isinstance(value, WORDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else list(parts)
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if isinstance(hint, type) and (hint is NoneType or is_dataclass(hint)):
        return isinstance(value, hint)
    return True  # a list of choices, or a class that only its owner knows


def _said(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_said(part) for part in get_args(hint) if part is not NoneType)
    if hint in WORDS:
        return WORDS[hint][1]
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        several = WORDS[first][2] if first in WORDS else "words"
        return f"a tuple of {several}" if Ellipsis in rest else f"a tuple of {1 + len(rest)} {several}"
    return _one(getattr(hint, "__name__", "word"))


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIO' else 'a'} {noun}"
