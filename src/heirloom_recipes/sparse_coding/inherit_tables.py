"""The tables of ``inherit``: gaps of clean-trained heads by attack, and what they go with."""

from __future__ import annotations

from collections.abc import Sequence

from heirloom_recipes.sparse_coding.cells import Row, TableData, interval, spread


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
                spread(row["clean"], digits=3),
                spread(row["top_1"], digits=3),
                spread(row["pure"], digits=3),
                *(interval(row[name]) for name in gaps),
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
            *(interval(row[name]) for name in gaps),
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
                f"{interval(row[f'gap_{eps}_gate_aware'])} / {row[f'gap_{eps}_bound']['value']:.3f} / "
                f"{row[f'gap_{eps}_linear']['value']:.3f}"
                for eps in labels
            ),
        ]
        for row in rows
    ]
    title = f"{kind.capitalize()} networks, gate-aware attack: gap [95 %] / bound / all gates open"
    return title, ["networks", *(f"eps {eps}" for eps in labels)], cells
