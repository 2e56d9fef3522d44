"""The page of a sparse coding summary: findings, tables and figures, drawn from the JSON alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from heirloom.report import Figure, Section, Table, Text, page
from heirloom.report.figures import COLOURS, data_uri, image_uri, new_axes
from heirloom.report.page import Part
from heirloom.results import Summary
from heirloom_recipes.sparse_coding.tables import TableData, tables

TITLES = {
    "figure-4": "Built networks: loss against the features per node (Figure 4, Tables 6 to 8)",
    "purify": "Training: does the attack purify the nodes?",
    "inherit": "Downstream: what does a clean-trained head inherit?",
    "lemma": "Lemma 4.2: how much of the network the attacker sees",
}
MAIN = "square, gate"


def sparse_coding_page(summary: Summary) -> str:
    """The whole page as HTML."""
    found = tables(summary.rows)
    drawn = {
        "figure-4": figure_4_parts,
        "purify": purify_parts,
        "inherit": inherit_parts,
        "lemma": lemma_parts,
    }
    sections = [
        Section(
            TITLES[lab], [*drawn[lab](rows_of(summary, lab), summary.details[lab]), *map(table, found[lab])]
        )
        for lab in found
    ]
    return page("Sparse coding: purification and inheritance", lead(summary), sections, summary)


def lead(summary: Summary) -> str:
    """The main findings, in the words that the figures allow."""
    said = []
    deviations = [
        abs(value) for row in summary.rows for value in row.get("paper_deviations", {}).values()
        if row.get("variant") == "fitted"
    ]  # fmt: skip
    if deviations:
        said.append(
            f"Figure 4: of {len(deviations)} figures in the paper's Tables 6 and 8, "
            f"{sum(d <= 2 for d in deviations)} lie within two of its standard deviations of ours."
        )
    judged = [row for row in rows_of(summary, "purify") if "purifies" in row]
    if judged:
        yes = sum(row["purifies"] == "yes" for row in judged)
        said.append(
            f"Adversarial training raised the top-1 energy share in {yes} of {len(judged)} trainings; where it "
            "did not, the table says so."
        )
    checked = rows_of(summary, "lemma")
    if checked:
        broken = sum(row["violations"] for row in checked)
        said.append(f"Lemma 4.2: {broken} violations in {sum(row['inputs'] for row in checked)} inputs.")
    return " ".join(said) or "What purity has to do with the robustness that a downstream head inherits."


def rows_of(summary: Summary, lab: str) -> list[dict[str, Any]]:
    return [row for row in summary.rows if row["lab"] == lab]


def table(data: TableData) -> Part:
    return Table(*data)


def figure_4_parts(rows: list[dict[str, Any]], details: dict[str, Any]) -> list[Part]:
    main = [row for row in rows if row["variant"] in ("fitted", "chosen")]
    ms = [row["m"] for row in main]
    figure, (left, right) = new_axes(2, figsize=(9.5, 3.8))
    for number, name in enumerate(
        ("similar_clean", "similar_adversarial", "dissimilar_clean", "dissimilar_adversarial")
    ):
        style = "-" if "adversarial" in name else "--"
        values, sds = [row[name]["value"] for row in main], [row[name]["sd"] for row in main]
        left.errorbar(
            ms, values, sds, fmt="o" + style, color=COLOURS[number], label=name.replace("_", " "), capsize=2
        )
        if "paper" in main[0]:
            left.plot(ms, [row["paper"][name]["value"] for row in main], "kx")
    left.plot([], [], "kx", label="paper")
    left.set(xlabel="features per node m", ylabel="contrastive loss")
    left.legend(fontsize=8, loc="center right")
    for number, name in enumerate(("gamma_1", "gamma_2")):
        right.loglog(ms, [row[name]["value"] for row in main], "o-", color=COLOURS[number], label=name)
        if "paper" in main[0]:
            right.loglog(ms, [row["paper"][name]["value"] for row in main], "kx")
    right.loglog(
        ms, [row["gamma_1"]["value"] ** 2 for row in main], ":", color=COLOURS[2], label="gamma_1 squared"
    )
    right.set(xlabel="features per node m")
    right.legend(fontsize=8)
    slopes = ", ".join(f"{name} {value:.2f}" for name, value in details["slopes"].items())
    caption = "Left: losses of similar and dissimilar pairs, clean and attacked; crosses: the paper. Right: "
    return [
        Figure(
            caption + f"gamma_1 and gamma_2 against m, slopes in the logarithms: {slopes}.", data_uri(figure)
        ),
        Text(
            "The attack adds to the loss of dissimilar pairs, and more so the more features share a node; it hardly "
            "moves similar pairs. gamma_2 stays above the square of gamma_1 and grows more slowly, in the paper's "
            "own Table 8 too: its remark log gamma_2 = log gamma_1 squared is not what either shows. With exactly "
            "one feature per node (below) far less is added than with one on average."
        ),
    ]


def purify_parts(rows: list[dict[str, Any]], details: dict[str, Any]) -> list[Part]:
    cases = details["cases"]
    name = MAIN if MAIN in cases else next(iter(cases))
    case = cases[name]
    labels = ["clean" if eps == 0 else f"eps {eps:.3g}" for eps in case["epsilons"]]
    figure, (left, right) = new_axes(2, figsize=(9.5, 3.6))
    edges = np.linspace(0, 1, 21)
    for number, (label, shares) in enumerate(zip(labels, case["histogram"], strict=True)):
        left.stairs(shares, edges, color=COLOURS[number], label=label, fill=True, alpha=0.45)
    left.set(xlabel="top-1 energy share of a node", ylabel="share of squared norm")
    left.legend(fontsize=9)
    for number, (label, curve) in enumerate(zip(labels, case["curves"]["top_1"], strict=True)):
        right.plot(case["steps"], curve, color=COLOURS[number], label=label)
    right.set(xlabel="step", ylabel="top-1 energy share", ylim=(0, 1))
    right.legend(fontsize=9)
    images = [(image_uri(1 - np.asarray(U)), label) for U, label in zip(case["U"], labels, strict=False)]
    parts: list[Part] = [
        Figure(
            f"{name}: how pure the nodes are after training (left), and on the way (right).", data_uri(figure)
        )
    ]
    parts += [
        Figure(
            f"{name}, {label}: U, one seed. A row is a feature, a column a node over its largest entry.", uri
        )
        for uri, label in images
    ]
    if len(cases) > 1:
        parts.append(_all_curves(cases))
    return parts


def _all_curves(cases: dict[str, Any]) -> Part:
    columns = 3
    lines = -(-len(cases) // columns)
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(9.5, 2.3 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for place, (name, case) in zip(axes, cases.items(), strict=False):
        for eps, curve in zip(case["epsilons"], case["curves"]["top_1"], strict=True):
            place.plot(case["steps"], curve, label="clean" if eps == 0 else f"eps {eps:.3g}")
        place.set_title(
            name.replace(", attack", ",\nattack").replace(", gradient", ",\ngradient"), fontsize=8
        )
        place.set_ylim(0, 1)
        place.tick_params(labelsize=7)
        place.legend(fontsize=6)
    for place in axes[len(cases) :]:
        place.set_axis_off()
    return Figure("Top-1 energy share over the steps of every training.", data_uri(figure))


def inherit_parts(rows: list[dict[str, Any]], details: dict[str, Any]) -> list[Part]:
    figure, (left, right) = new_axes(2, figsize=(9.5, 3.8))
    trained = [row for row in rows if row.get("networks") == "trained" and "pretrain" in row]
    gaps = [name for name in trained[0] if name.startswith("gap_") and not name.endswith("pgd")]
    eps = [float(name[4:]) for name in gaps]
    for row in trained:
        left.plot(eps, [row[name]["value"] for name in gaps], "o-", ms=3, label=row["pretrain"])
    left.set(xlabel="attack eps", ylabel="L_eps - L_0")
    left.legend(fontsize=7, title="pre-training", title_fontsize=8)
    for number, (kind, mark) in enumerate((("trained", "o"), ("built", "s"))):
        points = details["points"][kind]
        right.plot(
            [p["pure"] for p in points], [p["gap"] for p in points], mark, ms=4, alpha=0.7, mew=0,
            color=COLOURS[number], label=kind,
        )  # fmt: skip
    right.set(xlabel="share of purified nodes", ylabel=f"L_eps - L_0, eps {eps[-1]:g}")
    right.legend(fontsize=9)
    return [
        Figure(
            "Left: the gap of clean-trained heads against eps. Right: every network as a point.",
            data_uri(figure),
        )
    ]


def lemma_parts(rows: list[dict[str, Any]], details: dict[str, Any]) -> list[Part]:
    figure, axes = new_axes()
    for kind in dict.fromkeys(row["kind"] for row in rows):
        chosen = [row for row in rows if row["kind"] == kind]
        axes.loglog([r["m"] for r in chosen], [r["middle"]["value"] for r in chosen], "o-", label=kind)
    axes.axhline(rows[0]["lower"]["value"], color="black", ls="--", lw=1, label="lower")
    axes.axhline(rows[0]["upper"], color="black", ls=":", lw=1, label="upper")
    axes.set(xlabel="features per node m", ylabel="norm that the attacker sees")
    axes.legend(fontsize=9)
    slopes = ", ".join(f"{kind} {value:.2f}" for kind, value in details["slopes"].items())
    return [
        Figure(
            f"The middle term against m; slopes in the logarithms: {slopes} (theory: 0.5).", data_uri(figure)
        )
    ]
