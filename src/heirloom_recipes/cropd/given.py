"""What ``--data NAME=SOURCE`` gives to CRoPD's recipes besides images: a foundation, a VAE, a saved defence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heirloom.runtime.errors import require
from heirloom.runtime.files import read_json
from heirloom_recipes.cropd.scales import SOURCES

NAMES = (*SOURCES, "vae", "foundation")  # what may be given


def check_names(given: Mapping[str, str], *, takes_defence: bool) -> None:
    """Raise :class:`heirloom.InputError` for a name that means nothing here."""
    known = (*NAMES, "defence") if takes_defence else NAMES
    unknown = sorted(set(given) - set(known))
    require(not unknown, "data", f"NAME=SOURCE with a name of {', '.join(known)}", ", ".join(unknown))


def named_data_sets(given: Mapping[str, str]) -> tuple[str, ...]:
    """The data sets among what ``--data`` gives."""
    return tuple(name for name in given if name in SOURCES)


def data_sets(of_the_scale: Sequence[str], given: Mapping[str, str]) -> tuple[str, ...]:
    """Those of a run: before a given foundation the ones named beside it, if any is, for it was not made for the others
    that a scale brings along; else these too.
    """
    named = named_data_sets(given)
    return named if named and "foundation" in given else tuple(dict.fromkeys((*of_the_scale, *named)))


def digests_of(defence: str) -> Any:
    """What identifies a saved defence, which must have something in front of its frozen model to be judged."""
    path = Path(defence) / "config.json"
    config = read_json(path) if path.is_file() else {}
    wrote = "a folder that heirloom defend wrote"
    require("digests" in config, "defence", wrote, defence)
    has_front = config.get("preprocessor") is not None
    require(
        has_front,
        "defence",
        f"{wrote} with a preprocessor",
        f"{defence}, which has nothing in front of its model",
    )
    return config["digests"]
