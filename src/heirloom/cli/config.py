"""``--config FILE``: options from a JSON or TOML file, or from the ``summary.json`` of an earlier run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heirloom.cli.groups import words_of
from heirloom.runtime.errors import InputError, reject, require

OWN = {"config", "as_json", "quiet", "verbose", "help", "version"}


def defaults_from(path: Path, context: Any) -> dict[str, Any]:
    """What ``path`` says of the options of the command in ``context``, as the line would have it.

    Keys are options' names, with dashes or underscores; a list of words is joined by commas where the option takes one
    text. A ``summary.json`` gives back what it records, but for ``--resume``.

    Raises:
        InputError: no such file, neither JSON nor TOML, of another command, or with a key that is no option.
    """
    found = read_config(path)
    words = " ".join(words_of(context))
    if is_summary(found):
        options = recorded_options(found, context.find_root().command, path)
        of = options.pop("command")
        require(of == words, "config", f"of heirloom {words}", f"{path}, which is of heirloom {of}")
    else:
        options = {_name(key, context.command): value for key, value in found.items()}
    known = {param.name: param for param in context.command.params if param.name not in OWN}
    for name in options:
        if name not in known:
            reject("config", f"of options of heirloom {words}", f"{name!r}, which is none")
    return {n: _typed(n, value, known[n]) for n, value in options.items() if value is not None}


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or TOML file."""
    import tomllib

    try:
        text = path.read_text()
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise InputError("config", "an existing file", f"{path}, which does not exist") from None
    except (OSError, ValueError) as error:
        raise InputError("config", "a JSON or TOML file", f"{path}: {error}") from None
    require(isinstance(found, dict), "config", "a JSON object or TOML table of options", str(path))
    return dict(found)


def is_summary(found: Mapping[str, Any]) -> bool:
    return {"kind", "command", "rows", "versions"} <= set(found)


def recorded_options(summary: Mapping[str, Any], root: Any, path: Path) -> dict[str, Any]:
    """All options of the run that ``summary`` records, its command's words under ``"command"``.

    A result of an older version recorded the line alone: it is read again as the line would be.
    """
    if summary.get("options"):
        return {**_before_it_was_asked(summary["options"]), **summary["options"]}
    words = shlex.split(summary["command"])
    words = (
        words[3:]
        if words[:3] == ["python", "-m", "heirloom"]
        else words[1:]
        if words[:1] == ["heirloom"]
        else []
    )
    command, place, context = root, [], root.make_context("heirloom", [], resilient_parsing=True)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words[0]]
        context = command.make_context(words[0], [], parent=context, resilient_parsing=True)
        place.append(words.pop(0))
    require(bool(place), str(path), "a result of a heirloom command", summary["command"] or "no command")
    parsed = command.make_context(place[-1], words, parent=context.parent)
    found = {"command": " ".join(place), **{n: v for n, v in parsed.params.items() if n != "resume"}}
    given = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in words}
    silent = {**_before_it_was_asked(found), **_told_by_figures(summary, found)}
    return {**found, **{name: value for name, value in silent.items() if name not in given}}


def _before_it_was_asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was done before an option came, where its default is another."""
    trains_head = options["command"] == "defend" and options.get("head", "linear") == "linear"
    return {"head_weight_decay": 0.01} if trains_head else {}


def _told_by_figures(summary: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Where a default has changed since, the figures say what it was: ``defend``'s method is its last row, its attacks
    are the columns; it was compared with nothing in front."""
    if found["command"] != "defend":
        return {}
    known = {"method": summary["rows"][-1]["defence"], "attacks": summary["settings"].get("attacks")}
    known |= {"compare": "identity"}
    return {name: value.replace(" ", "") for name, value in known.items() if value}


def _name(key: str, command: Any) -> str:
    """``attack-steps``, ``attack_steps`` or ``--attack-steps`` as the parameter's name; others as they are."""
    spelt = "--" + key.lstrip("-").replace("_", "-")
    named = {option: param.name for param in command.params for option in param.opts}
    plain = key.replace("-", "_")
    return str(named.get(spelt, plain if plain in named.values() else key))


def _typed(name: str, value: Any, param: Any) -> Any:
    """``value`` as the parser takes it: texts to be read as on the line, flags as they are, lists where repeatable."""
    option = max(param.opts, key=len)
    if getattr(param, "is_flag", False):
        require(isinstance(value, bool), option, "true or false", value)
        return value
    require(not isinstance(value, bool | Mapping), option, "a number or a text", value)
    if param.multiple or param.nargs != 1:
        return [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
