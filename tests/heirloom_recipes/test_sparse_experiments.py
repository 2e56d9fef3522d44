"""The experiments on sparse coding data, small: their rows, their verdicts."""

import math
from typing import Any

import pytest
import torch

from heirloom.theory.sparse_coding.downstream import Effort
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom_recipes.sparse_coding import gate_drawings
from heirloom_recipes.sparse_coding.cases import CASES, Case
from heirloom_recipes.sparse_coding.cells import verdict
from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting
from heirloom_recipes.sparse_coding.gate_drawings import gap_curve, purified_over_the_gate
from heirloom_recipes.sparse_coding.inherit import inherit
from heirloom_recipes.sparse_coding.intervals import interval, spearman
from heirloom_recipes.sparse_coding.lemma import lemma
from heirloom_recipes.sparse_coding.purify import arranged, purify
from heirloom_recipes.sparse_coding.slopes import slope
from heirloom_recipes.sparse_coding.slopes import verdict as verdict_of

DATA = SparseCoding(d=12, k=2, zeta=0.05)
SMALL = SparseTraining(data=DATA, nodes=30, steps=12, batch=40, init=0.3)


@pytest.fixture
def one_eps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heirloom_recipes.sparse_coding.inherit.GATE_AWARE_EPS", (0.3,))


def test_inherit_gives_a_row_for_each_network(one_eps: None) -> None:
    shares = (0.0, 0.25, 0.5, 1.0)
    few = {"shares": shares, "size": (300, 100), "effort": Effort(10, 0)}
    found = inherit(SMALL, (0, 1), 2, epsilons=(0.0, 0.1, 0.2), **few)  # type: ignore[arg-type]
    rows = found.rows()
    trained = [row for row in rows if row["networks"] == "trained" and "pretrain" in row]
    assert [row["pretrain"] for row in trained] == [
        "eps 0",
        "eps 0.1",
        "eps 0.2",
        "clean first, then eps 0.2",
    ]
    assert all(row["gap_0.3"]["n"] == 2 for row in trained)
    assert all(row["gap_0.3_gate_aware"]["value"] <= row["gap_0.3_bound"]["value"] for row in trained)
    built_rows = [row for row in rows if row["networks"] == "built" and "pretrain" in row]
    assert [row["pure"].value for row in built_rows] == pytest.approx(shares, abs=0.05)
    assert {row["rank_correlation_with"] for row in rows if "rank_correlation_with" in row} >= {
        "top_1",
        "hoyer",
    }


def test_the_seed_decides_the_built_networks_and_their_tasks_too(one_eps: None) -> None:
    """Issue 10: ``--seed`` reached the trained networks only."""
    rows = {
        seed: [
            (row["clean"].value, row["gap_0.3"]["value"])
            for row in inherit(
                SMALL,
                (seed,),
                2,
                epsilons=(0.0,),
                shares=(0.0, 0.5, 1.0),
                size=(300, 100),
                effort=Effort(10, 0),
            ).rows()
            if row["networks"] == "built" and "pretrain" in row
        ]
        for seed in (0, 7)
    }
    assert len(rows[0]) == 3
    assert all(one != other for one, other in zip(rows[0], rows[7], strict=True))


def test_purify_rows_pair_each_seed_with_its_clean_run() -> None:
    found = purify(Case("small", SMALL, (0.0, 0.2)), (0, 1, 2), size=(300, 100), effort=Effort(10, 0))
    clean, attacked = found.rows()
    assert clean["train_eps"] == 0
    assert "change" not in clean
    expected = found.figures["top_1"][3:] - found.figures["top_1"][:3]
    assert attacked["change"]["top_1"]["value"] == pytest.approx(expected.mean().item())
    assert attacked["purifies"] in ("yes", "not shown", "reversed")
    drawing = found.drawing()
    assert sum(drawing["histogram"][0]) == pytest.approx(1)
    assert drawing["U"][1].startswith("data:image/png")
    shown = arranged(found.trained.U()[0])
    assert shown.shape == (12, 30)
    assert torch.allclose(shown.amax(0), torch.ones(30))
    assert torch.all(shown.argmax(0).diff() >= 0)


def test_verdicts_need_an_interval_off_zero() -> None:
    assert verdict({"low": 0.1, "high": 0.2}, up=True) == "yes"
    assert verdict({"low": -0.1, "high": 0.2}, up=True) == "not shown"
    assert verdict({"low": 0.1, "high": 0.2}, up=False) == "reversed"
    assert verdict({"low": None, "high": None}, up=True) == "not shown"


def test_intervals_hold_their_mean() -> None:
    found = interval([1.0, 2.0, 3.0])
    # Student's t with 2 degrees of freedom: 4.3027 standard errors
    assert found["high"] - found["value"] == pytest.approx(4.30265 / 3**0.5, rel=1e-4)
    assert interval([1.0])["low"] is None
    ranked = spearman(torch.arange(30.0), -(torch.arange(30.0) ** 3))
    assert ranked["value"] == pytest.approx(-1)
    assert ranked["low"] == pytest.approx(-1)


def test_lemma_on_small_networks() -> None:
    found = lemma(Figure4Setting(d=60, k=3, nodes=600, ms=(1, 2, 5)), 40, seed=0)
    rows = {(row["kind"], row["m"]): row for row in found.rows()}
    assert rows["exact", 1]["middle"].value == pytest.approx(rows["exact", 1]["lower"].value, rel=1e-6)
    assert rows["grouped", 5]["middle"].value > rows["random", 5]["middle"].value
    assert found.slopes()["grouped"] > found.slopes()["exact"]


def test_cases_cover_what_the_paper_asks() -> None:
    seen = {case.setting.loss for case in CASES}
    assert seen == {"square", "absolute", "logistic", "contrastive"}
    assert {case.setting.activation for case in CASES} == {"gate", "relu", "tanh", "gelu", "silu"}
    assert {case.setting.norm for case in CASES} == {"L2", "Linf"}
    assert {case.setting.attacked for case in CASES} == {"all", "similar", "dissimilar"}
    assert len({case.name for case in CASES}) == len(CASES)


def test_curves_over_the_gate_carry_the_line_and_their_own_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = {"value": 0.2, "sd": 0.0, "n": 3}
    narrow = {"case": "square, gate", "train_eps": 0.3, "gap_0.03": cell, "gap_0.3_gate_aware": cell}
    wide, relu = {**narrow, "case": "logistic, gate"}, {**narrow, "case": "square, relu"}
    x = [gap_curve(narrow, suffix, 0.03)[0] for suffix in ("", "_gate_aware")]
    assert x == [pytest.approx([1]), pytest.approx([10])]
    drawn: list[Any] = []
    monkeypatch.setattr(gate_drawings, "data_uri", lambda figure: drawn.append(figure) or "data:")
    assert purified_over_the_gate([relu]) == []  # no gate, no line
    purified_over_the_gate([narrow, wide, relu])
    first, second = drawn[0].axes[:2]
    assert [axes.get_title() for axes in drawn[0].axes[:3]] == ["square, gate", "logistic, gate", ""]
    for axes, c_b in ((first, 0.03), (second, 0.1)):
        assert any(list(line.get_xdata()) == [1, 1] for line in axes.lines)
        assert any(list(line.get_xdata()) == pytest.approx([0.3 / c_b]) for line in axes.lines)


def test_a_slope_has_the_papers_rate_and_the_closed_form_beside_it() -> None:
    found = slope([(x, 3 * x**0.6, x**0.5) for x in (1.0, 2.0, 8.0)], 0.5)
    assert found["measured"] == pytest.approx(0.6)
    assert found["closed_form"] == pytest.approx(0.5)
    assert math.isnan(slope([(1.0, 0.1, None), (2.0, -0.1, None)], 1.0)["measured"])

    def said(low: float, high: float, theory: float | str, closed: float | str = "-") -> str:
        return verdict_of({"measured": {"low": low, "high": high}, "theory": theory, "closed_form": closed})

    assert said(0.4, 0.6, 0.5) == "the rate"
    assert said(0.55, 0.6, 0.5, 0.58) == "above the rate, as at this size it must be"
    assert said(0.3, 0.4, 0.5, 0.58) == "below the rate"
    assert said(0.3, 0.4, "no rate") == "no rate to compare with"
    assert said(0.9, 1.2, ">> 1") == "not told from 1"
    assert said(-1, -0.5, "vanishes") == "off 0"
    assert said(1.0, 2.0, "-", 3.0) == "below the closed form"
