"""The model card of a saved defence: Markdown with the hub's YAML header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from heirloom.defence.traits import COLUMNS, traits
from heirloom.models.encoder import EncoderSettings
from heirloom.objectives.defences import DEFENCES, caveats
from heirloom.report.tables import accuracy_table
from heirloom.threat import Threat

OWN_LICENCE = "apache-2.0"
HEADS = {
    "linear": "a linear head trained on clean images",
    "robust": "a linear head trained on clean and adversarial images",
    "own": "the model's own classifier, kept as it was",
    "zero-shot": "the class names as texts (zero-shot), for which nothing was trained",
}


def model_card(config: dict[str, Any], summary: dict[str, Any] | None) -> str:
    """README.md of the folder, from its config.json and, where it was measured, its summary.json."""
    defence, encoder = config["defence"], config["encoder"]
    revision = f" at revision {encoder['revision']}" if encoder["revision"] else ""
    channels, height, width = config["image_shape"]
    lines = [
        f"# {encoder['source']} defended by {defence['method']}",
        "",
        f"{_what(config, encoder['source'] + revision)} "
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
    lines += _told(defence["method"], [] if summary is None else [row["defence"] for row in summary["rows"]])
    lines += [
        "## Limits",
        "",
        *(line for told in caveats([defence["method"]]) for line in (told, "")),
        "The figures hold for the attacks, the radius and the data that they name, and for nothing else. The "
        "defence is empirical: no certificate stands behind it.",
        "",
    ]
    header = _data(config, summary).to_yaml()
    return f"---\n{header}\n---\n" + "\n".join(lines)


def _what(config: dict[str, Any], source: str) -> str:
    """One or two sentences: what the folder holds, and what its training read."""
    defence = config["defence"]
    head = HEADS.get(defence.get("head", ""), "a head")
    objective = DEFENCES.get(defence["method"])
    if config["preprocessor"] is None and objective is not None:
        return (
            f"An encoder (`{defence['method']}`) trained without labels to say under attack what a frozen model "
            f"(`{defence.get('teacher', source)}`) says of clean images, and {head} behind it."
        )
    read = "nothing" if objective is None else objective.access
    return (
        f"A frozen foundation model (`{source}`) with a preprocessor in front of it (`{defence['method']}`; its "
        f"training read: {read}; no labels), and {head} behind it."
    )


def _told(method: str, rows: list[str]) -> list[str]:
    """What the method reads, costs and gives; below a table with other methods, their caveats."""
    found = traits(method)
    if found is None:
        return []
    told = [f"- {name}: {words}" for name, words in zip(COLUMNS[1:], found, strict=True)]
    beside = [row for row in rows if row != method]
    return [
        f"## The method, `{method}`",
        "",
        *told,
        "",
        *(line for one in caveats(beside) for line in (one, "")),
    ]


def licence_of(settings: EncoderSettings) -> str:
    """The licence that a folder stands under: its own, or that of the foundation model copied into it."""
    if not settings.is_copied:
        return OWN_LICENCE  # the foundation model is named, not copied
    note = Path(settings.source) / "README.md"
    try:
        found = ModelCard.load(note).data.license if note.is_file() else None
    except Exception:  # a header that is no YAML says nothing of a licence
        found = None
    return str(found) if isinstance(found, str) else "other"


def _data(config: dict[str, Any], summary: dict[str, Any] | None) -> ModelCardData:
    source = config["encoder"]["source"]
    is_named = ":" not in source and source != "encoder"
    results = _results(config, summary) if summary is not None else []
    return ModelCardData(
        library_name="heirloom",
        license=config["licence"],
        pipeline_tag="image-classification",
        base_model=source if is_named else None,
        tags=["adversarial-robustness", "image-classification"],
        model_name=f"{source} defended by {config['defence']['method']}" if results else None,
        eval_results=results or None,
    )


def _results(config: dict[str, Any], summary: dict[str, Any]) -> list[EvalResult]:
    """The figures of the defence that was saved, one a column of the table."""
    method = config["defence"]["method"]
    row: dict[str, Any] = next((row for row in summary["rows"] if row.get("defence") == method), {})
    name = str((summary["data"] or {"name": "unknown"})["name"])
    threat = _threat(summary)
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=name.rpartition("/")[2] or name,
            dataset_name=name,
            metric_type="accuracy",
            metric_name="accuracy" if column == "clean" else f"robust accuracy, {column}, {threat}",
            metric_value=round(float(value["value"]), 6),
        )
        for column, value in row.items()
        if isinstance(value, dict) and {"value", "low", "high", "n"} <= set(value)
    ]


def _threat(summary: dict[str, Any]) -> str:
    threat = summary["threat"]
    return str(Threat(**threat)) if threat else "none"
