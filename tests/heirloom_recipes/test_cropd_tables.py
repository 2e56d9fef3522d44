"""CRoPD's tables: the published figures, every recipe at scale smoke, a folder of other settings refused."""

import re
from pathlib import Path

import pytest

from heirloom import InputError
from heirloom.results.schema import Summary
from heirloom_recipes.catalogue import RECIPES, recipe_of
from heirloom_recipes.cropd.paper import RIVALS, TABLES
from heirloom_recipes.cropd.recipes import table

TEXT = Path(__file__).parents[3] / "shared" / "papers" / "cropd-arxiv-2504.10850.txt"
NAMES = [recipe.name for recipe in RECIPES if recipe.name.startswith("cropd/")]


@pytest.mark.skipif(not TEXT.exists(), reason="the paper's text is not beside the checkout")
def test_published_figures_are_the_papers() -> None:
    printed = set(re.findall(r"\d+\.\d\d", TEXT.read_text()))
    found = {f"{value:.2f}" for cells in TABLES.values() for cell in cells for value in cell.paper if value}
    assert len(found) > 150
    assert found <= printed


def test_published_figures_as_typed_in_by_hand() -> None:
    by_name = {cell.name: cell.paper for cell in TABLES["table-2"]}
    assert by_name["cifar10, cropd, lambda 10"] == (79.31, 47.99, 40.31, 66.05)
    assert by_name["cifar100, vanilla"] == (80.09, 58.18, 55.94, 18.48)
    assert by_name["tiny-imagenet, identity"] == (67.20, 8.39, 7.13)
    assert {name: sum(bool(cell.paper) for cell in cells) for name, cells in TABLES.items()} == {
        "table-1": 18,
        "table-2": 27,
        "table-3": 4,
        "table-8": 4,
        "table-9": 4,
        "table-10": 12,
        "trade-off": 0,
    }
    for cells in TABLES.values():
        assert len({cell.name for cell in cells}) == len(cells)
    rivals = {cell.method for cell in TABLES["table-2"] if cell.data == "cifar10" and not cell.paper}
    assert rivals == {*RIVALS, "identity"}


@pytest.mark.slow
def test_every_table_at_scale_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step in {
        "table-1": 3,
        "table-10": 3,
        "trade-off": 4,
    }.items():  # every kind of row, not every row
        monkeypatch.setitem(TABLES, name, TABLES[name][::step])
    for name in NAMES:
        summary = recipe_of(name).make("smoke", tmp_path)
        place = tmp_path / name.partition("/")[2]
        assert Summary.read(place / "summary.json") == summary
        page = (place / "report.html").read_text()
        assert summary.rows
        assert all(row["defence"] in page for row in summary.rows)
        printed = recipe_of(name).printed(summary)
        controls = len(summary.details.get("controls", ()))
        assert len(printed[0].rows) == len(summary.rows) + controls
        if "paper" in summary.rows[0]:
            left = {cell.name for cell in TABLES[name.partition("/")[2]]} - {
                r["defence"] for r in summary.rows
            }
            assert left == set(summary.details["not covered"])  # no row is dropped unsaid
            covered = ("cifar2", "cifar10", "cifar100", "digits")  # and no VAE: this scale has none to load
            assert all("vae" in one or one.split(",")[0] not in covered for one in left)
            for row in summary.rows:
                values = [row[c]["value"] for c in ("clean", "pgd-2", "pma-2")]
                assert values == sorted(values, reverse=True)
    again = table("table-9", "smoke", tmp_path)  # everything is read again
    assert again.rows == Summary.read(tmp_path / "table-9" / "summary.json").rows
    with pytest.raises(InputError, match=r"resume must be of the run in .*, got another .*seed"):
        table("table-9", "smoke", tmp_path, seed=1)


def test_data_that_no_table_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data must be NAME=SOURCE with a name of"):
        table("table-2", "small", tmp_path, sources={"cifar11": "digits"})
