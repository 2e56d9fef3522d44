"""Pages of the docs site that are made and not written: the command line's options and the public API."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import typer

import heirloom
from heirloom.attacks.named import ATTACK_NAMES
from heirloom.cli import app
from heirloom.cli.groups import COMMANDS, grouped

ATTACKS = ("fgsm", "pgd", "pma", "apgd", "multi_targeted", "cascade", "fab", "square", "feature_targeted")
SECTIONS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:")


def command_line() -> str:
    """Every command with its options in the groups of its help, read off the program itself."""
    root: Any = typer.main.get_command(app)
    lines = ["# Command line", "", "Made from the program itself. Every command also has what "]
    lines[-1] += "[the quick start](quick-start.md#on-every-command) says of all."
    commands = dict(_commands(root, []))
    lines += ["", "| for | commands |", "|---|---|"]
    for title, names in COMMANDS.items():
        mine = [words for words in commands if words.split()[0] in names]
        lines.append(f"| {title} | {', '.join(f'[{words}](#heirloom-{_slug(words)})' for words in mine)} |")
    for words, command in commands.items():
        lines += ["", f"## heirloom {words}", "", _cell(command.help or "").replace("\\|", "|"), ""]
        lines += _options(command)
    return "\n".join(lines) + "\n"


def _commands(command: Any, words: list[str]) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", {})
    if words and (not inner or command.invoke_without_command):
        yield " ".join(words), command
    for name, found in inner.items():
        yield from _commands(found, [*words, name])


def _options(command: Any) -> list[str]:
    context = command.make_context("heirloom", [], resilient_parsing=True)
    lines: list[str] = []
    for title, params in grouped(command.params):
        shown = [param for param in params if title != "Every command"]
        if shown:
            lines += ["", f"| {title} | default | |", "|---|---|---|"]
            lines += [_row(param, context) for param in shown]
    return lines


def _row(param: Any, context: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    default = "required" if param.required else param.get_default(context)
    shown = "" if default is None or default is False else str(default)
    return f"| {names} {_cell(param.display_type(context))} | {_cell(shown)} | {_cell(param.help or '')} |"


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _slug(words: str) -> str:
    return words.replace(" ", "-")


def api() -> str:
    """The public names and the attacks with their signatures and docstrings."""
    lines = [
        "# Python",
        "",
        "`from heirloom import ...`: all names that are public, made from their docstrings.",
        "",
    ]
    for name in heirloom.__all__:
        lines += _documented(f"heirloom.{name}", getattr(heirloom, name))
    lines += ["# Attacks as functions", "", f"By name, for `evaluate` and `--attacks`: {ATTACK_NAMES}.", ""]
    for name in ATTACKS:
        lines += _documented(
            f"heirloom.attacks.{name}.{name}", getattr(import_module(f"heirloom.attacks.{name}"), name)
        )
    return "\n".join(lines) + "\n"


def _documented(name: str, thing: Any) -> list[str]:
    lines = [f"## {name.rpartition('.')[2]}", "", "```python", *_signature(name, thing), "```", ""]
    lines += _markdown(inspect.getdoc(thing) or "")
    if inspect.isclass(thing):
        for key, member in vars(thing).items():
            if inspect.isfunction(member) and not key.startswith("_") and member.__doc__:
                lines += [f"### {thing.__name__}.{key}", "", "```python", *_signature(key, member), "```", ""]
                lines += _markdown(inspect.getdoc(member) or "")
    return lines


def _signature(name: str, thing: Any) -> list[str]:
    try:
        shown = str(inspect.signature(thing))
    except (TypeError, ValueError):
        return [name]
    shown = re.sub(r"<factory>|<object object at 0x[0-9a-f]+>", "...", shown).replace("'", "")
    line = f"{name}{shown}"
    if len(line) <= 100:
        return [line]
    inside, _, after = shown[1:].rpartition(")")
    return [f"{name}(", *(f"    {part}," for part in _split(inside)), f"){after}"]


def _split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _markdown(text: str) -> list[str]:
    """A docstring as Markdown: section titles bold, their entries a list, roles and doctests as code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    lines, in_section, in_code = list[str](), False, False
    for line in text.splitlines():
        is_code = line.lstrip().startswith(">>>") or (in_code and bool(line.strip()))
        if is_code != in_code:
            lines += ["", "```python"] if is_code else ["```", ""]
        in_code = is_code
        if in_code:
            lines.append(line.strip())
        elif line.strip() in SECTIONS:
            lines += ["", f"**{line.strip()}**", ""]
            in_section = True
        elif in_section and re.match(r"    [`\w*, ]+(\([^)]*\))?: ", line):
            lines.append(f"- {line.strip()}")
        else:
            in_section = in_section and (not line.strip() or line.startswith("    "))
            lines.append(f"  {line.strip()}" if in_section and line.strip() else line)
    return [*lines, *(["```"] if in_code else []), ""]
