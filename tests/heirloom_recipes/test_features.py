"""The feature-learning recipes: published figures, verdicts, planted features recovered, the smoke scale as a whole."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError
from heirloom.data.labelled import LabelledImages
from heirloom.features.pairing import pair
from heirloom.features.settings import BuildSettings
from heirloom.features.steps import build_batch
from heirloom.theory.patches.model import sample_patches
from heirloom_recipes.catalogue import RECIPES, OutOfTimeError, recipe_of
from heirloom_recipes.claims import case, claim
from heirloom_recipes.features.drawn_patches import PLANTED, SIDE, basis, draw, shown_strengths
from heirloom_recipes.features.paper import PAIRS, TABLE_1, TABLE_2

TEXT = Path(__file__).parents[3] / "shared" / "papers" / "feature-learning-arxiv-2410.08503.txt"


@pytest.mark.skipif(not TEXT.exists(), reason="the paper's text is not beside the checkout")
def test_published_figures_are_the_papers() -> None:
    printed = set(re.findall(r"\d+\.\d+", TEXT.read_text()))
    for row in TABLE_1.values():
        assert {f"{100 * value:.2f}" for value in row.values()} <= printed
    for row in TABLE_2.values():
        assert {f"{100 * value:.2f}" for value in row.values()} <= printed


def test_the_papers_own_figures_uphold_its_claims() -> None:
    for data in ("mnist", "cifar10"):
        standard, adversarial = TABLE_1[data, "standard"], TABLE_1[data, "adversarial"]
        assert standard["non-robust features"] > max(
            standard["robust features"], adversarial["non-robust features"]
        )
        assert adversarial["robust features"] > max(
            adversarial["non-robust features"], standard["robust features"]
        )
    assert set(TABLE_2) == set(PAIRS["cifar10"])
    assert all(row["NRF-PGD"] > 0.5 > 0.2 > row["RF-PGD"] for row in TABLE_2.values())


def test_verdicts_follow_the_intervals_over_seeds() -> None:
    surely, hardly, reversed_ = (
        case("a", [0.2, 0.21, 0.22]),
        case("b", [0.3, -0.1, 0.1]),
        case("c", [-0.2, -0.21, -0.22]),
    )
    assert [one["verdict"] for one in (surely, hardly, reversed_)] == ["holds", "open", "reversed"]
    assert surely["ours"]["low"] == pytest.approx(0.21 - 4.3027 * 0.01 / 3**0.5, abs=1e-4)
    assert claim("x", [surely, surely])["verdict"] == "holds"
    assert claim("x", [surely, hardly, reversed_])["verdict"] == "in a corner"
    assert claim("x", [hardly, reversed_])["verdict"] == "does not"
    assert claim("x", [hardly, hardly])["verdict"] == "open"


def test_drawn_patches_are_the_theorys_in_another_basis() -> None:
    torch.testing.assert_close(basis() @ basis().T, torch.eye(SIDE**2))
    images = draw(10, torch.Generator().manual_seed(3))
    sample = sample_patches(PLANTED, 10, torch.Generator().manual_seed(3))
    patches = (images.images - 0.5).view(10, 6, SIDE, 6, SIDE).permute(0, 1, 3, 2, 4).reshape(10, 36, -1)
    torch.testing.assert_close(patches @ basis().T, sample.x, atol=1e-5, rtol=0)
    robust, non_robust = shown_strengths(images.images)
    own = images.labels[:, None]
    torch.testing.assert_close(robust.gather(1, own), torch.ones(10, 1), atol=0.12, rtol=0)
    torch.testing.assert_close(non_robust.gather(1, own), torch.ones(10, 1), atol=0.15, rtol=0)
    assert (robust.argmax(1) == images.labels).all()
    assert (non_robust.argmax(1) == images.labels).all()


class Planted(nn.Module):
    """An encoder that is known to see one kind of planted feature alone: its filters are the features."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        k = PLANTED.classes
        rows = basis()[:k] if kind == "robust" else basis()[k : 2 * k]
        self.kind, self.filters = kind, nn.Parameter(rows.view(k, 1, SIDE, SIDE), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        along = nn.functional.conv2d(x - 0.5, self.filters, stride=SIDE).flatten(2)
        return along.amax(2) if self.kind == "robust" else along.mean(2) * 10


@pytest.mark.parametrize("kind", ["robust", "non-robust"])
def test_the_builder_recovers_the_feature_that_the_encoder_sees_and_leaves_the_other(kind: str) -> None:
    """Of the original: the kind that the encoder sees, at full strength. Of the start: the other kind, untouched."""
    data: LabelledImages = draw(50, torch.Generator().manual_seed(0))
    settings = BuildSettings(start="next-class", steps=300)
    pairing = pair(data.labels, settings, "test")
    built = build_batch(Planted(kind), data, pairing, torch.arange(50), settings, None, "test")
    robust, non_robust = shown_strengths(built.pixels.float() / 255)
    seen, unseen = (robust, non_robust) if kind == "robust" else (non_robust, robust)
    own, start = pairing.label[:, None], data.labels[pairing.start][:, None]
    assert float(seen.gather(1, own).mean()) == pytest.approx(1, abs=0.1)
    assert float(seen.gather(1, start).mean()) == pytest.approx(0, abs=0.15)
    assert float(unseen.gather(1, start).mean()) == pytest.approx(1, abs=0.1)
    assert float(unseen.gather(1, own).mean()) == pytest.approx(0, abs=0.15)


def test_every_recipe_names_functions_that_are_there() -> None:
    for recipe in RECIPES:
        for place in (recipe.makes, recipe.tables):
            module, _, function = place.partition(":")
            assert callable(getattr(__import__(f"heirloom_recipes.{module}", fromlist=[function]), function))
    with pytest.raises(
        InputError, match=r"recipe must be one of .*inheritance/table-1, .*, got features/table-9"
    ):
        recipe_of("features/table-9")


@pytest.mark.slow
def test_smoke_tables_share_their_networks_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        recipe_of("features/table-1").make("smoke", tmp_path, minutes=1e-9)
    first = recipe_of("features/table-1").make("smoke", tmp_path)
    assert [(row["data"], row["training"]) for row in first.rows] == list(TABLE_1)
    assert all(row["clean"]["n"] == 2 for row in first.rows)
    assert [len(curve["seeds"][0]) for curve in first.details["curves"]] == [2, 2, 2, 2]
    page = (tmp_path / "table-1" / "report.html").read_text()
    assert page.count("data:image/png") == 2 * 12 * 4
    assert "robust version" in page
    told: list[str] = []
    second = recipe_of("features/table-2").make(
        "smoke", tmp_path, progress=lambda stage, *_: told.append(stage)
    )
    assert not [stage for stage in told if "network" in stage or "resnet" in stage]
    assert len(second.rows) == 8 * 2 * 2
    third = recipe_of("features/transfer").make("smoke", tmp_path)
    assert len(third.rows) == 2 * 2 * 2 * 4
    for recipe, made in (
        ("features/table-1", first),
        ("features/table-2", second),
        ("features/transfer", third),
    ):
        assert all(len(table.rows[0]) == len(table.columns) for table in recipe_of(recipe).printed(made))
    with pytest.raises(InputError, match=r"resume must be of the run in .*seed"):
        recipe_of("features/table-1").make("smoke", tmp_path, seed=1)
    with pytest.raises(InputError, match="data must be NAME=SOURCE with a name of mnist, cifar10"):
        recipe_of("features/table-1").make("smoke", tmp_path, sources={"svhn": "digits"})


def test_planted_at_smoke_scale(tmp_path: Path) -> None:
    made = recipe_of("features/planted").make("smoke", tmp_path)
    assert [row["training"] for row in made.rows] == ["standard", "adversarial"]
    assert "Planted features, recovered" in (tmp_path / "planted" / "report.html").read_text()
