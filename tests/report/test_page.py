"""Pages: the verdict first, settings in words, nothing that a narrow or dark screen hides."""

from typing import Any

import pytest

from heirloom.defence.page import defence_page
from heirloom.evaluation.audit.page import audit_section
from heirloom.report.page import Section, Table, Text, page, plainly, unbroken
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.threat import Threat


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "none"),
        (True, "yes"),
        (1e-05, "1e-05"),
        ((0.9, 0.95), "0.9, 0.95"),
        ({"steps": 10, "random_start": False}, "steps 10, random start no"),
        ([], "none"),
        ("cropd", "cropd"),
    ],
)
def test_settings_are_told_in_words(value: Any, said: str) -> None:
    assert plainly(value) == said


def _summary(**more: Any) -> Summary:
    return Stopwatch("heirloom x").summary("probe", [{"a": 1}], seed=0, **more)


def test_a_page_has_no_python_in_it_and_folds_what_is_folded() -> None:
    settings = {"betas": (0.9, 0.95), "augmentation": None, "compile": False}
    sections = [
        Section("Seen", [Text("words")]),
        Section("Checks", [Table("", ["a"], [["84.2 [76.9, 89.9]"]])], True),
    ]
    html = page("T", "The verdict.", sections, _summary(settings=settings), warnings=["Beware."])
    assert html.index("The verdict.") < html.index("Beware.") < html.index("Seen") < html.index("<details>")
    assert "(0.9" not in html
    assert ">None<" not in html
    assert ">False<" not in html
    assert "prefers-color-scheme: dark" in html
    assert "84.2 [76.9,\u00a089.9]" in html


def test_an_interval_is_not_broken_inside() -> None:
    assert unbroken("84.2 [76.9, 89.9]") == "84.2 [76.9,\u00a089.9]"


def _share(right: str) -> dict[str, float]:
    value = right.count("1") / len(right)
    return {"value": value, "low": max(0.0, value - 0.1), "high": min(1.0, value + 0.1), "n": len(right)}


def _defence(verdicts: dict[str, str]) -> str:
    clean = "1" * 40
    point = {"eps": 0.1, "accuracy": _share(clean)}
    defences = [
        {"defence": name, "parameters": 1, "history": [], "per_class": [], "curve": [point]}
        | {"right": {"clean": clean, "pgd-20": right}}
        for name, right in verdicts.items()
    ]
    rows = [
        {"defence": name, "clean": _share(clean), "pgd-20": _share(right)} for name, right in verdicts.items()
    ]
    details = {"defences": defences, "classes": ["a", "b"], "remarks": []}
    watch = Stopwatch("heirloom defend")
    return defence_page(watch.summary("defence", rows, seed=0, threat=Threat("Linf", 0.1), details=details))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (
            "1" * 36 + "0" * 4,
            "It beats the strongest control measured, Noise: under attack 40.0 points ahead",
        ),
        ("1" * 21 + "0" * 19, "It is not shown to beat the strongest control measured, Noise"),
        (
            "1" * 4 + "0" * 36,
            "It loses to the strongest control measured, Noise: under attack 40.0 points behind",
        ),
    ],
)
def test_the_verdict_comes_first_and_is_about_the_strongest_control(own: str, said: str) -> None:
    noise, jpeg = "1" * 20 + "0" * 20, "1" * 10 + "0" * 30
    html = _defence({"identity": "0" * 40, "jpeg": jpeg, "noise": noise, "cropd": own})
    lead = html.partition('<p class="lead">')[2].partition("</p>")[0]
    assert lead.startswith(said)
    assert "Beside the bare model: under attack" in lead


def test_the_audit_is_folded_and_says_what_each_sign_is() -> None:
    finding = {"check": "randomness", "verdict": "pass", "cause": "", "remedy": "", "evidence": {"draws": 3}}
    section = audit_section({"trusted": True, "failed": [], "findings": [finding]})
    assert section.folded
    (cells,) = section.parts[1].rows  # type: ignore[union-attr]
    assert cells[0].startswith("randomness: the same image gives different logits")
    assert cells[1:] == ["no", "draws 3"]
