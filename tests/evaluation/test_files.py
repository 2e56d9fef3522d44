"""What a model remembers on the disk is told from what it only passes through it, and no file is touched."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heirloom.evaluation.broken import beyond
from heirloom.evaluation.files import read_back

Ask = Callable[[], object]


def _counter(folder: Path) -> Ask:
    def ask() -> None:
        place = folder / "count.txt"
        count = int(place.read_text()) if place.exists() else 0
        place.write_text(str(count + 1))

    return ask


def _in_place(folder: Path) -> Ask:
    (folder / "seen.bin").touch()

    def ask() -> None:
        with (folder / "seen.bin").open("r+b") as file:
            file.write(bytes([len(file.read()) % 7]))

    return ask


def _renamed(folder: Path) -> Ask:
    def ask() -> None:
        known = (folder / "known").read_text() if (folder / "known").exists() else ""
        (folder / "new").write_text(known + "x")
        (folder / "new").replace(folder / "known")

    return ask


def _database(folder: Path) -> Ask:
    def ask() -> None:
        with sqlite3.connect(folder / "known.db") as base:
            base.execute("create table if not exists seen (x)")
            base.execute("insert into seen values (1)")

    return ask


@pytest.mark.parametrize(
    ("make", "name"),
    [(_counter, "count.txt"), (_in_place, "seen.bin"), (_renamed, "known"), (_database, "known.db")],
)
def test_what_is_read_back_is_named(make: Callable[[Path], Ask], name: str, tmp_path: Path) -> None:
    assert read_back(make(tmp_path)) == [f"the file {name}"]


def test_planted_caches_are_named_and_left_as_they_are() -> None:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for make, name in (
        (beyond.file_cache, "the file known.json"),
        (beyond.folder_cache, "the files of planted"),
    ):
        model = make()
        found = read_back(lambda model=model: model(x))
        assert len(found) == 1
        assert found[0].startswith(name)


def _through_a_file(folder: Path) -> Ask:
    def ask() -> None:
        (folder / "picture.txt").write_text("1")
        (folder / "picture.txt").read_text()

    return ask


def _through_an_unheard_file(folder: Path) -> Ask:
    def ask() -> None:
        torch.save(torch.rand(2), str(folder / "picture.pt"))
        torch.load(folder / "picture.pt", weights_only=True)

    return ask


def _given(folder: Path) -> Ask:
    (folder / "mean.txt").write_text("2")
    return (folder / "mean.txt").read_text


def _log(folder: Path) -> Ask:
    def ask() -> None:
        with (folder / "log.txt").open("a") as file:
            file.write("asked")

    return ask


@pytest.mark.parametrize("make", [_through_a_file, _through_an_unheard_file, _given, _log])
def test_a_means_a_constant_and_a_log_are_no_memory(make: Callable[[Path], Ask], tmp_path: Path) -> None:
    ask = make(tmp_path)
    for path in tmp_path.iterdir():  # what was there before is older than the first call
        os.utime(path, (0, 0))
    assert read_back(ask) == []
