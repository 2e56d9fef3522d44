"""``heirloom rerun``: a recorded run again, and whether it gives the same figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli.voice import Voice, voice

if TYPE_CHECKING:
    from heirloom.results.schema import Summary


def rerun(
    summary: Annotated[
        Path, typer.Argument(help="The summary.json of an earlier run, or its folder.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="New folder for the repeated run [default: runs/rerun-NAME].")
    ] = None,
    changed: Annotated[
        list[str] | None,
        typer.Option("--with", help="NAME=VALUE: an option in place of the recorded one; repeatable."),
    ] = None,
) -> None:
    """Repeat a recorded run into a new folder and compare: rows, and verdicts by digest. Status 1: they differ.

    The run is repeated as it was recorded, from this folder: relative paths lead where they led then.
    """
    from heirloom.cli import app
    from heirloom.cli.config import recorded_options
    from heirloom.results.sameness import differences
    from heirloom.results.schema import Summary
    from heirloom.runtime.errors import require

    path = summary / "summary.json" if summary.is_dir() else summary
    earlier = Summary.read(path)
    options = recorded_options(earlier.model_dump(), typer.main.get_command(app), path)
    words = options.pop("command").split()
    for pair in changed or []:
        name, _, value = pair.partition("=")
        require("=" in pair, "changed", "NAME=VALUE", pair)
        options[name.replace("-", "_")] = value
    place = out or _free(Path("runs") / f"rerun-{path.parent.name if path.stem == 'summary' else path.stem}")
    require(not place.exists(), "out", "a new folder", f"{place}, which exists")
    _carry_steps(path.parent, place, options)
    spoken = _repeated(words, {**options, "out": str(place)})
    now, folder = _counterpart(earlier, spoken.summary, spoken.folder, place)
    found = differences(earlier, now)
    voice().document = {"same": not found, "differences": found, "earlier": str(path), "now": str(folder)}
    if found:
        print(f"{path} and {folder} differ: {found[0]}")
        print("\n".join(found[1:]))
        raise typer.Exit(1)
    print(f"The same figures to the last digit: {path} and {folder}.")


def _repeated(words: list[str], options: dict[str, Any]) -> Any:
    """Run the command; its voice, which was told the result. Ends as that command ends where it has none."""
    from heirloom.cli import app, common
    from heirloom.runs import remove_unbegun

    place = Path(options["out"])
    place.mkdir(parents=True, exist_ok=True)
    asked = place / "options.json"
    asked.write_text(json.dumps({k: v for k, v in options.items() if v is not None}, indent=1, default=str))
    speaker = Voice(quiet=voice().quiet, verbose=voice().verbose)
    code = common.run(app, [*words, "--config", str(asked)], speaker)
    if speaker.summary is None:
        voice().document = speaker.document
        if code == 2:
            remove_unbegun(place)
        raise typer.Exit(code or 2)
    return speaker


def _counterpart(earlier: Summary, told: Summary, folder: Path, place: Path) -> tuple[Summary, Path]:
    """What to compare ``earlier`` with: the result that was told, or, of a command that makes several (a zoo, a table
    over seeds), the one under ``place`` that ``earlier`` is."""
    from heirloom.results.schema import Summary

    def key(summary: Summary) -> tuple[Any, ...]:
        return summary.kind, summary.seed, summary.threat, summary.data, summary.settings

    if key(told) == key(earlier):
        return told, folder
    inner = [path for path in place.rglob("summary.json") if "work" not in path.relative_to(place).parts]
    found = [(summary, path.parent) for path in inner if key(summary := Summary.read(path)) == key(earlier)]
    return found[0] if len(found) == 1 else (told, folder)


def _carry_steps(earlier: Path, place: Path, options: dict[str, Any]) -> None:
    """What ``--minutes`` came to in steps, so that the repeated run trains as long."""
    from heirloom.runtime.errors import require

    if options.get("minutes") is None:
        return
    if options.get("recipe"):  # a limit on this machine's time, no setting
        options["minutes"] = None
        return
    kept = [path for path in earlier.glob("work/**/steps*.json") if path.is_file()]
    given = "a run whose folder still has work/, where the steps are that --minutes came to"
    require(bool(kept), "summary", given, str(earlier))
    for path in kept:
        target = place / path.relative_to(earlier)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _free(place: Path) -> Path:
    """``place``, or with the first number that is free."""
    candidates = [place, *(place.with_name(f"{place.name}-{number}") for number in range(2, 1000))]
    return next(candidate for candidate in candidates if not candidate.exists())
