"""docs/results.md from results/**/*.json: ``python -m heirloom_recipes.results_page``.

The page holds what recorded runs printed and nothing else; a test holds it to the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heirloom.report.tables import shown
from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import write_text

ROOT = Path(__file__).parents[2]
MOST_ROWS = 40
HEADER = """# Results

Made from `results/` by `python -m heirloom_recipes.results_page`; do not edit. Proportions are in %, with 95 %
intervals over examples; means have their standard deviation over repeats. Timings are of the machine that each
section names.
"""


def results_page(folder: Path) -> str:
    """The Markdown page of all summaries under ``folder``, by path."""
    sections = [_section(path, folder) for path in sorted(folder.rglob("*.json"))]
    return "\n".join([HEADER, *filter(None, sections)])


def _section(path: Path, folder: Path) -> str:
    try:
        summary = Summary.read(path)
    except InputError:  # other JSON (curves, say) may lie beside a summary
        return ""
    name = path.relative_to(folder).with_suffix("").as_posix()
    lines = [f"## {name}", "", f"`{summary.command}`", ""]
    lines += [
        f"Seed {summary.seed}, commit {summary.commit or 'unknown'}, {summary.device}, {summary.threads} threads, "
        f"{summary.seconds:.0f} s, torch {summary.versions.get('torch', 'unknown')}.",
        "",
    ]
    tables = [table for part in summary.details.values() if isinstance(part, dict) for table in _made(part)]
    return "\n".join([*lines, *(tables or _table(summary.rows)), ""])


def _made(part: dict[str, Any]) -> list[str]:
    """The tables that an experiment made of its rows, as it printed them: text cells, a caption."""
    lines: list[str] = []
    for table in part.get("tables", []):
        lines += [f"{table['caption']}:", "", "| " + " | ".join(table["columns"]) + " |"]
        lines += ["|" + "---|" * len(table["columns"])]
        lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table["rows"]]
        lines += [""]
    return lines


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if _fits(value)))
    if not columns:
        return []
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows[:MOST_ROWS]:
        cells = [_cell(row.get(key)) for key in columns]
        lines.append("| " + " | ".join(cells) + " |")
    if len(rows) > MOST_ROWS:
        lines += ["", f"and {len(rows) - MOST_ROWS} rows more in the file."]
    return lines


def _fits(value: Any) -> bool:
    return not isinstance(value, list) and len(_cell(value)) <= 100


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict) and not {"value", "n"} <= set(value):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    return shown(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    write_text(ROOT / "docs" / "results.md", results_page(ROOT / "results"))
