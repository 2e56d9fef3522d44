"""Rows of a summary as tables: (title, columns, cells), the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence

from heirloom_recipes.sparse_coding.cells import Row, TableData, beside, of_mean, plain, spread
from heirloom_recipes.sparse_coding.inherit_tables import inherit_tables
from heirloom_recipes.sparse_coding.purify_tables import purify_tables
from heirloom_recipes.sparse_coding.readings import MOVED, OVER, SEEN


def tables(rows: Sequence[Row]) -> dict[str, list[TableData]]:
    """Tables by experiment, from the rows of a summary, as JSON has them."""
    makers = {
        "figure-4": figure_4_tables,
        "purify": purify_tables,
        "inherit": inherit_tables,
        "lemma": lemma_tables,
        "theorem": theorem_tables,
    }
    labs = dict.fromkeys(row["lab"] for row in rows)
    return {lab: makers[lab]([row for row in rows if row["lab"] == lab]) for lab in labs}


def figure_4_tables(rows: Sequence[Row]) -> list[TableData]:
    main = [row for row in rows if row["variant"] in ("fitted", "chosen")]
    names = (
        "similar_clean",
        "similar_adversarial",
        "dissimilar_clean",
        "dissimilar_adversarial",
        "increment",
    )
    losses: TableData = (
        "Contrastive losses x 100, mean ± SD over repeats (paper)",
        ["m", *(name.replace("_", " ") for name in names)],
        [
            [str(row["m"]), *(beside(row, name, 100, 3 if name[:8] == "similar_" else 2) for name in names)]
            for row in main
        ],
    )
    averages = ("gamma_1", "gamma_2", "gamma_2_off_diagonal")
    gammas: TableData = (
        "gamma_1 and gamma_2, mean ± SD over repeats (paper)",
        ["m", "gamma_1", "gamma_2 (with i = j)", "gamma_2 (i != j)", "gamma_1 squared"],
        [
            [str(row["m"]), *(beside(row, name) for name in averages), f"{row['gamma_1']['value'] ** 2:.2e}"]
            for row in main
        ],
    )
    seen = [row for row in rows if row["variant"].startswith(SEEN)]
    apart = {"fitted", "chosen", OVER, *MOVED}
    others = [row for row in rows if row["variant"] not in apart and row not in seen]
    columns = ["variant", "m", "dissimilar clean", "dissimilar adversarial", "increment", "gamma_1"]
    cells = [
        [
            row["variant"],
            str(row["m"]),
            *(
                spread(row[name], 100, 2)
                for name in ("dissimilar_clean", "dissimilar_adversarial", "increment")
            ),
            spread(row["gamma_1"]),
        ]
        for row in others
    ]
    found = [losses, gammas]
    if others:
        found.append(("Other readings of the text (losses x 100)", columns, cells))
    if any(row["variant"] in MOVED for row in rows):
        found.append(_evidence([row for row in rows if row["variant"] in {"fitted", *MOVED}]))
    if seen:
        found.append(_seen_table(seen))
    over = [row for row in rows if row["variant"] == OVER]
    return [*found, _over_table(over)] if over else found


def _evidence(rows: Sequence[Row]) -> TableData:
    """One line a reading: every level's increment, in % of the paper's and in standard errors of the difference."""
    ms = list(dict.fromkeys(row["m"] for row in rows))
    cells = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        chosen = {row["m"]: row for row in rows if row["variant"] == variant}
        told = [_off(chosen[m]) for m in ms]
        errors = [abs(row["increment_errors"]) for row in chosen.values() if "increment_errors" in row]
        worst = f"{max(errors):.1f}" if errors else "-"
        cells.append([variant, *told, worst])
    title = "The recovered eps and b moved: the increment x 100, off the paper's by % (standard errors)"
    return title, ["reading", *(f"m = {m}" for m in ms), "worst, standard errors"], cells


def _off(row: Row) -> str:
    text = f"{100 * row['increment']['value']:.2f}"
    if "increment_errors" not in row:
        return text
    return f"{text}, {100 * (row['increment_ratio'] - 1):+.1f} % ({row['increment_errors']:+.1f})"


def _over_table(rows: Sequence[Row]) -> TableData:
    names = ("increment", "dissimilar_gate_aware", "dissimilar_bound", "dissimilar_linear")
    cells = [
        [str(row["m"]), f"{row['eps_over_c_b']:.2g}", *(of_mean(row[name], 100, 2) for name in names)]
        for row in rows
    ]
    title = "What an attack adds to the dissimilar pairs' loss x 100 over eps / c_b [95 % over repeats]"
    return title, ["m", "eps / c_b", "FGM", "gate-aware", "no attack exceeds", "all gates open"], cells


def _seen_table(rows: Sequence[Row]) -> TableData:
    columns = [
        "nodes",
        "m",
        "FGM",
        "gate-aware",
        "no attack exceeds",
        "all gates open",
        "similar, gate-aware",
    ]
    names = [f"dissimilar_{name}" for name in ("gate_aware", "bound", "linear")]
    cells = [
        [
            "exactly m" if "exactly" in row["variant"] else "random",
            str(row["m"]),
            of_mean(row["increment"], 100, 2),
            *(of_mean(row[name], 100, 1) for name in names),
            of_mean(row["similar_gate_aware"], 100, 3),
        ]
        for row in rows
    ]
    title = (
        "What an attack that sees closed gates adds to the dissimilar pairs' loss x 100 [95 % over repeats]"
    )
    return title, columns, cells


def lemma_tables(rows: Sequence[Row]) -> list[TableData]:
    columns = ["network", "m", "lower", "middle (earlier trial)", "upper", "middle / sqrt(m k)", "violations"]
    cells = [
        [
            row["kind"],
            str(row["m"]),
            f"{row['lower']['value']:.3f}",
            f"{row['middle']['value']:.3f}" + (f" ({row['trial']})" if "trial" in row else ""),
            f"{row['upper']:.2f}",
            f"{row['over_sqrt_mk']:.3f}",
            f"{row['violations']} of {row['inputs']}",
        ]
        for row in rows
    ]
    return [("Lemma 4.2: lower <= middle <= upper", columns, cells)]


def theorem_tables(rows: Sequence[Row]) -> list[TableData]:
    """A table for each statement, with the columns that its rows have."""
    found = []
    for statement in dict.fromkeys(row["statement"] for row in rows):
        chosen = [row for row in rows if row["statement"] == statement]
        columns = [name for name in chosen[0] if name not in ("lab", "statement")]
        cells = [[plain(row[name]) for name in columns] for row in chosen]
        found.append((statement, [name.replace("_", " ") for name in columns], cells))
    return found
