"""The zoo at smoke size: folders that load, a page that compares, what is not within reach told, a run that goes on."""

from dataclasses import replace
from pathlib import Path

import pytest

from heirloom import DefendedModel, InputError, Summary
from heirloom.cli import app, common
from heirloom.defence.choose import recommended
from heirloom_recipes.zoo import make
from heirloom_recipes.zoo.members import MEMBERS, Size


def test_every_member_has_both_scales_and_a_name_of_its_own() -> None:
    assert len({member.name for member in MEMBERS}) == len(MEMBERS) >= 5
    assert all(set(member.sizes) == {"smoke", "small"} for member in MEMBERS)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("digits", (1, 8, 8)), ("mnist", (1, 28, 28)), ("fashion_mnist", (1, 28, 28)), ("cifar10", (3, 32, 32))],
)
def test_members_are_made_by_what_defend_recommends(name: str, shape: tuple[int, int, int]) -> None:
    assert {member.name: member.method for member in MEMBERS}[name] == recommended(shape)


@pytest.mark.slow
def test_the_zoo_at_smoke_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    by_name = {member.name: member for member in MEMBERS}
    monkeypatch.setattr(make, "MEMBERS", tuple(by_name[name] for name in ("digits", "cifar10", "mnist")))
    monkeypatch.setattr("heirloom.data.splits.offline_where_unreachable", lambda: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    words = ["reproduce", "zoo", "--scale", "smoke", "--out", str(tmp_path), "--data", "cifar10=digits"]
    assert common.run(app, [*words, "--minutes", "1e-9"]) == 3  # no time at all: a page that says so
    assert Summary.read(tmp_path / "summary.json").rows == []
    assert "cifar10 (the time was over before it)" in (tmp_path / "report.html").read_text()
    assert common.run(app, [*words, "--only", "digits"]) == 0  # one alone: the others are told
    alone = Summary.read(tmp_path / "summary.json")
    assert [row["model"] for row in alone.rows] == ["digits"]
    assert alone.details["not covered"] == ["cifar10 (left out by --only)", "mnist (left out by --only)"]
    assert not (tmp_path / "cifar10").exists()
    capsys.readouterr()
    digits = (tmp_path / "digits" / "summary.json").stat().st_mtime_ns
    assert common.run(app, words) == 0
    assert (tmp_path / "digits" / "summary.json").stat().st_mtime_ns == digits
    assert "Not covered at this scale: mnist" in " ".join(capsys.readouterr().out.split())
    summary = Summary.read(tmp_path / "summary.json")
    assert [row["model"] for row in summary.rows] == ["digits", "cifar10"]
    page = (tmp_path / "report.html").read_text()
    for row in summary.rows:
        folder = tmp_path / row["folder"]
        assert DefendedModel.from_pretrained(folder).defence["method"] == row["defence"]
        for name in ("README.md", "report.html", "summary.json"):
            assert (folder / name).exists()
        saved = Summary.read(folder / "summary.json")
        assert row["clean"] == saved.rows[-1]["clean"]
        assert row["worst"]["value"] <= row["clean"]["value"]
        assert f"{row['parameters']:,}" in page
    before = (tmp_path / "digits" / "summary.json").stat().st_mtime_ns
    assert common.run(app, [*words, "-q"]) == 0  # made once, read then
    assert (tmp_path / "digits" / "summary.json").stat().st_mtime_ns == before
    assert common.run(app, [*words, "--seed", "1"]) == 2
    assert "another seed" in " ".join(capsys.readouterr().err.split())
    _another_size_of_one(tmp_path, monkeypatch, capsys)


def _another_size_of_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed member is refused by name and told on the page, and the others stay as they are."""
    changed = replace(make.MEMBERS[1], sizes={"smoke": Size(80, 8, 1, 2, 2, 0, 0)})
    monkeypatch.setattr(make, "MEMBERS", (make.MEMBERS[0], changed))
    words = ["reproduce", "zoo", "--scale", "smoke", "--out", str(folder), "-q"]
    assert common.run(app, words) == 2
    assert "cifar10, made with another size.epochs" in " ".join(capsys.readouterr().err.split())
    assert common.run(app, [*words, "--only", "digits"]) == 0
    found = Summary.read(folder / "summary.json")
    assert [row["model"] for row in found.rows] == ["digits"]
    assert found.details["not covered"] == ["cifar10 (made with another size.epochs)"]


def test_a_source_of_no_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data must be named digits"):
        make.zoo("smoke", tmp_path, sources={"imagenet": "x"})
    with pytest.raises(InputError, match="only must be named digits"):
        make.zoo("smoke", tmp_path, only=["imagenet"])
