"""Classifiers that a model brings along: nothing is trained and no label is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.models.defended import OwnLogits
from heirloom.models.encoder import FrozenEncoder
from heirloom.runtime.errors import InputError, reject, require


def own_classes(known: tuple[str, ...] | None, outputs: int, file: Path | None = None) -> tuple[str, ...]:
    """The names behind a model's own logits: of ``file`` (one a line), else those that it knows, else numbers.

    Args:
        known: see :func:`names_of`. outputs: how many logits the model has.
    """
    names = read_classes(file) if file is not None else known or tuple(map(str, range(outputs)))
    require(
        len(names) == outputs, "classes", f"{outputs} names, one for each of the model's logits", len(names)
    )
    return names


def names_of(encoder: FrozenEncoder) -> tuple[str, ...] | None:
    """The names behind the logits of a model that knows them: those of Transformers' configuration, or those that
    heirloom noted when it saved an encoder. None where nobody said.
    """
    backbone: Any = encoder.backbone
    told = getattr(getattr(backbone, "config", None), "id2label", None) or {}
    if told:
        return tuple(str(name) for _, name in sorted(told.items(), key=lambda item: int(item[0])))
    notes = getattr(getattr(backbone, "backbone", backbone), "notes", None) or {}
    return tuple(notes.get("classes") or ()) or None


def logit_names(
    encoder: FrozenEncoder, outputs: int, head: nn.Module | None, classes: Sequence[str]
) -> tuple[str, ...] | None:
    """The names of ``outputs`` logits for one that takes the place of ``encoder``: those that the model knows, and,
    where ``head`` found ``classes`` among them by other names (of a file, or in order), these.
    """
    says_logits = encoder.settings.pooling == "logits" or not hasattr(encoder.backbone, "config")
    known = names_of(encoder) if says_logits else None
    if not isinstance(head, OwnLogits):
        return known
    names = list(known or map(str, range(outputs)))
    columns = range(outputs) if head.columns is None else head.columns.tolist()
    for column, name in zip(columns, classes, strict=True):
        if _found(_places(names[column : column + 1]), name) is None:
            names[column] = name
    return tuple(names)


def in_order_of(head: nn.Linear, names: Sequence[str] | None, classes: Sequence[str]) -> nn.Linear | None:
    """The linear ``head`` with its outputs in the order of ``classes``, found by ``names`` where they are known; None
    where it tells other classes apart.
    """
    if names is None:
        return head if head.out_features == len(classes) else None
    try:
        columns = own_head(names, classes).columns
    except InputError:
        return None
    if columns is None:
        return head
    chosen: nn.Linear = nn.utils.skip_init(nn.Linear, head.in_features, len(classes))
    chosen.load_state_dict({name: value[columns] for name, value in head.state_dict().items()})
    return chosen.requires_grad_(False).eval()


def own_head(names: Sequence[str], classes: Sequence[str]) -> OwnLogits:
    """The head that keeps the logits of ``classes``, found by their names; all of them where the lists agree.

    ``n01440764``, ``tench`` and ``tench, Tinca tinca`` are one class: names are compared in lower case, without
    spaces, dashes and underscores, by every part between commas.

    Raises:
        InputError: a class that the model does not know, by its name. As many classes as the model has are taken in
            order where one side has only numbers for them, and not the other side's.
    """
    if tuple(names) == tuple(classes):
        return OwnLogits()
    places = _places(names)
    columns = [_found(places, name) for name in classes]
    unknown = [name for name, column in zip(classes, columns, strict=True) if column is None]
    if unknown and len(names) == len(classes) and (_are_numbers(names) or _are_numbers(classes)):
        return OwnLogits()
    if unknown:
        reject(
            "classes",
            f"a file that calls the model's {len(names)} logits as the data does: a name a line, in their order",
            f"no name for {', '.join(unknown[:5])}",
        )
    whole = columns == list(range(len(names)))
    return OwnLogits(None if whole else [c for c in columns if c is not None])


def knows(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether each of ``classes`` is among ``names``, by name and not by number."""
    places = _places(names)
    return all(_found(places, name) is not None for name in classes)


def read_classes(file: Path) -> tuple[str, ...]:
    """Class names, one a line; empty lines are left out."""
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("classes", "a readable text file, one name a line", f"{file}: {error}") from None
    require(len(names) >= 2, "classes", "at least two names, one a line", len(names))
    return names


def _places(names: Sequence[str]) -> dict[str, int]:
    """Where each name stands, whole and by its parts."""
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        for part in (name, *name.split(",")):
            found.setdefault(_plain(part), number)
    return found


def _found(places: Mapping[str, int], name: str) -> int | None:
    for part in (name, *name.split(",")):
        if _plain(part) in places:
            return places[_plain(part)]
    return None


def _plain(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.removeprefix("LABEL_").isdecimal() for name in names)
