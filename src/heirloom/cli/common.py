"""What all commands share: how errors end, and the version option."""

from __future__ import annotations

import json
import re
import shlex
import sys
import traceback
from typing import Annotated, Any

import typer

from heirloom.cli.checks import called, command_of, owner_of, typed
from heirloom.cli.voice import Voice, use, voice
from heirloom.runtime.errors import InputError, TrainingError, out_of_memory

UsageError: Any = typer.BadParameter.__base__
ClickError: Any = UsageError.__base__
INTERRUPTED = 130  # what the library makes of Ctrl-C


def run(app: typer.Typer, arguments: list[str] | None = None, speaker: Voice | None = None) -> int:
    """Run ``app``; every expected failure is one sentence on standard error and exit status 2.

    ``speaker`` is told what the command tells (:mod:`heirloom.cli.voice`).
    """
    speaker = speaker or Voice()
    # known before the line is parsed, so that a word which is no option gets its document, too
    speaker.as_json = speaker.as_json or "--json" in (sys.argv[1:] if arguments is None else arguments)
    speaker.command = None if arguments is None else shlex.join(["heirloom", *arguments])
    before = use(speaker)
    try:
        return _run(app, arguments)
    finally:
        use(before)


def _run(app: typer.Typer, arguments: list[str] | None) -> int:
    try:
        typed.clear()
        code = command_of(app).main(args=arguments, standalone_mode=False)
    except InputError as error:
        options = option_names(app, sys.argv[1:] if arguments is None else arguments)
        return _fail(error.sentence(options.get(error.argument) or _owned(error.argument)))
    except TrainingError as error:
        return _fail(str(error))
    except ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        words = sys.argv[1:] if arguments is None else arguments
        return _fail(_as_typed(error.format_message(), words))
    except BrokenPipeError:
        sys.stderr.close()
        return 2
    except (RuntimeError, MemoryError) as error:
        if told := _unforeseen(error):
            return _fail(told)
        raise
    except OSError as error:
        place = f" ({_owned(str(error.filename))})" if error.filename else ""
        return _fail(f"The operating system refused: {error.strerror or error}{place}.")
    if code == INTERRUPTED:
        return _fail("Interrupted: nothing half-written is left; run again with --resume to go on.")
    return code if isinstance(code, int) else 0


def _unforeseen(error: BaseException) -> str:
    """A sentence on what no setting was wrong for, none where the traceback has to tell."""
    from heirloom.runtime.distributed import lost_another

    if out_of_memory(error):
        return "Memory ran out: smaller batches or images take less; --resume goes on with what is done."
    if lost_another(error):
        return "Another process of this run ended, and says why; --resume goes on with what is done."
    return ""


def option_names(app: typer.Typer, arguments: list[str]) -> dict[str, str]:
    """What the user typed for each argument of the command in ``arguments``: ``{"batch_size": "--batch-size"}``.

    The library names its arguments; only here is known how a command spells them.
    """
    command: Any = command_of(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    words = {word.partition("=")[0] for word in arguments}
    return {p.name: next((o for o in p.opts if o in words), called(p)) for p in command.params}


def _owned(path: str) -> str:
    """A path's name after the option that it was given by: ``--against's verdicts.safetensors``."""
    option, inside = owner_of(path)
    return f"{option}'s {inside}" if option and inside else option or path


def _as_typed(message: str, words: list[str]) -> str:
    """In our words, with the name that the user typed where an option has several."""
    names = re.findall(r"(?<=')-[-\w]+(?=')", message.partition(":")[0])
    given = next((name for name in names if any(word.partition("=")[0] == name for word in words)), None)
    told = _in_our_words(message)
    return told.replace(names[0], given) if names and given else told


def _in_our_words(message: str) -> str:
    """Typer's sentences on a word that is none of an option's choices, or out of its range, as all others are told."""
    if found := re.fullmatch(
        r"Invalid value for '(-[-\w]+)'.*?: Input should be (greater|less) than (or equal to )?(\S+)", message
    ):
        words = {"greater": ("above", "at least"), "less": ("below", "at most")}[found[2]]
        came = ", ".join(typed.get(found[1], ()))
        return InputError(found[1], f"{words[found[3] is not None]} {found[4]}", came).sentence(found[1])
    found = re.fullmatch(
        r"Invalid value for '(-[-\w]+)'.*?: (?:Value error, )?'(.*)' is not one of (.*)\.", message
    )
    if found is None:
        return message
    return InputError(found[1], f"one of {found[3].replace(chr(39), '')}", found[2]).sentence(found[1])


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"heirloom {version('heirloom-robust')}")
        raise typer.Exit()


def top_level(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Adversarial robustness for a frozen vision foundation model: given, measured, explained."""


def _fail(sentence: str) -> int:
    """One sentence on standard error; with ``--json`` it is the document, too."""
    sentence = " ".join(sentence.split())
    if voice().verbose and sys.exc_info()[0] is not None:
        traceback.print_exc()
    voice().document = {"error": sentence}
    if voice().as_json:
        print(json.dumps(voice().document))
    print(f"heirloom: {sentence}", file=sys.stderr)
    return 2
