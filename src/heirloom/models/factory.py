"""A module of the user's own, by the name of what makes it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from torch import nn

from heirloom.runtime.errors import InputError, require


def module_from_factory(source: str) -> nn.Module:
    """The module that ``package.module:factory`` returns; the current folder counts as importable."""
    import sys

    package, _, name = source.partition(":")
    is_name = all(part.isidentifier() for part in (*package.split("."), *name.split(".")))
    require(is_name, "model", "a package.module:factory", source)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(import_module(package), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError("model", "an importable package.module:factory", f"{source}: {error}") from None
    require(callable(factory), "model", "a package.module:factory that can be called", source)
    try:
        module = factory()
    except InputError:
        raise
    except Exception as error:  # the user's own code
        came = f"{type(error).__name__} in {source}: {error}"
        raise InputError("model", "a factory that can be called without arguments", came) from error
    require(
        isinstance(module, nn.Module), "model", "a factory that returns an nn.Module", type(module).__name__
    )
    return module
