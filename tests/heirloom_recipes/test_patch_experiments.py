"""The experiments, small: their rows, their summaries, their pages, the command line."""

import json
from pathlib import Path

import pytest
import torch

from heirloom.cli import app
from heirloom.cli.common import run
from heirloom.results.schema import Summary
from heirloom.theory.patches.attack import model_free_perturbation
from heirloom.theory.patches.model import PatchDistribution, sample_patches
from heirloom.theory.patches.training import PatchTraining
from heirloom_recipes.patches.experiments import patches_page
from heirloom_recipes.patches.figure3 import phase_experiment
from heirloom_recipes.patches.minima import minima_experiment
from heirloom_recipes.patches.perturbation import perturbation_experiment
from heirloom_recipes.patches.phases import noisy_run, phase_runs
from heirloom_recipes.patches.regime import regime_experiment
from heirloom_recipes.patches.regime_page import regime_section


def test_minima_agree_with_the_closed_form_everywhere() -> None:
    rows = minima_experiment().rows
    assert len(rows) == 12
    for row in rows:
        assert row["clean"].value == 1
        assert row["robust"].value == row["certified"].value == row["attack"].value
        assert row["robust"].value == float(row["predicted_robust"])
        assert row["predicted_robust"] == (row["features"] == "robust" and row["gamma"] <= 10)
    # Propositions 3.1 and 3.2: both losses vanish as gamma grows
    for features in ("robust", "non-robust"):
        losses = [row["loss"] for row in rows if row["features"] == features]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < 1e-6


@pytest.mark.parametrize("eps", [0.3, 0.55, 1.2])
def test_the_perturbation_stays_in_the_ball_and_off_the_robust_patches(eps: float) -> None:
    sample = sample_patches(PatchDistribution(), 30, torch.Generator().manual_seed(0))
    delta = model_free_perturbation(sample, eps, torch.Generator().manual_seed(1))
    assert delta.abs().max() <= eps + 1e-6
    assert (delta[sample.robust] == 0).all()
    v = sample.features[1]
    along = (delta * v[sample.y][:, None]).sum(-1)[~sample.robust]
    assert torch.allclose(along, -sample.strength[~sample.robust].clamp(max=eps))
    assert delta.sum(-1).abs().max() < 1e-5  # as much of another class's feature
    if eps > 1.05:  # the paper's own: the whole feature replaced by another class's
        moved = (sample.x + delta - (sample.x - sample.signal()))[~sample.robust]
        assert torch.allclose(moved.amax(-1), sample.strength[~sample.robust], atol=1e-5)
        assert (moved.gather(1, (5 + sample.y.repeat_interleave(139))[:, None]).abs() < 1e-5).all()


def test_a_small_figure_3_has_the_fixed_keys() -> None:
    runs = phase_runs([0, 1], [], objectives=("margin",))
    found = phase_experiment(runs)
    assert [row["training"] for row in found.rows] == ["standard"] * 2 + ["adversarial"] * 2
    fixed = {
        "training",
        "objective",
        "seed",
        "clean",
        "robust",
        "robust_correlation",
        "non_robust_correlation",
    }
    assert all(fixed <= row.keys() for row in found.rows)
    standard, adversarial = found.rows[0], found.rows[2]
    assert standard["non_robust_correlation"] > 0.8 > standard["robust_correlation"]
    assert adversarial["robust_correlation"] > 0.8 > adversarial["non_robust_correlation"]
    assert adversarial["clean_at"] < adversarial["overtaken_at"] < adversarial["robust_at"]


@pytest.mark.slow
def test_the_model_free_perturbation_breaks_standard_training_only() -> None:
    distribution = PatchDistribution()
    runs = [
        noisy_run(PatchTraining(*kind), [0], distribution, every=1000)
        for kind in (("none", 300), ("margin", 700))
    ]
    rows = perturbation_experiment(runs).rows
    at = {(row["training"], row["eps"]): row["accuracy"].value for row in rows if row["eps"] is not None}
    assert at["standard", 0.25] == at["adversarial", 0.25] == 1
    assert at["standard", 0.55] == at["standard", 1.05] == 0
    assert at["adversarial", 0.55] >= 0.95
    confidence = {row["training"]: row["confidence"] for row in rows if row["eps"] is None}
    assert confidence["standard"]["non-robust"] > 0.9 > 0.5 > confidence["standard"]["robust"]
    assert confidence["adversarial"]["robust"] > 0.9 > 0.5 > confidence["adversarial"]["non-robust"]


def test_a_small_regime_follows_the_inequality() -> None:
    axes = {"alpha": (4.0, 5.5)}
    found = regime_experiment(
        1, reliability_seeds=2, axes=axes, eps_grid=(0.4, 0.55, 0.7, 1.0), options={"filters": (30,)}
    )
    section = regime_section(found.details)
    assert [part.kind for part in section.parts] == ["text", "table", "table", "figure"]
    cells = [row for row in found.rows if row.get("alpha") == 4.0]
    assert [cell["possible"] for cell in cells] == [False, True, False, False]
    assert [cell["adversarial_robust"] >= 0.95 for cell in cells] == [True, True, False, False]
    assert [cell["standard_robust"] == 0 for cell in cells] == [False, True, True, True]


def test_the_command_writes_a_summary_and_a_page_drawn_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phases"
    arguments = [
        "theory",
        "patches",
        "phases",
        "--seeds",
        "2",
        "--noisy-seeds",
        "0",
        "--filters",
        "40",
        "--out",
        str(out),
    ]
    assert run(app, [*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "Where training ends" in printed.out
    assert str(out / "summary.json") in printed.out
    summary = Summary.read(out / "summary.json")
    assert len(summary.rows) == 12  # four trainings of 40 filters, two at the edge
    assert [row["filters"] for row in summary.rows] == [40] * 8 + [30] * 4
    assert all(set(row["clean"]) == {"value", "low", "high", "n"} for row in summary.rows)
    assert (out / "report.html").read_text() == patches_page(summary)
    assert json.loads((out / "summary.json").read_text())["settings"]["eps"] == 0.55


def test_growth_predicts_standard_training_and_says_where_it_does_not(tmp_path: Path) -> None:
    assert run(app, ["theory", "patches", "growth", "--seeds", "2", "--out", str(tmp_path)]) == 0
    summary = Summary.read(tmp_path / "summary.json")
    standard, adversarial = (
        [row for row in summary.rows if row["training"] == kind] for kind in ("standard", "adversarial")
    )
    assert len(standard) == len(adversarial) == 2
    assert max(row["error_non_robust"][0] for row in standard) < 1e-3
    assert min(row["error_non_robust"][0] for row in adversarial) > 0.1
    for row in standard:
        for predicted, found in zip(row["predicted_non_robust"], row["takeover_non_robust"], strict=True):
            assert found == pytest.approx(predicted, rel=0.05)
    assert (tmp_path / "report.html").read_text() == patches_page(summary)


def test_another_run_of_minima_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["theory", "patches", "minima", "--out", str(tmp_path)]
    assert run(app, command) == 0
    first = Summary.read(tmp_path / "summary.json")
    assert run(app, [*command, "--eps", "0.5", "--resume"]) == 2
    assert "another settings.eps" in capsys.readouterr().err
    assert run(app, [*command, "--resume"]) == 0
    assert Summary.read(tmp_path / "summary.json").rows == first.rows


def test_minima_from_the_command_line(tmp_path: Path) -> None:
    assert run(app, ["theory", "patches", "minima", "--out", str(tmp_path)]) == 0
    drawn = (tmp_path / "report.html").read_text()
    assert "certified" in drawn
    (tmp_path / "report.html").unlink()
    assert run(app, ["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_text() == drawn


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["phases", "--eps", "0"], "eps must be above 0"),
        (["phases", "--patches", "1"], "patches must be at least 2"),
        (["phases", "--robust-patches", "140"], "--robust-patches must be from 1 to patches - 1 = 139"),
        (["phases", "--seeds", "0"], "--seeds"),
        (["minima", "--eps", "-1"], "eps must be above 0"),
    ],
)
def test_wrong_input_is_one_sentence(
    wrong: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["theory", "patches", *wrong, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()
