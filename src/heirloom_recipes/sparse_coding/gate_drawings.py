"""Curves over eps / c_b, with the line that Lemma F.4 asks to stay far left of: at eps = c_b an attack can open any
gate."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure as Canvas

from heirloom.report import Figure
from heirloom.report.figures import COLOURS, data_uri, new_axes
from heirloom_recipes.sparse_coding.cases import CASES
from heirloom_recipes.sparse_coding.intervals import interval_of
from heirloom_recipes.sparse_coding.readings import OVER, SEEN

Row = dict[str, Any]
LINE = "Dotted: eps = c_b, where an attack can open any gate; Lemma F.4 needs eps far below it."
OPEN_MAP = f"The gap over eps / c_b, as a share of the gap of the same head with every gate open. {LINE}"
STYLES = {"": ("x--", "FGM"), "_gate_aware": ("o-", "gate-aware"), "_bound": ("^:", "no attack exceeds")}


def over_the_gate(axes: Any) -> None:
    """The axis and F.4's line."""
    axes.axvline(1, color="black", lw=1, ls=":")
    axes.set(xscale="log", xlabel="eps / c_b")


def gap_curve(row: Row, suffix: str, c_b: float) -> tuple[list[float], list[float], list[float]]:
    """eps / c_b, the gaps under the attack of ``suffix`` ("" is FGM), and half their intervals."""
    labels = sorted({name.split("_")[1] for name in row if name.startswith("gap_")}, key=float)
    here = [label for label in labels if f"gap_{label}{suffix}" in row]
    cells = [row[f"gap_{label}{suffix}"] for label in here]
    ends = [cell if "low" in cell else interval_of(cell) for cell in cells]
    half = [0.0 if end["low"] is None else end["high"] - end["value"] for end in ends]
    return [float(label) / c_b for label in here], [cell["value"] for cell in cells], half


def gaps_over_the_gate(axes: Any, rows: list[Row], c_b: float) -> None:
    """L_eps - L_0 of each row, under FGM (crosses) and, where it was run, the gate-aware attack (discs)."""
    for number, row in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        for suffix in ("", "_gate_aware"):
            x, y, _ = gap_curve(row, suffix, c_b)
            axes.plot(x, y, STYLES[suffix][0], ms=3, color=colour, label=None if suffix else row["pretrain"])
    over_the_gate(axes)
    axes.set(yscale="log", ylabel="L_eps - L_0")
    axes.legend(fontsize=7, title="networks", title_fontsize=8)


def share_of_the_open_map(rows: list[Row], c_b: float) -> Canvas:
    """The first and the last of the trained and of the built networks, as shares of the open map's gap."""
    kinds = {
        kind: [row for row in rows if row.get("networks") == kind and "pretrain" in row]
        for kind in ("trained", "built")
    }
    drawn = {kind: (chosen[:1] + chosen[-1:]) for kind, chosen in kinds.items() if chosen}
    figure, axes = new_axes(len(drawn), figsize=(4.75 * len(drawn), 4.4))
    for place, (kind, ends) in zip([axes] if len(drawn) == 1 else axes, drawn.items(), strict=True):
        for number, row in enumerate(ends):
            for suffix, (style, name) in STYLES.items():
                linear = dict(zip(*gap_curve(row, "_linear", c_b)[:2], strict=True))
                points = [
                    (x, y / linear[x])
                    for x, y, _ in zip(*gap_curve(row, suffix, c_b), strict=True)
                    if x in linear
                ]
                label = f"{row['pretrain']}, {name}"
                place.plot(*zip(*points, strict=True), style, ms=4, color=COLOURS[number], label=label)
        over_the_gate(place)
        place.axhline(1, color="0.6", lw=1)
        place.set(yscale="log", ylabel="gap over that of the open map", title=kind)
        place.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    return figure


def purified_over_the_gate(rows: list[Row]) -> list[Figure]:
    """``purify``: the gap of heads over eps / c_b, clean and adversarial training; gate networks under L2 alone, of
    which Lemma F.4 speaks."""
    gates = {
        case.name: case.setting
        for case in CASES
        if (case.setting.activation, case.setting.norm) == ("gate", "L2")
    }
    names = [name for name in dict.fromkeys(row["case"] for row in rows) if name in gates]
    if not names:
        return []
    lines = -(-len(names) // 3)
    figure = Canvas(figsize=(9.5, 2.9 * lines), layout="constrained")
    places = figure.subplots(lines, 3, squeeze=False).flatten()
    for place, name in zip(places, names, strict=False):
        for number, row in enumerate(row for row in rows if row["case"] == name):
            trained = "clean" if row["train_eps"] == 0 else f"eps {row['train_eps']:.3g}"
            for suffix, (style, attack) in list(STYLES.items())[:2]:
                x, y, half = gap_curve(row, suffix, gates[name].c_b)
                place.errorbar(
                    x, y, half, fmt=style, ms=3, color=COLOURS[number], label=f"{trained}, {attack}"
                )
        over_the_gate(place)
        place.set_yscale("log")
        place.set_title(name, fontsize=8)
        place.tick_params(labelsize=7)
        place.legend(fontsize=5)
    for place in places[len(names) :]:
        place.set_axis_off()
    return [Figure(f"Gaps of clean-trained heads over eps / c_b [95 % over seeds]. {LINE}", data_uri(figure))]


def increments_over_the_gate(main: list[Row], rows: list[Row]) -> Figure:
    """Figure 4's increment over eps / c_b: its own levels, and where they were run, curves of one m."""
    figure, axes = new_axes()
    x = [row["eps_over_c_b"] for row in main]
    axes.plot(x, [row["increment"]["value"] for row in main], "ks", label="the paper's levels, FGM")
    seen = [row for row in rows if row["variant"] == SEEN]
    if seen:
        y = [row["dissimilar_gate_aware"]["value"] for row in seen]
        axes.plot([row["eps_over_c_b"] for row in seen], y, "k*", ms=9, label="the same, gate-aware")
    over = [row for row in rows if row["variant"] == OVER]
    for number, m in enumerate(dict.fromkeys(row["m"] for row in over)):
        chosen = [row for row in over if row["m"] == m]
        x, colour = [row["eps_over_c_b"] for row in chosen], COLOURS[number]
        for name, (style, attack) in (
            ("increment", STYLES[""]),
            ("dissimilar_gate_aware", STYLES["_gate_aware"]),
            ("dissimilar_bound", STYLES["_bound"]),
        ):
            y = [row[name]["value"] for row in chosen]
            axes.plot(x, y, style, ms=4, color=colour, label=f"m = {m}, {attack}")
    for row in main:
        axes.annotate(f" m = {row['m']}", (row["eps_over_c_b"], row["increment"]["value"]), fontsize=7)
    over_the_gate(axes)
    axes.set(yscale="log", ylabel="added to the dissimilar pairs' loss")
    axes.legend(fontsize=6)
    return Figure(f"What the attack adds over eps / c_b. {LINE}", data_uri(figure))
