"""Variables outside a model's modules that its own code can reach: found from the names that the code uses.

Module globals, class attributes, closures, default arguments, attributes of functions; numbers and containers that the
code keeps in a library's module; the environment. Files are :mod:`heirloom.evaluation.files`; other processes and what
lives in compiled extensions are not reached.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

from torch import nn

# where nobody's planted or forgotten state lies, and much that is no state
LIBRARIES = {
    "torch",
    "numpy",
    "transformers",
    "torchvision",
    "timm",
    "PIL",
    "scipy",
    "sklearn",
    "kornia",
    "open_clip",
}
BUILDING = ("__init__", "__new__", "__post_init__", "__deepcopy__", "train", "eval")
LRU = functools._lru_cache_wrapper
PLAIN = (
    dict,
    list,
    set,
    int,
    float,
    deque,
    defaultdict,
    OrderedDict,
    Counter,
)  # what code may keep in a library
INTERPRETERS = ("modules", "path", "argv", "filters")  # of sys and warnings: theirs, not a model's


class Absent:
    """The value of a variable that does not exist."""


ABSENT = Absent  # a class: copies of it are itself


class Place(Protocol):
    """Where something is kept that copies share."""

    def get(self) -> Any: ...
    def set(self, value: Any) -> None: ...


@dataclass(frozen=True)
class Slot:
    """A variable: an entry of a dictionary, an attribute of a class or function, the content of a closure's cell."""

    owner: Any
    key: str

    def get(self) -> Any:
        if isinstance(self.owner, dict):
            return self.owner.get(self.key, ABSENT)
        if isinstance(self.owner, type):
            return vars(self.owner).get(self.key, ABSENT)
        return getattr(self.owner, self.key, ABSENT)

    def set(self, value: Any) -> None:
        if value is not ABSENT and isinstance(self.owner, dict):
            self.owner[self.key] = value
        elif value is not ABSENT:
            setattr(self.owner, self.key, value)
        elif isinstance(self.owner, dict):
            self.owner.pop(self.key, None)
        elif self.get() is not ABSENT:
            delattr(self.owner, self.key)


class Environment:
    """The process's environment variables, but for torch's own, which it sets when it likes."""

    def get(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}

    def set(self, value: dict[str, str]) -> None:
        for name in set(self.get()) - set(value):
            del os.environ[name]
        os.environ.update({name: kept for name, kept in value.items() if os.environ.get(name) != kept})


Slots = dict[str, Place]


def reached(model: nn.Module) -> tuple[Slots, list[LRU[Any]]]:
    """What the code of ``model``'s forward passes can reach outside its modules, by name; and the cached functions."""
    search = _Search()
    for module in model.modules():
        search.kind(type(module))
        for value in vars(module).values():
            for one in value.values() if isinstance(value, dict) else (value,):
                search.code(one)
    return search.found, search.cached


class _Search:
    def __init__(self) -> None:
        self.found: Slots = {"the environment": Environment()}
        self.cached: list[LRU[Any]] = []
        self._seen: set[int] = set()

    def _new(self, thing: Any) -> bool:
        known = id(thing) in self._seen
        self._seen.add(id(thing))
        return not known

    def kind(self, cls: type) -> None:
        """A class and those that it inherits from: its functions and its attributes."""
        for each in cls.__mro__:
            if _foreign(each) or not self._new(each):
                continue
            for name, value in list(vars(each).items()):
                if name in BUILDING or (name.startswith("__") and not callable(value)):
                    continue
                if not self.code(value):
                    self.variable(Slot(each, name), value, f"{each.__qualname__}.{name}", ())

    def code(self, value: Any) -> bool:
        """Whether ``value`` is code, which is then looked into."""
        if isinstance(value, (staticmethod, classmethod, MethodType)):
            return self.code(value.__func__)
        if isinstance(value, property):
            self.code(value.fget)
            self.code(value.fset)
            return True
        if isinstance(value, functools.partial):
            return self.code(value.func)
        if isinstance(value, LRU):
            self.cached.append(value)
            self.code(value.__wrapped__)
            return False  # a variable as well
        if isinstance(value, FunctionType):
            if not _foreign(value) and self._new(value):
                self._function(value)
            return True
        return False

    def _function(self, function: FunctionType) -> None:
        names, where = tuple(_names(function.__code__)), function.__globals__
        for name in names:
            if name in where:
                self.variable(Slot(where, name), where[name], f"{where.get('__name__', '')}.{name}", names)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if (value := _content(cell)) is not None:
                self.variable(
                    Slot(cell, "cell_contents"), value, f"{name} (closure of {function.__qualname__})", names
                )
        for name in ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                self.variable(
                    Slot(function, name), getattr(function, name), f"{function.__qualname__}.{name}", ()
                )
        for name, value in vars(function).items():
            self.variable(Slot(vars(function), name), value, f"{function.__qualname__}.{name}", ())

    def variable(self, slot: Slot, value: Any, name: str, names: tuple[str, ...]) -> None:
        """A variable, or the code or module that it names; ``names``: those that the code around it uses."""
        if isinstance(value, ModuleType):
            self._module(value, names)
        elif isinstance(value, type):
            self.kind(value)
        elif not self.code(value):
            self.found.setdefault(name, slot)
            if not _foreign(type(value)):
                self.kind(type(value))

    def _module(self, module: ModuleType, names: tuple[str, ...]) -> None:
        """Its variables that ``names`` has; of a library's module only what may count or remember."""
        foreign = _foreign(module)
        for name in names:
            value = vars(module).get(name)
            if value is None or (foreign and (type(value) not in PLAIN or name in INTERPRETERS)):
                continue
            self.variable(Slot(vars(module), name), value, f"{module.__name__}.{name}", ())


def _foreign(thing: Any) -> bool:
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    top = (name or "builtins").partition(".")[0]
    return top in sys.stdlib_module_names or top in LIBRARIES


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet bound
        return None
