"""The page of ``pretrain``, drawn from its summary.json alone."""

from __future__ import annotations

from heirloom.heads.page import accuracy, lead
from heirloom.inspection.page import filter_sections
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Section, page
from heirloom.results.schema import Summary


def pretrain_page(summary: Summary) -> str:
    """The page as HTML."""
    row = summary.rows[0]
    sections = [
        Section("Training", [_curves(phase, h) for phase, h in summary.details["history"].items()]),
        *filter_sections(summary.details["filters"]),
    ]
    if "clean" in row:
        sections.insert(0, Section("Accuracy", [accuracy(summary)]))
        found = f"{lead(row)} under {summary.threat}."
    else:
        found = "An encoder trained without labels: `heirloom probe` measures what it is good for."
    title = f"{row['pretrain'].capitalize()} pre-training of {summary.settings['network']}"
    return page(title, found, sections, summary)


def _curves(phase: str, history: list[dict[str, float]]) -> Figure:
    shares = [k for k in history[0] if k not in ("epoch", "learning_rate", "loss")]
    figure, axes = new_axes(2 if shares else 1, figsize=(8.6 if shares else 5, 3.2))
    epochs = [entry["epoch"] for entry in history]
    losses, accuracies = (axes[0], axes[1]) if shares else (axes, None)
    losses.plot(epochs, [entry["loss"] for entry in history], marker=".")
    losses.set(xlabel="epoch", ylabel="training loss")
    if accuracies is not None:
        for name in shares:
            values = [100 * entry[name] for entry in history]
            accuracies.plot(epochs, values, marker=".", label=name.replace("_", " "))
        accuracies.set(xlabel="epoch", ylabel="accuracy (%)")
        accuracies.legend(frameon=False, fontsize=9)
    return Figure(f"The {phase} phase.", data_uri(figure))
