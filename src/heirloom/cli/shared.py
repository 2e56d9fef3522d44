"""What every command has: ``--config``, ``--json``, ``-q``, ``-v``, help in groups, options that the result records."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from heirloom.cli.groups import COMMANDS, grouped, words_of
from heirloom.cli.voice import voice
from heirloom.runtime.given import GIVEN, Given

WHOLE = 300  # characters: a command's first sentence is not cut in the list of commands
Context: Any = typer.Context
Formatter: Any = Any


def _config(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not context.resilient_parsing:
        from heirloom.cli.config import defaults_from

        context.default_map = {**(context.default_map or {}), **defaults_from(value, context)}
    return value


def _heard(name: str) -> Any:
    def callback(value: bool) -> bool:
        if value:
            setattr(voice(), name, True)
        return value

    return callback


def _shared(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Options from a JSON or TOML file, or from a summary.json; the line wins.",
            is_eager=True,
            expose_value=False,
            callback=_config,
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON document and nothing else on standard output.",
            expose_value=False,
            is_eager=True,
            callback=_heard("as_json"),
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Say warnings and errors alone.",
            expose_value=False,
            is_eager=True,
            callback=_heard("quiet"),
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Say every option, every stage's seconds, and where an error came from.",
            expose_value=False,
            is_eager=True,
            callback=_heard("verbose"),
        ),
    ] = False,
) -> None:
    """Carries the shared options."""


@cache
def _shared_params() -> tuple[Any, ...]:
    carrier = typer.Typer(add_completion=False)
    carrier.command()(_shared)
    return tuple(typer.main.get_command(carrier).params)


class Command(TyperCommand):
    """A command with the shared options; ``rich_help_panel`` is its group in the help of what it belongs to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, *_shared_params()]

    def format_options(self, ctx: Context, formatter: Formatter) -> None:
        _write_groups(self, ctx, formatter)

    def invoke(self, ctx: Context) -> Any:
        return _spoken(lambda: TyperCommand.invoke(self, ctx), ctx)


class Group(TyperGroup):
    """A group of commands, itself a command where it is told that (``theory patches``)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.invoke_without_command:
            self.params = [*self.params, *_shared_params()]

    def format_options(self, ctx: Context, formatter: Formatter) -> None:
        _write_groups(self, ctx, formatter)
        rows: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            title = next((title for title, names in COMMANDS.items() if name in names), "Commands")
            rows.setdefault(title, []).append((name, command.get_short_help_str(WHOLE)))
        for title in sorted(rows, key=[*COMMANDS, "Commands"].index):
            with formatter.section(title):
                formatter.write_dl(rows[title])

    def invoke(self, ctx: Context) -> Any:
        alone = not (ctx._protected_args or ctx.args)
        if not (alone and self.invoke_without_command):
            return TyperGroup.invoke(self, ctx)
        return _spoken(lambda: TyperGroup.invoke(self, ctx), ctx)


class App(typer.Typer):
    """A Typer app whose commands are all of the kinds above."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cls=Group,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings={"help_option_names": ["-h", "--help"]},
            **options,
        )

    def command(self, name: str | None = None, **options: Any) -> Any:
        return super().command(name, cls=Command, **options)


def _spoken(invoke: Any, context: Any) -> Any:
    """Run a command: what it was given is recorded; with ``--json`` its document is all of standard output."""
    now, words = voice(), words_of(context)
    options = {
        "command": " ".join(words),
        **{name: _plain(value) for name, value in context.params.items() if name != "resume"},
    }
    given = GIVEN.set(Given(now.command, options))
    if now.verbose:
        print(f"heirloom: {json.dumps(options)}", file=sys.stderr)
    try:
        if not (now.as_json or now.quiet):
            return invoke()
        with redirect_stdout(StringIO()):
            return invoke()
    finally:
        GIVEN.reset(given)
        if now.as_json and now.document is not None:
            print(json.dumps(now.document, indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _write_groups(command: Any, context: Any, formatter: Any) -> None:
    for title, params in grouped(command.get_params(context)):
        rows = [record for param in params if (record := param.get_help_record(context)) is not None]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
