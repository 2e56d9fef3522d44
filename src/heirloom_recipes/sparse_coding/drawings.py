"""The page's figures and the sentences beside them, experiment by experiment, from rows and details as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from heirloom.report import Figure, Text
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom.report.page import Part
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom_recipes.sparse_coding.gate_drawings import (
    LINE,
    OPEN_MAP,
    gaps_over_the_gate,
    increments_over_the_gate,
    over_the_gate,
    purified_over_the_gate,
    share_of_the_open_map,
)

MAIN = "square, gate"


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
    if "eps_over_c_b" in main[0]:
        left.set_xticks(ms, [f"{row['m']}\n{row['eps_over_c_b']:.2g}" for row in main])
        left.set_xlabel("features per node m; under it eps / c_b")
    slopes = ", ".join(f"{name} {value:.2f}" for name, value in details["slopes"].items())
    caption = "Left: losses of similar and dissimilar pairs, clean and attacked; crosses: the paper. Right: "
    caption += f"gamma_1 and gamma_2 against m, slopes in the logarithms: {slopes}."
    parts: list[Part] = [
        Figure(caption, data_uri(figure)),
        Text(" ".join(figure_4_sentences(main, rows, details["slopes"]))),
    ]
    if "eps_over_c_b" in main[0]:
        parts.append(increments_over_the_gate(main, rows))
    return parts


def figure_4_sentences(
    main: list[dict[str, Any]], rows: list[dict[str, Any]], slopes: dict[str, float]
) -> list[str]:
    """Sentences made of the figures."""
    first, last = main[0], main[-1]
    moved = {
        pair: [
            100 * (row[f"{pair}_adversarial"]["value"] - row[f"{pair}_clean"]["value"])
            for row in (first, last)
        ]
        for pair in ("similar", "dissimilar")
    }
    said = [
        f"From m = {first['m']} to {last['m']} the attack's addition to the loss (x 100) goes from "
        f"{moved['similar'][0]:.3f} to {moved['similar'][1]:.3f} for similar pairs and from "
        f"{moved['dissimilar'][0]:.2f} to {moved['dissimilar'][1]:.2f} for dissimilar ones."
    ]
    if "gamma_2" in slopes:
        said.append(
            f"The paper takes log gamma_2 = log gamma_1 squared; here the slope of gamma_2 in log m is "
            f"{slopes['gamma_2']:.2f}, that of gamma_1 squared {2 * slopes['gamma_1']:.2f}, and at m = {first['m']} "
            f"gamma_2 is {first['gamma_2']['value'] / max(first['gamma_1']['value'] ** 2, 1e-30):.1f} times it. "
            "Without the diagonal i = j, as the text prints it, gamma_2 is negative where the table says so."
        )
    exact = [row for row in rows if row["variant"] == "exactly m per node" and row["m"] == 1]
    if exact and first["m"] == 1:
        said.append(
            f"With exactly one feature in every node the addition is {100 * exact[0]['increment']['value']:.2f}: "
            "one feature on average is not purity."
        )
    return said


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
    parts: list[Part] = [
        Figure(
            f"{name}: how pure the nodes are after training (left), and on the way (right).", data_uri(figure)
        )
    ]
    parts += [
        Figure(
            f"{name}, {label}: U, one seed. A row is a feature, a column a node over its largest entry.", uri
        )
        for uri, label in zip(case["U"], labels, strict=False)
    ]
    if len(cases) > 1:
        parts.append(_all_curves(cases))
    return [*parts, *purified_over_the_gate(rows)]


def _all_curves(cases: dict[str, Any]) -> Part:
    columns = 3
    lines = -(-len(cases) // columns)
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
    c_b = details.get("c_b", SparseTraining().c_b)  # the first record has none, and was trained with this
    figure, (left, right) = new_axes(2, figsize=(9.5, 3.8))
    trained = [row for row in rows if row.get("networks") == "trained" and "pretrain" in row]
    first = next(row for row in rows if "pretrain" in row)
    last = [name for name in first if name.startswith("gap_") and name.count("_") == 1][-1][4:]
    gaps_over_the_gate(left, trained or [row for row in rows if "pretrain" in row], c_b)
    for number, kind in enumerate(("trained", "built")):
        points = details["points"][kind]
        for gap, fill in (("gap", "none"), ("gap_pgd", COLOURS[number])):
            right.plot(
                [p["pure"] for p in points],
                [p[gap] for p in points],
                "os"[number],
                ms=4,
                alpha=0.7,
                mec=COLOURS[number],
                mfc=fill,
                label=f"{kind}, {'PGD-20' if fill != 'none' else 'FGM'}",
            )
    right.set(xlabel="share of purified nodes", ylabel=f"L_eps - L_0, eps {float(last) / c_b:.2g} c_b")
    right.legend(fontsize=8)
    caption = (
        "Left: the gap of clean-trained heads over eps / c_b, crosses under FGM, discs under the attack that "
    )
    caption += f"sees gates. {LINE} Right: every network as a point."
    parts: list[Part] = [Figure(caption, data_uri(figure)), Text(inherit_sentence(rows))]
    if any(name.endswith("_gate_aware") for name in first):
        parts.append(Figure(OPEN_MAP, data_uri(share_of_the_open_map(rows, c_b))))
    return parts


def inherit_sentence(rows: list[dict[str, Any]]) -> str:
    """The gap of the purest and the least pure built networks, FGM and PGD, and what half of it takes."""
    built = [row for row in rows if row["networks"] == "built" and "pretrain" in row]
    if not built:
        return "No networks were built."
    last = [name for name in built[0] if name.startswith("gap_") and name.count("_") == 1][-1]
    attacks = ((last, "FGM"), (f"{last}_pgd", "PGD-20"), (f"{last}_gate_aware", "Gate-aware"))
    said = []
    for name, attack in ((name, attack) for name, attack in attacks if name in built[0]):
        gaps = [row[name]["value"] for row in built]
        half = (gaps[0] + gaps[-1]) / 2
        level = next(row["level"] for row, gap in zip(built, gaps, strict=True) if gap <= half)
        said.append(
            f"{attack}: the gap falls from {gaps[0]:.2f} with no pure node to {gaps[-1]:.2f} with pure nodes only; "
            f"half of the fall is reached at a share of {level:.0%} or less."
        )
    return "Built networks, largest eps. " + " ".join(said)


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


def theorem_parts(rows: list[dict[str, Any]], details: dict[str, Any]) -> list[Part]:
    """Lemma F.4: the share of inputs in which a gate flips, over eps / c_b."""
    flips = [row for row in rows if row["statement"] == "Lemma F.4"]
    if not flips:
        return []
    figure, axes = new_axes()
    for number, (m, attack) in enumerate(dict.fromkeys((row["m"], row["attack"]) for row in flips)):
        chosen = [row for row in flips if (row["m"], row["attack"]) == (m, attack)]
        x, label = [row["eps_over_c_b"] for row in chosen], f"m = {m}, {attack}"
        opened = [
            row["opened"] if isinstance(row["opened"], dict) else {"value": row["opened"]} for row in chosen
        ]
        half = [0.0 if cell.get("low") is None else cell["high"] - cell["value"] for cell in opened]
        y = [cell["value"] for cell in opened]
        axes.errorbar(x, y, half, fmt="o-", ms=4, capsize=2, color=COLOURS[number], label=label)
    over_the_gate(axes)
    axes.set_ylabel("share of inactive nodes that the attack opens")
    axes.legend(fontsize=8)
    caption = "Lemma F.4: gates of nodes without an active feature that open under attack [95 %]. "
    caption += LINE
    return [Figure(caption, data_uri(figure))]
