"""Recipes: the published figures as the paper prints them, the verdicts on orderings, the smoke scale."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.networks.backbones import BackboneSettings, build_backbone
from heirloom.results.schema import Summary
from heirloom.runs import silent
from heirloom.runtime.files import write_text
from heirloom_recipes.catalogue import OutOfTimeError
from heirloom_recipes.inheritance.heads import DECAYS, feature_margin, heads, heads_page, share_of_gain
from heirloom_recipes.inheritance.orderings import check_orderings
from heirloom_recipes.inheritance.paper import TABLE_1, TABLE_4, TABLE_5, TABLES
from heirloom_recipes.inheritance.runner import Runner
from heirloom_recipes.inheritance.scales import scale_settings
from heirloom_recipes.inheritance.seeds import table_over_seeds
from heirloom_recipes.inheritance.table import reproduce_table

TEXT = Path(__file__).parents[3] / "shared" / "papers" / "inheritance-arxiv-2401.15248.txt"


@pytest.mark.skipif(not TEXT.exists(), reason="the paper's text is not beside the checkout")
def test_published_figures_are_the_papers() -> None:
    text = TEXT.read_text()
    printed = set(re.findall(r"(0\.\d{3})\t(0\.\d{3})", text))
    for rows in TABLES.values():
        for row in rows:
            assert (f"{row.clean:.3f}", f"{row.robust:.3f}") in printed, row


def test_tables_are_those_of_the_issue() -> None:
    """The same figures as typed in by hand from the published page, so that the suite means something
    where the text is absent."""
    figures = [(row.clean, row.robust) for row in TABLE_1]
    assert figures == [
        (0.955, 0.001),
        (0.477, 0.109),
        (0.810, 0.495),
        (0.847, 0.429),
        (0.836, 0.484),
        (0.831, 0.393),
        (0.807, 0.462),
    ]
    assert [(row.clean, row.robust) for row in TABLE_4] == [(0.888, 0.024), (0.783, 0.363), (0.789, 0.401)]
    assert {name: len(rows) for name, rows in TABLES.items()} == {
        "table-1": 7,
        "table-2": 13,
        "table-4": 3,
        "table-5": 10,
    }
    assert len({row.name for rows in TABLES.values() for row in rows}) == 22


def verdicts(shares: list[tuple[float, float]], n: int = 1000) -> dict[str, dict[str, torch.Tensor]]:
    ranks = torch.arange(n) / n
    return {
        row.name: {"clean": ranks < clean, "robust": ranks < robust}
        for row, (clean, robust) in zip(TABLE_1, shares, strict=True)
    }


def test_the_papers_own_figures_uphold_every_ordering() -> None:
    found = check_orderings(TABLE_1, verdicts([(row.clean, row.robust) for row in TABLE_1]))
    assert len(found) == 9
    assert {entry["verdict"] for entry in found} == {"holds"}
    for entry in found[1:]:
        assert entry["ours"].value == pytest.approx(entry["paper"], abs=2e-3)


def test_reversed_and_open_are_told_apart() -> None:
    equal = check_orderings(TABLE_1, verdicts([(0.8, 0.3)] * 7))
    assert equal[0]["verdict"] == "reversed"  # clean/clean at .3 is not near 0
    assert {entry["verdict"] for entry in equal[1:]} == {"open"}
    backwards = check_orderings(TABLE_1, verdicts([(1 - row.clean, 1 - row.robust) for row in TABLE_1]))
    assert {entry["verdict"] for entry in backwards} == {"reversed"}


def test_table_5_compares_augmentation_and_adversarial_training() -> None:
    ranks = torch.arange(1000) / 1000
    found = check_orderings(
        TABLE_5, {r.name: {"clean": ranks < r.clean, "robust": ranks < r.robust} for r in TABLE_5}
    )
    claims = " ".join(entry["claim"] for entry in found)
    assert "adversarial contrastive / clean > clean contrastive / clean, robust" in claims
    assert "no augmentation" in claims


@pytest.mark.parametrize("name", ["small", "medium", "gpu", "paper"])
def test_the_last_column_is_the_strongest_attack(name: str) -> None:
    assert scale_settings(name, 0, "cpu").attacks[-1] == "cascade"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["smoke", "small", "medium", "gpu", "paper"])
def test_every_scale_is_described(name: str) -> None:
    scale = scale_settings(name, 3, "cpu")  # type: ignore[arg-type]
    assert scale.supervised.training.seed == scale.contrastive.training.seed == scale.probe.head.seed == 3
    assert set(scale.networks) == {"3x3", "7x7"}
    wider = scale_settings(name, 3, "cpu", 24).networks  # type: ignore[arg-type]
    assert all(
        build_backbone(BackboneSettings(network)).settings.network.endswith("-w24")
        for network in wider.values()
    )
    assert (scale.supervised.training.mixed_precision == "bf16") == (name in ("gpu", "medium"))
    assert (scale.supervised.adversarial_epochs, scale.contrastive.adversarial_epochs) == {
        "smoke": (1, 1),
        "small": (6, 3),
        "medium": (20, 20),
        "gpu": (30, 60),
        "paper": (200, 1200),
    }[name]


def test_the_dearest_attack_meets_fewer_images_where_a_scale_says_so(tmp_path: Path) -> None:
    scale = replace(scale_settings("smoke", 0, "cpu"), attacks=("pgd-1", "pma-2"), worst_case_images=20)
    runner = Runner(scale, {}, tmp_path, seed=0, device="cpu", progress=silent, minutes=None)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    found = runner.judged(model, "row")
    assert {name: len(right) for name, right in found.items()} == {
        "clean": 60,
        "pgd-1": 60,
        "pma-2": 20,
        "robust": 20,
    }
    chosen = runner.data("cifar10").test.limit(20)
    assert found["pma-2"].sum() <= (model(chosen.images).argmax(1) == chosen.labels).sum()


def test_smoke_tables_share_their_work_and_stop_in_time(tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        reproduce_table("table-4", "smoke", tmp_path, minutes=1e-9)
    first = reproduce_table("table-4", "smoke", tmp_path)
    assert [(row["pretrain"], row["downstream"]) for row in first.rows] == [
        ("clean supervised", "clean"),
        ("adversarial supervised", "clean"),
        ("adversarial supervised", "adversarial"),
    ]
    for row in first.rows:
        assert row["clean"]["n"] == 60
        assert row["robust"]["value"] <= row["clean"]["value"]
        assert row["robust"]["value"] <= row["pgd-2"]["value"]
        assert set(row["paper"]) == {"clean", "robust"}
    assert first.details["constant"]["value"] <= 0.3  # ten digits
    trained = []
    again = reproduce_table("table-4", "smoke", tmp_path, progress=lambda stage, *_: trained.append(stage))
    assert not trained
    assert again.rows == first.rows
    assert again.seconds >= 0.5 * first.seconds  # what was spent before counts
    with pytest.raises(InputError, match=r"resume must be of the run in .*, got another .*seed"):
        reproduce_table("table-4", "smoke", tmp_path, seed=1)
    with pytest.raises(InputError, match="data must be NAME=SOURCE"):
        reproduce_table("table-4", "smoke", tmp_path, sources={"imagenet": "x"})


def test_contrastive_transfer_is_an_ordering_that_can_be_reversed() -> None:
    rows = tuple(row for row in TABLES["table-2"] if row.encoder.data == "tiny-imagenet")
    ranks = torch.arange(1000) / 1000
    ours = {
        "clean sup": 0.0,
        "adv sup": 0.123,
        "adv contra": 0.087,
    }  # as recorded for Imagenette at scale small
    shares = dict(zip((row.name for row in rows), ours.values(), strict=True))
    found = check_orderings(
        rows, {name: {"clean": ranks < 0.4, "robust": ranks < s} for name, s in shares.items()}
    )
    transfer = next(
        one
        for one in found
        if one["claim"].startswith("adversarial contrastive") and "> adversarial" in one["claim"]
    )
    assert (transfer["verdict"], transfer["paper"]) == ("reversed", 0.019)


@pytest.mark.slow
def test_seeds_and_heads_at_smoke_size(tmp_path: Path) -> None:
    """Rows are means over runs; controls of equal epochs stand in Table 1; heads of all decays are judged."""
    summary = table_over_seeds("table-1", "smoke", tmp_path, seeds=2, method="supervised", width=4)
    single = [Summary.read(tmp_path / f"seed-{seed}" / "table-1" / "summary.json") for seed in (0, 1)]
    for row, *each in zip(summary.rows, *(one.rows for one in single), strict=True):
        assert row["robust"]["n"] == 2
        assert row["robust"]["value"] == pytest.approx(sum(one["robust"]["value"] for one in each) / 2)
    assert [row["downstream"] for row in summary.rows if row["equal_epochs"]] == ["clean", "adversarial"]
    assert any("(equal epochs) / clean" in one["claim"] for one in summary.details["orderings"])
    drawn = (tmp_path / "table-1-2-seeds" / "report.html").read_text()
    assert "always the most frequent class" in drawn
    assert "over training seeds" in drawn
    kept = tmp_path / "seed-0" / "table-1" / "summary.json"
    before = kept.read_text()
    table_over_seeds("table-1", "smoke", tmp_path, seeds=2, method="supervised", width=4)
    assert kept.read_text() == before  # of the command that made it
    behind = heads("smoke", tmp_path / "seed-0", method="supervised", width=4)
    assert len(behind.rows) == 2 * (2 + len(DECAYS))
    again = table_over_seeds(
        "table-1", "smoke", _summaries_alone(tmp_path), seeds=2, method="supervised", width=4
    )
    assert again.rows == summary.rows
    assert again.details == summary.details
    for other, options in (("networks", {}), ("seed", {"seed": 1, "width": 4})):
        with pytest.raises(InputError, match=f"of other {other}"):
            table_over_seeds(
                "table-1", "smoke", _summaries_alone(tmp_path), seeds=2, method="supervised", **options
            )
    usual = next(row for row in behind.rows if row["head"] == "clean, the usual")
    assert usual["against the usual clean head"]["value"] == 0
    assert all(row["length"] > 0 for row in behind.rows)
    assert "always the most frequent class" in heads_page(behind)


def _summaries_alone(runs: Path) -> Path:
    """A new folder with the summaries of two seeds and nothing else of them, the second's as that of a third too."""
    place = Path(tempfile.mkdtemp(dir=runs))
    for seed, of in ((0, 0), (1, 1), (2, 1)):
        kept = runs / f"seed-{of}" / "table-1" / "summary.json"
        write_text(place / f"seed-{seed}" / "table-1" / "summary.json", kept.read_text())
    return place


def test_the_share_of_the_adversarial_heads_gain() -> None:
    ranks = torch.arange(1000)
    usual, adversarial = ranks < 100, ranks < 300
    share = share_of_gain(ranks < 200, usual, adversarial)
    assert share is not None
    assert share["value"] == pytest.approx(0.5)
    spread = (0.25 / 200) ** 0.5  # of a share of the 200 images that the adversarial head gains
    assert share["high"] - share["low"] == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert share_of_gain(usual, usual, adversarial) == {"value": 0, "low": 0, "high": 0, "n": 1000}
    assert share_of_gain(adversarial, usual, usual) is None  # no gain, no share of it


def test_the_margin_of_a_head_is_the_distance_to_its_nearest_boundary() -> None:
    head = torch.nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        head.bias.zero_()
    features = torch.tensor([[2.0, 0.0], [4.0, 0.0], [-2.0, 0.0]])
    distances = torch.tensor([6 / 5, 12 / 5, 6 / 5])  # (3, 4) is of length 5; the third is of class 1
    spread = float(features.var(0).mean().sqrt())
    labels = torch.tensor([0, 0, 1])
    assert feature_margin(head, features, labels) == pytest.approx(
        float(distances.median()) / spread, rel=1e-5
    )
