"""Rows of a summary as tables: (title, columns, cells), the same for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
# what `purify` compares with clean training: column, heading of the change, heading of the verdict
_CHANGES = {
    "top_1": ("top-1", "purifies"),
    "gap_0.3": ("gap .3", "inherits, FGM"),
    "gap_0.3_pgd": ("gap .3 PGD", "inherits, PGD"),
    "gap_0.3_gate_aware": ("gap .3 gate-aware", "inherits, gate-aware"),
}
TableData = tuple[str, list[str], list[list[str]]]


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
            [str(row["m"]), *(_beside(row, name, 100, 3 if name[:8] == "similar_" else 2) for name in names)]
            for row in main
        ],
    )
    averages = ("gamma_1", "gamma_2", "gamma_2_off_diagonal")
    gammas: TableData = (
        "gamma_1 and gamma_2, mean ± SD over repeats (paper)",
        ["m", "gamma_1", "gamma_2 (with i = j)", "gamma_2 (i != j)", "gamma_1 squared"],
        [
            [str(row["m"]), *(_beside(row, name) for name in averages), f"{row['gamma_1']['value'] ** 2:.2e}"]
            for row in main
        ],
    )
    seen = [row for row in rows if "dissimilar_gate_aware" in row]
    others = [row for row in rows if row["variant"] not in ("fitted", "chosen") and row not in seen]
    columns = ["variant", "m", "dissimilar clean", "dissimilar adversarial", "increment", "gamma_1"]
    cells = [
        [
            row["variant"],
            str(row["m"]),
            *(
                _mean(row[name], 100, 2)
                for name in ("dissimilar_clean", "dissimilar_adversarial", "increment")
            ),
            _mean(row["gamma_1"]),
        ]
        for row in others
    ]
    found = [losses, gammas]
    if others:
        found.append(("Other readings of the text (losses x 100)", columns, cells))
    return [*found, _seen_table(seen)] if seen else found


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
            _mean(row["increment"], 100, 2),
            *(_mean(row[name], 100, 1) for name in names),
            _mean(row["similar_gate_aware"], 100, 3),
        ]
        for row in rows
    ]
    title = "What an attack that sees closed gates adds to the dissimilar pairs' loss x 100, mean ± SD over repeats"
    return title, columns, cells


def purify_tables(rows: Sequence[Row]) -> list[TableData]:
    columns = ["training", "eps", "clean", "adv .1", "adv .3", "top-1", "Hoyer", "count", "pure", "alignment"]
    training: TableData = (
        "Test losses and purity, mean over seeds (earlier trial); contrastive: adv = dissimilar pairs",
        columns,
        [[row["case"], f"{row['train_eps']:.3g}", *_purify_cells(row)] for row in rows],
    )
    heads: TableData = (
        "Clean-trained downstream head: L_eps - L_0 by attack, mean over seeds (earlier trial)",
        ["training", "eps", "L_0", "gap .1", "gap .3", "gap .3 PGD", "gap .3 gate-aware", "bound", "linear"],
        [
            [
                row["case"],
                f"{row['train_eps']:.3g}",
                _mean(row["downstream_clean"], digits=3),
                *(_trial(row, name) for name in ("gap_0.1", "gap_0.3", "gap_0.3_pgd")),
                *(_seen(row, f"gap_0.3_{name}") for name in ("gate_aware", "bound", "linear")),
            ]
            for row in rows
        ],
    )
    own: TableData = (
        "The task of pre-training itself: what the gate-aware attack adds, and no attack exceeds",
        ["training", "eps", "adds .1", "bound .1", "adds .3", "bound .3"],
        [
            [
                row["case"],
                f"{row['train_eps']:.3g}",
                *(
                    _seen(row, f"own_gap_{eps}_{name}")
                    for eps in ("0.1", "0.3")
                    for name in ("gate_aware", "bound")
                ),
            ]
            for row in rows
        ],
    )
    return [training, heads, own, _changes([row for row in rows if "change" in row])]


def _seen(row: Row, name: str) -> str:
    return _mean(row[name], digits=3) if name in row else "-"


def _changes(rows: Sequence[Row]) -> TableData:
    names = [
        n
        for n in ("top_1", "gap_0.3", "gap_0.3_pgd", "gap_0.3_gate_aware")
        if all(n in r["change"] for r in rows)
    ]
    cells = [
        [
            row["case"],
            f"{row['train_eps']:.3g}",
            *(_interval(row["change"][name]) for name in names),
            *(verdict(row["change"][name], up=name == "top_1") for name in names),
        ]
        for row in rows
    ]
    return (
        "Change from clean training, paired by seed [95 %]: does the claim show?",
        ["training", "eps", *(_CHANGES[name][0] for name in names), *(_CHANGES[name][1] for name in names)],
        cells,
    )


def verdict(change: Row, *, up: bool) -> str:
    """``yes`` where the 95 % interval of the change lies on the claimed side of 0, ``reversed`` where it lies
    on the other, else ``not shown``.
    """
    if change["low"] is None:
        return "not shown"
    low, high = (change["low"], change["high"]) if up else (-change["high"], -change["low"])
    return "yes" if low > 0 else "reversed" if high < 0 else "not shown"


def _purify_cells(row: Row) -> list[str]:
    attacked = [
        _trial(row, f"adversarial_{eps}" if f"adversarial_{eps}" in row else f"dissimilar_{eps}")
        for eps in ("0.1", "0.3")
    ]
    return [
        _trial(row, "clean"),
        *attacked,
        *(_trial(row, n) for n in ("top_1", "hoyer", "count", "pure", "alignment")),
    ]


def inherit_tables(rows: Sequence[Row]) -> list[TableData]:
    found = []
    for kind, title in (
        ("trained", "Gap of a clean-trained head on pre-trained networks [95 %]"),
        ("built", "Gap of a clean-trained head on built networks, mixed nodes hold 5 features [95 %]"),
    ):
        chosen = [row for row in rows if row["networks"] == kind and "pretrain" in row]
        gaps = [name for name in chosen[0] if name.startswith("gap_")] if chosen else []
        seen = [name for name in gaps if name.endswith(("_gate_aware", "_bound", "_linear"))]
        gaps = [name for name in gaps if name not in seen]
        cells = [
            [
                row["pretrain"],
                _mean(row["clean"], digits=3),
                _mean(row["top_1"], digits=3),
                _mean(row["pure"], digits=3),
                *(_interval(row[name]) for name in gaps),
            ]
            for row in chosen
        ]
        found.append(
            (title, ["networks", "L_0", "top-1", "pure", *(g.replace("_", " ") for g in gaps)], cells)
        )
        if seen:
            found.append(_seen_gaps(kind, chosen, seen))
    ranked = [row for row in rows if "rank_correlation_with" in row]
    gaps = [name for name in ranked[0] if name.startswith("gap_")] if ranked else []
    cells = [
        [
            row["networks"],
            row["rank_correlation_with"],
            *(_interval(row[name]) for name in gaps),
            str(row[gaps[0]]["n"]),
        ]
        for row in ranked
    ]
    columns = ["networks", "measure", *(name.replace("_", " ") for name in gaps), "networks in all"]
    return [*found, ("Rank correlation (Spearman) of the gap with purity [95 %]", columns, cells)]


def _seen_gaps(kind: str, rows: Sequence[Row], names: Sequence[str]) -> TableData:
    """eps by eps: found [95 %] / no attack exceeds / the same head with every gate open."""
    labels = list(dict.fromkeys(name.split("_")[1] for name in names))
    cells = [
        [
            row["pretrain"],
            *(
                f"{_interval(row[f'gap_{eps}_gate_aware'])} / {row[f'gap_{eps}_bound']['value']:.3f} / "
                f"{row[f'gap_{eps}_linear']['value']:.3f}"
                for eps in labels
            ),
        ]
        for row in rows
    ]
    title = f"{kind.capitalize()} networks, gate-aware attack: gap [95 %] / bound / all gates open"
    return title, ["networks", *(f"eps {eps}" for eps in labels)], cells


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
        cells = [[_plain(row[name]) for name in columns] for row in chosen]
        found.append((statement, [name.replace("_", " ") for name in columns], cells))
    return found


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return _interval(value) if "low" in value else f"{value['value']:.3g} ± {value['sd']:.1g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mean(cell: Row, times: float = 1, digits: int | None = None) -> str:
    value, sd = cell["value"] * times, cell["sd"] * times
    return f"{value:.2e} ± {sd:.1e}" if digits is None else f"{value:.{digits}f} ± {sd:.{digits}f}"


def _beside(row: Row, name: str, times: float = 1, digits: int | None = None) -> str:
    text = _mean(row[name], times, digits)
    paper = row.get("paper", {}).get(name)
    if paper is None:
        return text
    value = (paper["value"] if isinstance(paper, dict) else paper) * times
    return f"{text} ({value:.2e})" if digits is None else f"{text} ({value:.{digits}f})"


def _trial(row: Row, name: str) -> str:
    text = _mean(row[name], digits=3)
    trial = row.get("trial", {}).get(name)
    return text if trial is None else f"{text} ({trial:g})"


def _interval(cell: Row) -> str:
    if cell["low"] is None:
        return f"{cell['value']:.3f}"
    return f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"
