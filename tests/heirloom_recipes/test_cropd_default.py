"""The recipe cropd/default: no test image is looked at, and its page says who is ahead of whom."""

from pathlib import Path
from typing import Any

import pytest

from heirloom.defence.choose import CANDIDATES, recommended
from heirloom_recipes.cropd.default_page import _verdict
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner


@pytest.mark.parametrize("name", ["digits", "cifar2"])
def test_what_is_held_out_is_of_the_training_images(name: str, tmp_path: Path) -> None:
    as_usual = Runner("smoke", tmp_path / "usual").data(name)
    held_out = Runner("smoke", tmp_path / "held-out", held_out=True).data(name)
    known = {image.numpy().tobytes() for image in as_usual.train.images}
    learned, judged = (
        {image.numpy().tobytes() for image in part.images} for part in (held_out.train, held_out.test)
    )
    assert judged
    assert not learned & judged
    assert learned | judged == known  # and so none of them is a test image
    assert not known & {image.numpy().tobytes() for image in as_usual.test.images}


def test_before_a_given_foundation_the_data_sets_named_beside_it_are_judged(tmp_path: Path) -> None:
    asked = {
        "": {},
        "data": {"mnist": "digits"},
        "foundation": {"foundation": "F"},
        "both": {"foundation": "F", "mnist": "digits"},
    }
    found = {name: Runner("small", tmp_path / name, sources=asked[name]) for name in asked}
    assert {name: runner.scale.datasets for name, runner in found.items()} == {
        "": ("digits",),
        "data": ("digits", "mnist"),
        "foundation": ("digits",),
        "both": ("mnist",),
    }
    covered = {name: runner.covers(Cell("digits", "identity")) for name, runner in found.items()}
    assert covered == {"": True, "data": True, "foundation": True, "both": False}
    of_the_scale = Runner("paper", tmp_path / "paper", sources={"cifar10": "digits"})
    assert len(of_the_scale.scale.datasets) > 1


def test_the_default_is_a_candidate() -> None:
    assert {recommended((channels, 8, 8)) for channels in (1, 3)} <= set(CANDIDATES)


def test_the_verdict_names_a_candidate_only_where_its_interval_says_so() -> None:
    def row(method: str, low: float | None) -> dict[str, Any]:
        ahead = None if low is None else {"value": low + 0.05, "low": low, "high": low + 0.1, "n": 200}
        return {"method": method, "is default": low is None, "ahead": ahead}

    rows = [row("stability", None), row("cropd", -0.04), row("noise", -0.3)]
    assert (
        _verdict("mnist", rows) == "On mnist no candidate is ahead of the default, stability, beyond chance."
    )
    assert "'distil' is ahead of the default, stability, by +15.0" in _verdict(
        "x", [*rows, row("distil", 0.1)]
    )
