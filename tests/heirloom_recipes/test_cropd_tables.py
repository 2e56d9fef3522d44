"""CRoPD's tables: every recipe at scale smoke, a folder of other settings refused."""

import time
from pathlib import Path
from typing import Any

import pytest

from heirloom import InputError
from heirloom.evaluation import pass_dtype
from heirloom.results.schema import Summary
from heirloom_recipes.catalogue import RECIPES, recipe_of
from heirloom_recipes.cropd.page import trade_off_drawing
from heirloom_recipes.cropd.paper import ADVERSARIAL, ENCODER_ONLY, FILTERS, RIVALS, TABLES
from heirloom_recipes.cropd.recipes import is_frozen, table
from heirloom_recipes.cropd.run import Runner
from heirloom_recipes.cropd.spent import counted, spent

NAMES = [recipe.name for recipe in RECIPES if recipe.name.startswith("cropd/")]


@pytest.mark.parametrize("name", [name for name in TABLES if name != "table-9"])
def test_every_table_of_robustness_has_every_rival_for_every_data_set_and_radius(name: str) -> None:
    for group in {(cell.data, cell.eps) for cell in TABLES[name]}:
        cells = [cell for cell in TABLES[name] if (cell.data, cell.eps) == group]
        assert {cell.method for cell in cells} >= set(RIVALS)
        assert {cell.foundation for cell in cells} & {ADVERSARIAL, ENCODER_ONLY}


def test_a_foundation_that_met_an_attack_is_of_its_rows_radius(tmp_path: Path) -> None:
    runner = Runner("smoke", tmp_path)
    cells = [cell for cell in TABLES["trade-off"] if cell.foundation == ADVERSARIAL]
    assert len({runner.foundations.name_of(cell) for cell in cells}) == len(cells) == 3
    frozen = [cell for cell in TABLES["trade-off"] if cell.foundation == "frozen"]
    one_for_all = {"digits-frozen", "cifar10-frozen"}
    assert {runner.foundations.name_of(cell) for cell in frozen} == one_for_all


def test_the_trade_off_shares_the_rows_of_table_2_at_its_radius() -> None:
    """They are made once: other weights alone are the picture's own."""
    cells = {cell for cell in TABLES["trade-off"] if cell.data == "cifar10"}
    own = {cell.name for cell in cells} - {cell.name for cell in TABLES["table-2"]}
    assert own == {"cifar10, cropd, lambda 1", "cifar10, cropd, lambda 100"}


def test_the_trade_off_has_a_panel_for_each_data_set_and_radius() -> None:
    record = Summary.read(Path(__file__).parents[2] / "results" / "cropd" / "trade-off-digits.json")
    more = [{**row, "data": "cifar10", "eps": 8 / 255, "cost": 700.0} for row in record.rows[:18]]
    figure = trade_off_drawing(record.model_copy(update={"rows": [*record.rows, *more]}))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["cifar10, eps 8/255", "digits, eps 0.1", "digits, eps 0.15"]


def test_every_table_has_nothing_in_front_and_the_filters_that_people_use() -> None:
    for name, cells in TABLES.items():
        for data in {cell.data for cell in cells}:
            assert {cell.method for cell in cells if cell.data == data} >= {"identity", *FILTERS}, (
                name,
                data,
            )


@pytest.mark.parametrize("name", ["paintings", "transfer"])
def test_a_recipe_of_one_data_set_takes_the_one_that_is_named(name: str, tmp_path: Path) -> None:
    for scale in ("smoke", "small", "gpu", "paper"):
        named = Runner(scale, tmp_path / f"{scale}-named", sources={"cifar10": "digits"})
        assert named.one_data_set == "cifar10"
        brought = Runner(scale, tmp_path / scale).one_data_set
        assert brought == ("digits" if scale == "small" else "cifar10")
    sources = {"mnist": "digits", "cifar10": "digits"}
    with pytest.raises(
        InputError, match="data must be of one data set for this recipe, got mnist and cifar10"
    ):
        recipe_of(f"cropd/{name}").make("smoke", tmp_path / "two", sources=sources)


def test_a_picture_without_images_says_so(tmp_path: Path) -> None:
    summary = recipe_of("cropd/figure-2").make("small", tmp_path)
    assert summary.rows == []
    assert "name data with --data" in recipe_of("cropd/figure-2").printed(summary)[0].caption


@pytest.mark.parametrize("name", ["cropd/table-2", "cropd/costs"])
def test_an_auto_encoder_that_is_none_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    sources = {"vae": str(tmp_path / "no-such")}
    with pytest.raises(InputError, match="vae must be a hub id or folder of an AutoencoderKL"):
        recipe_of(name).make("smoke", tmp_path / "out", sources=sources)
    assert not (tmp_path / "out" / "foundations").exists()


def test_seconds_are_added_up_where_work_was_cut_off_and_counted_once(tmp_path: Path) -> None:
    def work(ends: bool = True) -> None:
        began = time.process_time()
        while time.process_time() < began + 0.05:
            pass
        if not ends:
            raise KeyError

    path = tmp_path / "seconds.json"
    with pytest.raises(KeyError), counted(path):
        work(ends=False)
    for _ in range(3):  # the second and third find it finished
        with counted(path):
            work()
    assert 0.1 <= (spent(path) or 0) < 0.15
    with counted(tmp_path / "unknown.json", path):  # made by a version that did not count
        pass
    assert spent(tmp_path / "unknown.json") is None


@pytest.mark.slow
def test_every_table_at_scale_smoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, step in {
        "table-1": 3,
        "table-2": 3,
        "table-3": 3,
        "table-8": 3,
        "table-9": 5,
        "table-10": 3,
        "trade-off": 4,
    }.items():  # every kind of row, not every row
        monkeypatch.setitem(TABLES, name, TABLES[name][::step])
    _measured_for_the_first_model_alone(monkeypatch)
    for name in NAMES:
        summary = recipe_of(name).make("smoke", tmp_path)
        place = tmp_path / name.partition("/")[2]
        assert Summary.read(place / "summary.json") == summary
        page = (place / "report.html").read_text()
        assert summary.rows
        assert all(row["defence"] in page for row in summary.rows)
        rows = [row["defence"] for row in summary.rows]
        for row in rows if name != "cropd/paintings" else ():  # what distil must stand beside, and its caveat
            if row.split(", ")[-1] == "distil":
                own = "" if name == "cropd/transfer" else f"{row}, "
                tuned = "fine-tuned" in row or "rocl" in row  # no head was made for what it says now
                assert {f"{own}student alone", *([] if tuned else [f"{own}original head"])} <= set(rows)
                assert not tuned or f"{own}original head" not in rows
                assert "textures that look alike" in page
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
            _more_than_nothing_is_the_difference_of_both_rows(summary)
    again = table("table-9", "smoke", tmp_path)  # everything is read again
    assert again.rows == Summary.read(tmp_path / "table-9" / "summary.json").rows
    with pytest.raises(InputError, match=r"resume must be of the run in .*, got another .*seed"):
        table("table-9", "smoke", tmp_path, seed=1)


def _more_than_nothing_is_the_difference_of_both_rows(summary: Summary) -> None:
    verdicts = [each["defence"] for each in summary.details["defences"]]
    assert verdicts == [row["defence"] for row in summary.rows]
    cells = {cell.name: cell for cell in TABLES[summary.settings["table"]]}
    bare = {
        name: cell
        for name, cell in cells.items()
        if (cell.method, cell.head) == ("identity", "clean") and is_frozen(cell)
    }
    worst = {row["defence"]: row["pma-2"]["value"] for row in summary.rows}
    for row in summary.rows:
        same = (
            name
            for name, cell in bare.items()
            if (cell.data, cell.eps or row["eps"]) == (row["data"], row["eps"])
        )
        nothing, gain = worst.get(next(same, "")), row["gain"]
        assert (gain is None) == (nothing is None or row["defence"] in bare)
        if nothing is not None and gain is not None:
            assert gain["value"] == pytest.approx(worst[row["defence"]] - nothing, abs=1e-9)
            assert gain["low"] <= gain["value"] <= gain["high"]


def _measured_for_the_first_model_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What type the passes take: timed for the first model, and taken to be the same for the others."""
    found, measured_dtype = list[dict[str, Any]](), pass_dtype.measured_dtype

    def once(*asked: Any) -> dict[str, Any]:
        found.extend([] if found else [measured_dtype(*asked)])
        return found[0]

    monkeypatch.setattr(pass_dtype, "measured_dtype", once)


def test_data_that_no_table_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data must be NAME=SOURCE with a name of"):
        table("table-2", "small", tmp_path, sources={"cifar11": "digits"})
