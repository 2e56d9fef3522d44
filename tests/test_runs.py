"""A run is known by its facts; what is finished is kept; any summary redraws to the same bytes."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from heirloom import InputError, Summary
from heirloom.report.pages import PAGES, draw
from heirloom.runs import Run
from heirloom.runtime.identity import differing, digest, module_facts

FACTS = {"model": {"weights": "a", "reading": {"pooling": "cls"}}, "seed": 0}


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({**FACTS, "seed": 1}, "another seed"),
        (
            {"model": {"weights": "a", "reading": {"pooling": "mean"}}, "seed": 0},
            "another model.reading.pooling",
        ),
        ({"model": FACTS["model"]}, "another seed"),
        ({**FACTS, "eps": 0.1}, "another eps"),
        (
            {"model": {"weights": "b", "reading": {"pooling": "mean"}}, "seed": 0},
            "weights, model.reading.pooling",
        ),
    ],
)
def test_a_folder_of_another_run_is_refused_and_the_facts_that_differ_are_named(
    tmp_path: Path, facts: dict[str, Any], named: str
) -> None:
    Run(tmp_path, FACTS)
    before = (tmp_path / "work" / "run.json").read_bytes()
    with pytest.raises(InputError, match=f"resume must be of the run in .*, got .*{named}"):
        Run(tmp_path, facts, resume=True)
    with pytest.raises(InputError, match="out must be a new folder unless resume is given"):
        Run(tmp_path, FACTS)
    assert (tmp_path / "work" / "run.json").read_bytes() == before
    Run(tmp_path, FACTS, resume=True)


def test_a_finished_stage_is_read_and_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"value": (1, 2)}

    first = Run(tmp_path, FACTS).stage("one", make)
    leftover = tmp_path / "work" / ".x.json.1.part"
    leftover.write_text("half")
    beside = tmp_path / ".summary.json.1.part"
    beside.write_text("half")
    assert Run(tmp_path, FACTS, resume=True).stage("one", make) == first == {"value": [1, 2]}
    assert made == [1]
    assert not leftover.exists()
    assert not beside.exists()


def test_seconds_add_up_over_interruptions(tmp_path: Path) -> None:
    run = Run(tmp_path, FACTS)
    spent = run.seconds
    run.stage("one", lambda: None)
    assert Run(tmp_path, FACTS, resume=True).seconds >= spent - 0.01  # noted to two decimals


def test_seconds_within_a_stage_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    run = Run(tmp_path, FACTS)
    run.stage("one", lambda: None)
    counted = run.counting(lambda stage, done, total, words: told.append(stage))
    counted("train", 1, 3, "")
    assert Run(tmp_path, FACTS, resume=True).seconds < 5  # nothing to note yet
    monkeypatch.setattr(run._watch, "_started", run._watch._started - 100)
    counted("train", 2, 3, "")
    counted("train", 3, 3, "")
    again = Run(tmp_path, FACTS, resume=True)
    assert told == ["train"] * 3
    assert 100 <= again.seconds < 110
    assert again.stage("one", lambda: 1) is None  # kept, as before


def test_threat_data_and_kind_are_typed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kind must be one of"):
        Run(tmp_path / "a", FACTS).finish("no such kind", [], seed=0)
    (tmp_path / "summary.json").write_text('{"kind": 3}')
    with pytest.raises(InputError, match="must be a result summary"):
        Summary.read(tmp_path / "summary.json")


def test_every_kind_has_a_page_that_can_be_imported() -> None:
    from importlib import import_module

    for place in PAGES.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


class _Reads(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.layer, self.size = nn.Linear(2, 2), size
        self.register_buffer("mean", torch.zeros(1), persistent=False)

    def extra_repr(self) -> str:
        return f"size={self.size}"


def test_a_module_is_known_by_weights_buffers_outside_the_state_and_settings() -> None:
    first = _Reads(1)
    second = _Reads(1)
    second.load_state_dict(first.state_dict())
    assert module_facts(first) == module_facts(second)
    second.mean.fill_(0.5)  # not in the state dict
    assert differing(module_facts(first), module_facts(second)) == ["weights"]
    third = _Reads(2)
    third.load_state_dict(first.state_dict())
    assert differing(module_facts(first), module_facts(third)) == ["structure"]


def test_a_digest_is_of_shape_type_and_bytes() -> None:
    x = torch.arange(6.0)
    assert digest(x) == digest(x.clone())
    assert len({digest(x), digest(x.view(2, 3)), digest(x.double()), digest(x.flip(0)), digest(x, x)}) == 5


ROOT = Path(__file__).parents[1]


def _recorded() -> dict[Path, str]:
    """Every recorded result that has a page, with its kind."""
    found: dict[Path, str] = {}
    for path in sorted((ROOT / "results").rglob("*.json")):
        kind = re.search(r'"kind": "([^"]+)"', path.read_text()[:200])
        if kind and kind[1] in PAGES:
            found[path] = kind[1]
    return found


RECORDED = _recorded()


@pytest.fixture
def rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in a few pixels and not arranged: all that is in them is drawn, in a third of the time."""
    savefig = Figure.savefig

    def small(figure: Figure, place: Any, **_: Any) -> None:
        figure.set_layout_engine("none")
        savefig(figure, place, format="png", dpi=10)

    monkeypatch.setattr(Figure, "savefig", small)


# a record is kept without its images, so a page that needs them fails on the record alone
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: str(path.relative_to(ROOT / "results")))
def test_every_recorded_result_is_drawn(path: Path, tmp_path: Path, rough: None) -> None:
    drawn = draw(Summary.read(path), tmp_path).read_bytes()
    assert b"<table" in drawn or b"<img" in drawn


@pytest.mark.parametrize("kind", sorted(set(RECORDED.values())))
def test_a_result_is_drawn_again_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    path = min((path for path in RECORDED if RECORDED[path] == kind), key=lambda path: path.stat().st_size)
    summary = Summary.read(path)
    first = draw(summary, tmp_path).read_bytes()
    summary.write(tmp_path / "summary.json")
    assert draw(Summary.read(tmp_path / "summary.json"), tmp_path).read_bytes() == first


def test_every_kind_of_page_is_drawn_by_some_test() -> None:
    drawn = set(RECORDED.values())
    elsewhere = {"evaluation", "probe", "pretraining", "inspection"}  # tests/cli/test_same_run.py
    elsewhere |= {"certification", "leaderboard", "features"}  # their own tests
    elsewhere |= {
        "cropd",
        "cropd-paintings",
        "cropd-default",
        "cropd-transfer",
        "illustration",
        "feature-learning",
        "inheritance-heads",
        "zoo",
    }  # tests/heirloom_recipes
    assert set(PAGES) <= drawn | elsewhere
