"""Both sides of Theorem 1: parts that are known beforehand."""

from pathlib import Path

import pytest
import torch

from heirloom_recipes.cropd.bound import _distances, measure_bound


def test_distances_on_four_points() -> None:
    z = torch.tensor([[0.0, 0.0], [0.0, 1.0], [4.0, 0.0], [4.0, 1.0]])
    y = torch.tensor([0, 0, 1, 1])
    z_adv = z + torch.tensor([[0.5, 0.0], [3.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    found = _distances(z, z_adv, y)
    scale = (2 * 1 + 2 * 4 + 2 * 17**0.5) / 6
    assert found["eta_1"] == pytest.approx(3 / scale)
    assert found["eta_2"] == pytest.approx(1 / scale)  # the second point came within 1 of the other class
    assert found["premise"] == 0.75


def test_the_rows_fit_together(foundation: Path, tmp_path: Path) -> None:
    options = {"weights": (10.0,), "radii": (0.15,), "epochs": 1, "limit": 30}
    (row,) = measure_bound(str(foundation), tmp_path, **options).rows  # type: ignore[arg-type]
    assert row["adversarial_loss"] >= row["clean_loss"]
    gap = row["adversarial_loss"] - row["clean_loss"]
    assert row["contrastive"] * row["least_kappa"] == pytest.approx(gap)
    assert 0 <= row["premise"] <= 1
    assert (tmp_path / "summary.json").exists()
