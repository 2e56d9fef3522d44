"""The page of an evaluation, drawn from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.evaluation.adaptive.page import adaptive_section
from heirloom.evaluation.audit.page import audit_lead, audit_section, audit_warnings
from heirloom.objectives.defences import caveats_of
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.page import Figure, Part, Section, Table, Text, page
from heirloom.report.tables import LABELS, accuracy_table, is_proportion
from heirloom.results.schema import Difference, Mean, Summary


def evaluation_page(summary: Summary) -> str:
    """The page as HTML."""
    details = summary.details
    sections = [Section("Accuracy", _accuracy(summary))]
    if "adaptive" in details or "draws" in details:
        sections.append(adaptive_section(details))
    if details["evaluation"].get("against"):
        sections.append(Section("Against another model", [_against(details["evaluation"])]))
    if details["evaluation"].get("seeds"):
        sections.append(Section("Over attack seeds", [_seeds(details["evaluation"]["seeds"])]))
    warnings = []
    if "audit" in details:
        sections.append(audit_section(details["audit"]))
        warnings = audit_warnings(details["audit"])
    return page(_title(summary), _lead(summary), sections, summary, warnings=warnings)


def _title(summary: Summary) -> str:
    return f"Robust accuracy of {str(summary.rows[0]['model']).rpartition(':')[2]}"


def _lead(summary: Summary) -> str:
    row = summary.rows[0]
    columns = [name for name, value in row.items() if is_proportion(value)]
    clean, last = row["clean"], row[columns[-1]]
    text = f"{100 * clean['value']:.1f} % of {clean['n']} images are classified rightly"
    if len(columns) > 1:
        text += (
            f", and at most {100 * last['value']:.1f} % (95 % interval {100 * last['low']:.1f} to "
            f"{100 * last['high']:.1f}) whatever an attacker does to them within {summary.threat}"
        )
    audit = summary.details.get("audit")
    return f"{text}. {audit_lead(audit)}" if audit else f"{text}. No audit was made."


def _accuracy(summary: Summary) -> list[Part]:
    columns, rows = accuracy_table(summary.rows, "model", summary.details.get("single_draw", ()))
    caption = (
        "Share of images classified rightly, in %, with 95 % intervals over the images. Each column is "
        "the worst case over its attack and all before it."
    )
    parts: list[Part] = [Table(caption, columns, rows)]
    accuracies = {name: value for name, value in summary.rows[0].items() if is_proportion(value)}
    if len(accuracies) > 1:
        parts.append(_bars(accuracies))
    if said := summary.details["evaluation"].get("model"):
        parts.append(Text(said))
    parts += map(Text, caveats_of(summary.rows))
    repaired = {name: n for name, n in summary.details["evaluation"]["repaired"].items() if n}
    if repaired:
        said = ", ".join(f"{name}: {n}" for name, n in repaired.items())
        parts.append(
            Text(f"Images that an attack left outside the threat set, and that were put back: {said}.")
        )
    return parts


def _bars(accuracies: dict[str, Any]) -> Figure:
    figure, axes = new_axes(figsize=(6.4, 0.6 + 0.45 * len(accuracies)))
    names = [LABELS.get(name, name) for name in accuracies]
    values = [100 * value["value"] for value in accuracies.values()]
    below = [100 * (value["value"] - value["low"]) for value in accuracies.values()]
    above = [100 * (value["high"] - value["value"]) for value in accuracies.values()]
    axes.barh(names, values, xerr=[below, above], height=0.6, error_kw={"capsize": 3})
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="classified rightly (%)")
    return Figure("What is left after each attack; whiskers are 95 % intervals.", data_uri(figure))


def _against(evaluation: dict[str, Any]) -> Table:
    rows = [
        [LABELS.get(name, name), str(Difference.model_validate(value))]
        for name, value in evaluation["against"]["differences"].items()
    ]
    caption = (
        f"This model minus {evaluation['against']['folder']} on the same images, in points, with 95 % "
        "intervals over the pairs. An interval that holds 0 does not tell the two models apart."
    )
    return Table(caption, ["column", "difference"], rows)


def _seeds(seeds: dict[str, Any]) -> Table:
    rows = []
    for name, value in seeds.items():
        found = Mean.model_validate(value)
        rows.append([LABELS.get(name, name), f"{100 * found.value:.2f}", f"{100 * found.sd:.2f}", found.n])
    caption = (
        "The same evaluation with other attack seeds: accuracy in %, its standard deviation over the "
        "seeds. It is the attacks' luck, not the uncertainty over images, which the intervals above give."
    )
    return Table(caption, ["column", "mean", "standard deviation", "seeds"], rows)
