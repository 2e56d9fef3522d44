"""Recipes share a folder over several commands: another data set may join, another source of the same one may not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heirloom import InputError
from heirloom_recipes.cropd.run import Runner
from heirloom_recipes.features.open import open_laboratory
from heirloom_recipes.inheritance.runner import make_runner
from heirloom_recipes.shards import Shard, finish, merge

Opened = Callable[[Path, dict[str, str]], Any]
RECIPES: dict[str, tuple[Opened, str, str]] = {  # how a folder is opened, and two of its data sets
    "cropd": (lambda out, sources: Runner("smoke", out, sources=sources), "cifar10", "mnist"),
    "inheritance": (lambda out, sources: make_runner("smoke", out, sources=sources), "cifar10", "cifar100"),
    "features": (lambda out, sources: open_laboratory("smoke", out, sources=sources), "mnist", "cifar10"),
}


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Images that are not the digits."""
    rng = np.random.default_rng(0)
    parts = {f"x_{part}": rng.random((40, 8, 8, 1), np.float32) for part in ("train", "test")}
    np.savez(
        tmp_path / "other.npz", **parts, **{f"y_{part}": np.arange(40) % 10 for part in ("train", "test")}
    )
    return str(tmp_path / "other.npz")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_data_set_may_join_and_none_may_change(recipe: str, other: str, tmp_path: Path) -> None:
    opened, first, second = RECIPES[recipe]
    images = opened(tmp_path / "out", {first: "digits"}).data(first)
    both = opened(tmp_path / "out", {first: "digits", second: other})
    assert both.data(first).facts() == images.facts()
    assert both.data(second).facts() != images.facts()
    with pytest.raises(
        InputError, match=rf"resume must be of the run in .*, got another {first}.train.pixels"
    ):
        opened(tmp_path / "out", {first: other}).data(first)


def test_shards_of_other_images_are_not_merged(other: str, tmp_path: Path) -> None:
    opened, first, _ = RECIPES["cropd"]
    for number, source in ((1, "digits"), (2, other)):
        shard = Shard(number, 2)
        opened(shard.folder(tmp_path / "out"), {first: source}).data(first)
        finish(shard, tmp_path / "out", "cropd/table-2")
    with pytest.raises(InputError, match=r"resume must be of the run in .*2-of-2, got another .*pixels"):
        merge(tmp_path / "out", "cropd/table-2")
