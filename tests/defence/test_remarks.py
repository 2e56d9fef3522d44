"""Warnings: each where it belongs, and none where a defence earns its keep."""

import json

import pytest
import torch

from heirloom.defence.choose import compared_with
from heirloom.defence.remarks import packed, remarks, unjudged, unpacked
from heirloom.defence.settings import METHODS
from heirloom.results.statistics import paired_difference
from heirloom_recipes.record import ROOT


def _right(clean: int, worst: int) -> dict[str, torch.Tensor]:
    """Verdicts on 100 images: the first so many right, without and under attack."""
    places = torch.arange(100)
    return {"clean": places < clean, "pgd-20": places < worst + 5, "strong": places < worst}


NAMES = ("pgd-20", "strong")


def test_a_defence_that_gives_more_than_it_costs_and_than_controls_do_is_left_in_peace() -> None:
    right = {"identity": _right(95, 0), "noise": _right(94, 20), "cropd": _right(90, 60)}
    assert remarks("cropd", right, NAMES) == []


def test_a_defence_that_costs_more_than_it_gives_is_told_so() -> None:
    right = {"identity": _right(95, 0), "cropd": _right(49, 3)}
    (found,) = remarks("cropd", right, NAMES)
    assert found["against"] == "identity"
    assert found["difference"].value == 0.03
    assert "costs more clean accuracy (46.0 points" in found["warning"]
    assert "than it gains under 'strong' (3.0 points" in found["warning"]


def test_a_defence_that_is_worse_under_attack_alone_is_told_where_it_loses() -> None:
    (found,) = remarks("jpeg", {"identity": _right(90, 20), "jpeg": _right(94, 3)}, NAMES)
    assert "It loses more under 'strong' (17.0 points" in found["warning"]
    assert "than it gains in clean accuracy (4.0 points" in found["warning"]


def test_a_defence_without_a_control_must_at_least_beat_nothing_in_front() -> None:
    for own in (_right(95, 0), _right(95, 2)):  # 2 of 100 images: the interval reaches 0
        (found,) = remarks("jpeg", {"identity": _right(95, 0), "jpeg": own}, NAMES)
        assert found["against"] == "identity"
        assert "not shown to gain anything over nothing in front" in found["warning"]
    assert remarks("jpeg", {"identity": _right(95, 0), "jpeg": _right(95, 30)}, NAMES) == []


def test_the_strongest_control_decides() -> None:
    # 3 images ahead of noise on the same 100: the interval reaches 0; 25 behind the student
    right = {"identity": _right(95, 0), "noise": _right(94, 37), "cropd": _right(95, 38)}
    (found,) = remarks("cropd", right, NAMES)
    assert found["against"] == "noise"
    assert found["difference"].low < 0 < found["difference"].high
    right |= {"student alone": _right(74, 63), "distil": _right(74, 38)}
    (found,) = remarks("cropd", right, NAMES)
    assert found["against"] == "noise"  # the student explains nothing of a defence that it is no part of
    (found,) = remarks("distil", right, NAMES)
    assert found["against"] == "student alone"
    assert found["difference"].value == -0.25
    # a control is not compared with itself
    assert [r["against"] for r in remarks("noise", {"noise": _right(94, 37)}, NAMES)] == []


def test_what_a_defence_is_compared_with_by_itself_lets_it_be_judged() -> None:
    for method in METHODS:
        rows = [method, *compared_with(method), *(["student alone"] if method == "distil" else [])]
        if method == "identity":
            assert "no defence to judge" in unjudged(method, rows)[0]
        else:
            assert unjudged(method, rows) == []
            (alone,) = unjudged(method, rows[:1])[:1]
            assert "'identity' is not among the compared" in alone
    assert compared_with("auto") == ("identity", "noise")
    assert "No control was measured" in unjudged("cropd", ["identity", "cropd"])[0]


@pytest.mark.parametrize("record", ["digits-demo", "digits-seed-1"])
def test_what_the_page_says_of_cropd_and_noise_is_what_the_records_verdicts_say(record: str) -> None:
    found = json.loads((ROOT / "results" / "defend" / f"{record}.json").read_text())["details"]["defences"]
    right = {each["defence"]: unpacked(each["right"])["strong"] for each in found}
    page = (ROOT / "docs" / "what-a-preprocessor-can-give.md").read_text()
    for one, other in (("cropd", "noise"), ("adversarial-reconstruction", "cropd")):
        ahead = paired_difference(right[one], right[other])
        value, low, high = (100 * x for x in (ahead.value, ahead.low, ahead.high))
        signed = (
            f"{value:+.1f} [{low:+.1f}, {high:+.1f}]" if value else f"{value:.1f} [{low:+.1f}, {high:+.1f}]"
        )
        assert signed in page


def test_verdicts_survive_json() -> None:
    right = _right(7, 3)
    assert all(torch.equal(right[c], again) for c, again in unpacked(packed(right)).items())
