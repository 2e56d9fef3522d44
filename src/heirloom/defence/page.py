"""The page of a defended model, drawn from its summary.json alone."""

from __future__ import annotations

from typing import Any

from heirloom.defence.traits import COLUMNS, trait_rows
from heirloom.defence.verdict import verdict
from heirloom.evaluation.audit.page import audit_lead, audit_section, audit_warnings
from heirloom.objectives.defences import DEFENCES, caveats
from heirloom.report.figures import data_uri, new_axes
from heirloom.report.matrix import confusion_figure, trade_off_figure
from heirloom.report.page import Figure, Images, Part, Section, SideBySide, Table, Text, page
from heirloom.report.tables import accuracy_table, is_proportion, shown
from heirloom.results.schema import Summary
from heirloom.runtime.errors import InputError

NAMES = {
    "identity": "Identity (nothing in front)",
    "jpeg": "JPEG 75 (attacked through BPDA)",
    "bit-depth": "3 bits a channel (attacked through BPDA)",
    "median": "Median 3x3",
    "student alone": "Student alone (no foundation)",
    "original head": "Original head (never retrained)",
    **{name: objective.title for name, objective in DEFENCES.items()},
}


def defence_page(summary: Summary) -> str:
    """The page as HTML."""
    defences = summary.details.get("defences")
    if not defences:
        raise InputError("details", "those of a defence", sorted(summary.details))
    trials = summary.details.get("trials")
    worst = [key for key, value in summary.rows[-1].items() if is_proportion(value)][-1]
    accuracy: list[Part] = [_accuracy(summary), *_told(summary), *(_trials(summary) if trials else [])]
    if worst != "clean" and len(summary.rows) > 1:
        named = [{**row, "defence": _short(row["defence"])} for row in summary.rows if worst in row]
        accuracy.append(trade_off_figure(named, worst))
    sections = [
        *_seen(defences),
        Section("Accuracy", accuracy),
        *_against_the_radius(defences, summary),
        Section("Class by class", _classes(defences[-1], summary)),
        Section("Training", _training(defences)),
    ]
    if "audit" in summary.details:
        sections.append(audit_section(summary.details["audit"]))
    warnings = [f"Warning: {found['warning']}" for found in summary.details.get("remarks", [])]
    warnings += [f"Warning: {told}" for told in summary.details.get("unjudged", [])]
    warnings += audit_warnings(summary.details["audit"]) if "audit" in summary.details else []
    return page(_title(summary), _lead(summary), sections, summary, warnings=warnings)


def _title(summary: Summary) -> str:
    return f"{NAMES.get(summary.rows[-1]['defence'], summary.rows[-1]['defence'])} in front of a frozen model"


def _lead(summary: Summary) -> str:
    audit = summary.details.get("audit")
    return f"{verdict(summary, NAMES)} {audit_lead(audit) if audit else 'No audit was made.'}"


def _short(defence: str) -> str:
    return NAMES.get(defence, defence).partition(" (")[0]


def _accuracy(summary: Summary) -> Table:
    columns, rows = accuracy_table(summary.rows)
    rows = [[NAMES.get(row[0], row[0]), *row[1:]] for row in rows]
    caption = (
        "Share of test images classified rightly, in %, with 95 % intervals over the images. Each column is the "
        "worst case over its attack and all before it, through the whole pipeline."
    )
    return Table(caption, columns, rows)


def _told(summary: Summary) -> list[Part]:
    """The caveats of what is in the table, and what each of its methods reads, costs and gives."""
    methods = [row["defence"] for row in summary.rows]
    rows = [[_short(name), *told] for name, *told in trait_rows(methods)]
    table = Table("What each reads, costs and gives, as we measured it elsewhere.", COLUMNS, rows, prose=True)
    return [*map(Text, caveats(methods)), table]


def _against_the_radius(defences: list[dict[str, Any]], summary: Summary) -> list[Section]:
    """The security curve, where one was asked for."""
    if not all(detail["curve"] for detail in defences):
        return []
    return [Section("Against the radius of the attack", [_security_curve(defences, summary)])]


def _security_curve(defences: list[dict[str, Any]], summary: Summary) -> Figure:
    figure, axes = new_axes()
    for detail in defences:
        eps = [point["eps"] for point in detail["curve"]]
        values = [
            [100 * point["accuracy"][key] for point in detail["curve"]] for key in ("value", "low", "high")
        ]
        (line,) = axes.plot(eps, values[0], marker="o", label=detail["defence"])
        axes.fill_between(eps, values[1], values[2], alpha=0.15, color=line.get_color())
    axes.set(xlabel="eps (pixel units)", ylabel="accuracy under PGD-20 (%)", ylim=(0, 101))
    axes.legend(frameon=False)
    count = defences[0]["curve"][0]["accuracy"]["n"]
    return Figure(
        f"Accuracy under PGD-20 against its radius eps, on the first {count} test images; bands are 95 % "
        "intervals. A sound figure falls to chance or below as eps grows.",
        data_uri(figure),
    )


def _first_and_last(defences: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The saved defence, and what it is compared with first."""
    return [defences[-1]] if len(defences) == 1 else [defences[-1], defences[0]]


def _seen(defences: list[dict[str, Any]]) -> list[Section]:
    """Pictures of the saved defence and of the first it is compared with; a recorded result has kept none."""
    shown = [_grid(detail) for detail in _first_and_last(defences) if "examples" in detail]
    return [Section("What the model sees", shown)] if shown else []


def _grid(detail: dict[str, Any]) -> Images:
    columns = ["clean", "change", "attacked", "clean, seen", "attacked, seen"]
    rows = []
    for example in detail["examples"]:
        said = {
            kind: ("" if example[f"{kind}_prediction"] == example["label"] else "!")
            + example[f"{kind}_prediction"]
            for kind in ("clean", "adversarial")
        }
        pictures = [
            (example["clean"], said["clean"]),
            (example["perturbation"], ""),
            (example["adversarial"], said["adversarial"]),
            (example["clean_preprocessed"], ""),
            (example["adversarial_preprocessed"], ""),
        ]
        rows.append((example["label"], pictures))
    return Images(
        f"{NAMES.get(detail['defence'], detail['defence'])}: the first test images, whatever they show. Left: the "
        "true class; under a picture: the prediction, red where wrong. The change is drawn with its "
        "largest value as black or white; seen is what the preprocessor hands to "
        "the model. Where no attack succeeded, the attacked image is the clean one.",
        columns,
        rows,
    )


def _trials(summary: Summary) -> list[Part]:
    """What the choice was made from, and why it fell so; results from before that was kept say the first alone."""
    columns, rows = accuracy_table(summary.details["trials"])
    rows = [[NAMES.get(row[0], row[0]), *row[1:]] for row in rows]
    caption = "What the choice was made from: short trials, on validation images alone, in %."
    choice = summary.details.get("choice")
    return [Table(caption, columns, rows), *([Text(choice["why"])] if choice else [])]


def _classes(detail: dict[str, Any], summary: Summary) -> list[Part]:
    parts: list[Part] = []
    found = detail.get("confusion")
    if found:
        classes = summary.details["classes"]
        words = {
            "clean": "Unattacked",
            "attacked": "Attacked: each image as the first attack that fooled it left it",
        }
        figures = [
            confusion_figure(found[kind], classes, f"{text}; true classes in rows, what was said in columns.")
            for kind, text in words.items()
        ]
        parts.append(SideBySide(figures))
    return [*parts, _per_class(detail)]


def _per_class(detail: dict[str, Any]) -> Table:
    rows = [
        [row["class"], shown(row["clean"]), shown(row["robust"]), row["clean"]["n"]]
        for row in detail["per_class"]
    ]
    return Table(f"{detail['defence']}, in %.", ["class", "clean", "under all attacks", "images"], rows)


def _training(defences: list[dict[str, Any]]) -> list[Part]:
    parts: list[Part] = []
    for detail in defences:
        history = detail["history"]
        if not history:
            parts.append(
                Text(f"{NAMES.get(detail['defence'], detail['defence'])}: nothing to train but the head.")
            )
            continue
        names = [
            name
            for name in dict.fromkeys(name for entry in history for name in entry)
            if name not in ("epoch", "phase", "learning_rate", "loss")
        ] or ["loss"]
        figure, axes = new_axes(len(names), figsize=(3.2 * max(2, len(names)), 2.8))
        for place, name in zip([axes] if len(names) == 1 else axes, names, strict=True):
            values = [entry[name] for entry in history if name in entry]
            place.plot([entry["epoch"] for entry in history if name in entry], values)
            place.set(xlabel="epoch", title=name.replace("_", " "))
            if min(values) > 0 and max(values) > 20 * min(values):
                place.set_yscale("log")
        caption = f"{detail['defence']}: losses of each epoch ({detail['parameters']:,} parameters)."
        parts.append(Figure(caption, data_uri(figure)))
    return parts
