"""Classifiers that a model brings along: nothing is trained and no label is used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heirloom.models.defended import OwnLogits
from heirloom.models.encoder import FrozenEncoder
from heirloom.runtime.errors import InputError, reject, require


def own_classes(encoder: FrozenEncoder, outputs: int, file: Path | None = None) -> tuple[str, ...]:
    """The names behind a model's own logits: of ``file`` (one a line), else its configuration's, else numbers.

    Args:
        outputs: how many logits the model has.
    """
    if file is not None:
        names = read_classes(file)
    else:
        config: Any = getattr(encoder.backbone, "config", None)
        told = getattr(config, "id2label", None) or {}
        names = tuple(str(told.get(i, i)) for i in range(outputs))
    require(
        len(names) == outputs, "classes", f"{outputs} names, one for each of the model's logits", len(names)
    )
    return names


def own_head(names: Sequence[str], classes: Sequence[str]) -> OwnLogits:
    """The head that keeps the logits of ``classes``, found by their names; all of them where the lists agree.

    ``n01440764``, ``tench`` and ``tench, Tinca tinca`` are one class: names are compared in lower case, without
    spaces, dashes and underscores, by every part between commas.

    Raises:
        InputError: a class that the model does not know, by its name; the same number of classes under names that
            are only numbers is taken in order.
    """
    if len(names) == len(classes) and (
        tuple(names) == tuple(classes) or _are_numbers(names) or _are_numbers(classes)
    ):
        return OwnLogits()
    places: dict[str, int] = {}
    for number, name in enumerate(names):
        for part in (name, *name.split(",")):
            places.setdefault(_plain(part), number)
    columns = [_found(places, name) for name in classes]
    unknown = [name for name, column in zip(classes, columns, strict=True) if column is None]
    if unknown:
        reject(
            "head",
            f"own only for data whose classes the model knows ({len(names)} of them)",
            ", ".join(unknown[:5]),
        )
    whole = columns == list(range(len(names)))
    return OwnLogits(None if whole else [c for c in columns if c is not None])


def read_classes(file: Path) -> tuple[str, ...]:
    """Class names, one a line; empty lines are left out."""
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("classes", "a readable text file, one name a line", f"{file}: {error}") from None
    require(len(names) >= 2, "classes", "at least two names, one a line", len(names))
    return names


def _found(places: dict[str, int], name: str) -> int | None:
    for part in (name, *name.split(",")):
        if _plain(part) in places:
            return places[_plain(part)]
    return None


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.removeprefix("LABEL_").isdecimal() for name in names)
