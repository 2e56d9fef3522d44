"""A recipe made in shards and merged is the recipe made at once; what is missing or another run's is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heirloom import InputError
from heirloom.runs import Run
from heirloom_recipes.shards import (
    Shard,
    ShardDoneError,
    begin,
    finish,
    leave_if_sharded,
    merge,
    share_of,
    working_on,
)

ROWS = ("a", "b", "c", "d", "e")


def recipe(out: Path, made: list[str], seed: int = 0) -> list[Any]:
    """A table of five rows, as the recipes make theirs: each row a stage that is kept."""
    run = Run(out, {"seed": seed}, resume=True)

    def row(name: str) -> Any:
        return run.stage(name, lambda: made.append(name) or {"row": name, "value": seed + len(name)})  # type: ignore[func-returns-value]

    for name in share_of(ROWS):
        row(name)
    leave_if_sharded()
    return [row(name) for name in ROWS]


def _shards(out: Path, numbers: Sequence[int], of: int, made: list[str], seed: int = 0) -> None:
    for number in numbers:
        shard = Shard(number, of)
        with working_on(shard), pytest.raises(ShardDoneError):
            recipe(shard.folder(out), made, seed)
        finish(shard, out, "paper/table")


@pytest.mark.parametrize("of", [1, 2, 7])
def test_shards_merged_are_the_whole_and_nothing_is_made_twice(of: int, tmp_path: Path) -> None:
    whole = recipe(tmp_path / "whole", [])
    made: list[str] = []
    _shards(tmp_path / "out", range(1, of + 1), of, made)
    assert sorted(made) == list(ROWS)
    merge(tmp_path / "out", "paper/table")
    again: list[str] = []
    assert recipe(tmp_path / "out", again) == whole
    assert again == []


def test_a_shard_begins_with_what_the_folder_has(tmp_path: Path) -> None:
    whole, made = recipe(tmp_path, []), list[str]()
    for number in (1, 2):
        begin(Shard(number, 2), tmp_path)
    _shards(tmp_path, (1, 2), 2, made)
    assert made == []
    inside = [path.relative_to(tmp_path / "shards").parts for path in (tmp_path / "shards").rglob("*")]
    assert inside
    assert not any("shards" in parts for parts in inside)  # the second was not given the first
    merge(tmp_path, "paper/table")
    assert recipe(tmp_path, made) == whole
    _shards(tmp_path, [1], 3, made, seed=1)
    with pytest.raises(InputError, match=r"resume must be of the run in .*1-of-3, got another seed"):
        begin(Shard(1, 3), tmp_path)


def test_what_is_missing_or_of_another_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="merge must be given where shards lie"):
        merge(tmp_path, "paper/table")
    _shards(tmp_path / "half", [1], 2, [])
    with pytest.raises(InputError, match="shard 2/2 of paper/table not finished"):
        merge(tmp_path / "half", "paper/table")
    _shards(tmp_path / "mixed", [1], 2, [], seed=0)
    _shards(tmp_path / "mixed", [2], 2, [], seed=1)
    for place in ("half", "mixed"):
        if place == "mixed":
            with pytest.raises(InputError, match=r"resume must be of the run in .*2-of-2, got another seed"):
                merge(tmp_path / "mixed", "paper/table")
        assert [path.name for path in (tmp_path / place).iterdir()] == ["shards"]  # nothing was copied
    _shards(tmp_path / "mixed", [1], 4, [])
    with pytest.raises(InputError, match="merge must be of shards of one number, got of 2, 4"):
        merge(tmp_path / "mixed", "paper/table")
    for wrong in ("0/2", "3/2", "two", "1/0"):
        with pytest.raises(InputError, match="shard must be i/n with i from 1 to n"):
            Shard.parse(wrong)
