"""The tables of ``purify``: training, downstream heads, the own task, and the change from clean training."""

from __future__ import annotations

from collections.abc import Sequence

from heirloom_recipes.sparse_coding.cells import Row, TableData, interval, spread, verdict, with_trial

# what `purify` compares with clean training: column, heading of the change, heading of the verdict
_CHANGES = {
    "top_1": ("top-1", "purifies"),
    "gap_0.3": ("gap .3", "inherits, FGM"),
    "gap_0.3_pgd": ("gap .3 PGD", "inherits, PGD"),
    "gap_0.3_gate_aware": ("gap .3 gate-aware", "inherits, gate-aware"),
}


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
                spread(row["downstream_clean"], digits=3),
                *(with_trial(row, name) for name in ("gap_0.1", "gap_0.3", "gap_0.3_pgd")),
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
    return spread(row[name], digits=3) if name in row else "-"


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
            *(interval(row["change"][name]) for name in names),
            *(verdict(row["change"][name], up=name == "top_1") for name in names),
        ]
        for row in rows
    ]
    return (
        "Change from clean training, paired by seed [95 %]: does the claim show?",
        ["training", "eps", *(_CHANGES[name][0] for name in names), *(_CHANGES[name][1] for name in names)],
        cells,
    )


def _purify_cells(row: Row) -> list[str]:
    attacked = [
        with_trial(row, f"adversarial_{eps}" if f"adversarial_{eps}" in row else f"dissimilar_{eps}")
        for eps in ("0.1", "0.3")
    ]
    return [
        with_trial(row, "clean"),
        *attacked,
        *(with_trial(row, n) for n in ("top_1", "hoyer", "count", "pure", "alignment")),
    ]
