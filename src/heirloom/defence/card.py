"""The model card of a saved defence: Markdown with the hub's YAML header."""

from __future__ import annotations

from typing import Any

from heirloom.report.tables import accuracy_table
from heirloom.threat import Threat


def model_card(config: dict[str, Any], summary: dict[str, Any] | None) -> str:
    """README.md of the folder, from its config.json and, where it was measured, its summary.json."""
    defence, encoder = config["defence"], config["encoder"]
    base = (
        ""
        if ":" in encoder["source"] or encoder["source"] == "encoder"
        else f"base_model: {encoder['source']}\n"
    )
    header = (
        "---\nlibrary_name: heirloom\nlicense: apache-2.0\npipeline_tag: image-classification\n"
        f"{base}tags:\n- adversarial-robustness\n- image-classification\n---\n"
    )
    revision = f" at revision {encoder['revision']}" if encoder["revision"] else ""
    channels, height, width = config["image_shape"]
    lines = [
        f"# {encoder['source']} defended by {defence['method']}",
        "",
        f"A frozen foundation model (`{encoder['source']}`{revision}) with a preprocessor in front of it that "
        f"was trained without labels and without the model (`{defence['method']}`), and a linear head behind it. "
        f"It takes images of {channels} x {height} x {width} pixels in [0, 1] and tells "
        f"{len(config['classes'])} classes apart.",
        "",
        "```python",
        "from heirloom import DefendedModel",
        "",
        'model = DefendedModel.from_pretrained("PATH OR HUB ID")',
        "labels, probabilities = model.predict(images)  # float32 (N, C, H, W) in [0, 1]",
        "```",
        "",
    ]
    if summary is not None:
        columns, rows = accuracy_table(summary["rows"])
        lines += ["## Measured", "", "Accuracy in %, with 95 % intervals over test images.", ""]
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += ["", f"Threat: {_threat(summary)}. Command: `{summary['command']}`.", ""]
    lines += [
        "## Limits",
        "",
        "The figures hold for the attacks, the radius and the data that they name, and for nothing else. The "
        "defence is empirical: no certificate stands behind it.",
        "",
    ]
    return header + "\n".join(lines)


def _threat(summary: dict[str, Any]) -> str:
    threat = summary["threat"]
    return str(Threat(**threat)) if threat else "none"
