"""Whether a setting or an argument is of the kind that it is declared to be: the first thing that every settings object
and every public function asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import signature
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from heirloom.runtime.errors import require

Asked = ParamSpec("Asked")
Given = TypeVar("Given")

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
        value = _of_its_kind(getattr(settings, field.name), hints[field.name], field.name)
        object.__setattr__(settings, field.name, value)


def kinds_checked(*others: str) -> Callable[[Callable[Asked, Given]], Callable[Asked, Given]]:
    """A public function whose arguments, all but ``others``, are looked at as :func:`check_kinds` looks at fields."""

    def checked(function: Callable[Asked, Given]) -> Callable[Asked, Given]:
        @wraps(function)
        def asked(*args: Asked.args, **kwargs: Asked.kwargs) -> Given:
            given, hints = signature(function).bind(*args, **kwargs), _hints(function)
            looked_at = [name for name in given.arguments if name in hints and name not in others]
            for name in looked_at:
                given.arguments[name] = _of_its_kind(given.arguments[name], hints[name], name)
            return function(*given.args, **given.kwargs)

        return asked

    return checked


def plain(value: Any) -> Any:
    """The same value, and of one of numpy's numbers, alone or in a sequence, Python's: those are no JSON."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value)) if type(value) in (tuple, list) else value
    if type(value) in (bool, int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _of_its_kind(value: Any, hint: Any, name: str) -> Any:
    require(_fits(value, hint), name, _said(hint), _told(value))
    return plain(value)


@cache
def _hints(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint in WORDS:
        return isinstance(value, WORDS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if get_origin(hint) in (tuple, Sequence):
        return _all_fit(value, get_args(hint), is_tuple=get_origin(hint) is tuple)
    if get_origin(hint) is Callable:
        return callable(value)
    if isinstance(hint, type) and hint is not Any:
        return isinstance(value, hint)
    return True  # a list of choices, which only its owner knows


def _all_fit(values: Any, parts: tuple[Any, ...], *, is_tuple: bool) -> bool:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return False
    any_number = not is_tuple or parts[-1] is Ellipsis
    kinds = [parts[0]] * len(values) if any_number else list(parts)
    return len(kinds) == len(values) and all(map(_fits, values, kinds))


def _said(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_said(part) for part in get_args(hint) if part is not NoneType)
    if hint in WORDS:
        return WORDS[hint][1]
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        return f"a tuple of {'' if Ellipsis in rest else f'{1 + len(rest)} '}{_several(first)}"
    if get_origin(hint) is Sequence:
        return f"a list of {_several(*get_args(hint))}"
    if get_origin(hint) is Callable:
        return "a function"
    home = getattr(hint, "__module__", "").removeprefix("torch.").split(".")[0]
    short = f"{home}." if home in ("nn", "torch") else ""
    return _one(short + getattr(hint, "__name__", "word"))


def _several(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_several, get_args(hint)))
    if hint in WORDS:
        return WORDS[hint][2]
    return f"{hint.__name__}s" if isinstance(hint, type) else "words"


def _one(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOn' else 'a'} {noun}"


def _told(value: Any) -> str:
    known = value is None or isinstance(value, (bool, Real, str, tuple, list, dict))
    return repr(value) if known else type(value).__name__
