"""The page of a sparse coding summary: findings, tables and figures, drawn from the JSON alone."""

from __future__ import annotations

from typing import Any

from heirloom.report import Section, Table, page
from heirloom.report.page import Part
from heirloom.results.schema import Summary
from heirloom_recipes.sparse_coding.cells import TableData
from heirloom_recipes.sparse_coding.drawings import (
    figure_4_parts,
    inherit_parts,
    lemma_parts,
    purify_parts,
    theorem_parts,
)
from heirloom_recipes.sparse_coding.tables import tables

TITLES = {
    "figure-4": "Built networks: loss against the features per node (Figure 4, Tables 6 to 8)",
    "purify": "Training: does the attack purify the nodes?",
    "inherit": "Downstream: what does a clean-trained head inherit?",
    "theorem": "Statement by statement: what the paper says, measured",
    "lemma": "Lemma 4.2: how much of the network the attacker sees",
}


def sparse_coding_page(summary: Summary) -> str:
    """The whole page as HTML."""
    found = tables(summary.rows)
    drawn = {
        "figure-4": figure_4_parts,
        "purify": purify_parts,
        "inherit": inherit_parts,
        "lemma": lemma_parts,
        "theorem": theorem_parts,
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
        abs(value)
        for row in summary.rows
        for value in row.get("paper_deviations", {}).values()
        if row.get("variant") == "fitted"
    ]
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
    heads = [row for row in rows_of(summary, "inherit") if row["networks"] == "trained" and "pretrain" in row]
    if heads:
        pgd = next(name for name in heads[0] if name.endswith("_pgd"))
        attacks = {"PGD": pgd, "an attack that sees closed gates": f"{pgd.removesuffix('_pgd')}_gate_aware"}
        for attack, name in attacks.items():
            shown = [(row[name]["value"], row["pretrain"]) for row in heads if name in row]
            if shown:
                said.append(
                    f"To {attack}, a clean-trained head loses {shown[0][0]:.2f} on clean pre-training and "
                    f"{min(shown)[0]:.2f} on the best pre-training, {min(shown)[1]}."
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
