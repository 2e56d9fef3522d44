"""Run ``examples/model_and_folder.py`` as a notebook: ``python scripts/notebook.py OUT`` writes it with its outputs.

``OUT/model_and_folder.ipynb`` is the executed notebook, ``OUT/notebook.md`` with its pictures a page of the docs site.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "examples" / "model_and_folder.py"
PICTURES = {"image/png": "png", "image/svg+xml": "svg"}


def run(out: Path, *, seconds: int = 600) -> Any:
    """Execute the notebook and write both; an error in a cell is raised."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(SOURCE)
    NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute(cwd=str(ROOT))
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, out / f"{SOURCE.stem}.ipynb")
    (out / "notebook.md").write_text(as_markdown(notebook, out))
    return notebook


def as_markdown(notebook: Any, out: Path) -> str:
    """The executed notebook as Markdown, its pictures as files under ``out/notebook``."""
    lines: list[str] = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        for place, output in enumerate(cell.outputs):
            lines += _shown(output, out / "notebook" / f"{number}-{place}")
    return "\n".join(lines) + "\n"


def _shown(output: Any, stem: Path) -> list[str]:
    if output.output_type == "stream":
        return ["```text", output.text.rstrip(), "```", ""] if output.name == "stdout" else []
    data = output.get("data", {})
    for kind, ending in PICTURES.items():
        if kind in data:
            stem.parent.mkdir(parents=True, exist_ok=True)
            content = data[kind]
            raw = base64.b64decode(content) if ending == "png" else content.encode()
            stem.with_suffix(f".{ending}").write_bytes(raw)
            return [f"![output](notebook/{stem.name}.{ending})", ""]
    return ["```text", data.get("text/plain", ""), "```", ""]


if __name__ == "__main__":
    run(Path(sys.argv[1]))
