"""Both sides of Theorem 1: parts that are known beforehand."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.report.pages import draw
from heirloom.results.schema import Summary
from heirloom_recipes.cropd.bound import _distances, measure_bound
from heirloom_recipes.cropd.bound_page import one_kappa, printed, right_side
from heirloom_recipes.record import ROOT


def test_distances_on_four_points() -> None:
    z = torch.tensor([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]])
    y = torch.tensor([0, 0, 1, 1])
    z_adv = z + torch.tensor([[0.5, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = _distances(z, z_adv, y)
    scale = (2 * 1 + 2 * 4 + 2 * 17**0.5) / 6
    assert found["eta_1"] == pytest.approx(3 / scale)
    assert found["eta_2"] == pytest.approx(1 / scale)  # the second point came within 1 of the other class
    assert found["premise"] == 0.75


def test_the_rows_fit_together_and_are_drawn(foundation: Path, tmp_path: Path) -> None:
    options = {"weights": (0.0,), "radii": (0.05, 0.15), "epochs": 1, "limit": 30, "seeds": 2}
    summary = measure_bound(str(foundation), tmp_path, **options)  # type: ignore[arg-type]
    assert [(row["seed"], row["eps"]) for row in summary.rows] == [(0, 0.05), (0, 0.15), (1, 0.05), (1, 0.15)]
    for row in summary.rows:
        assert row["adversarial_loss"] >= row["clean_loss"]
        gap = row["adversarial_loss"] - row["clean_loss"]
        assert row["contrastive"] * row["least_kappa"] == pytest.approx(gap)
        assert 0 <= row["premise"] <= 1
    # lambda 0 knows no eps: one preprocessor a seed
    assert summary.rows[0]["clean_loss"] == summary.rows[1]["clean_loss"] != summary.rows[2]["clean_loss"]
    (table,) = printed(summary)
    assert [row[:2] for row in table.rows] == [["0", "0.05"], ["0", "0.15"]]
    assert all("[" in row[3] for row in table.rows)  # intervals over seeds
    with pytest.raises(InputError, match=r"another settings\.epochs"):
        measure_bound(str(foundation), tmp_path, **{**options, "epochs": 2}, resume=True)  # type: ignore[arg-type]


def test_the_recorded_run_is_drawn_with_both_sides(tmp_path: Path) -> None:
    summary = Summary.read(ROOT / "results/cropd/bound.json")
    every = right_side(summary.rows, one_kappa(summary.rows))
    assert all(
        row["right"] >= row["adversarial_loss"] - 1e-9 for row in every if row["least_kappa"] is not None
    )
    shown = draw(summary, tmp_path).read_text()
    assert "<figure>" in shown
    assert "least kappa" in shown
