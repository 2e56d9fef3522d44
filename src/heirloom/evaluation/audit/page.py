"""The audit on a page: what it found, then every check with its verdict. Drawn from ``details["audit"]``."""

from __future__ import annotations

from typing import Any

from heirloom.evaluation.audit.findings import CHECKS
from heirloom.report.page import Section, Table, Text

TITLE = "Can these figures be trusted?"


def audit_lead(details: dict[str, Any]) -> str:
    """One sentence for the top of a page."""
    if details["trusted"]:
        return "The audit found no sign that these figures are wrong."
    if details["failed"] == ["too-few"]:
        return "The audit could look at too few images to say whether these figures are right."
    return f"The audit found signs that these figures are wrong ({', '.join(details['failed'])}): do not trust them."


def audit_warnings(details: dict[str, Any]) -> list[str]:
    """What a reader must see before any figure: each sign that was found, and what to do."""
    by_name = {finding["check"]: finding for finding in details["findings"]}
    found = (by_name[name] for name in details["failed"])
    return [f"{finding['cause']} What to do: {finding['remedy']}" for finding in found]


def audit_section(details: dict[str, Any]) -> Section:
    """Every check, folded. ``details``: as :func:`heirloom.evaluation.audit.audit_details` makes them."""
    rows = [
        [_sign(finding["check"]), _WORDS[finding["verdict"]], evidence_text(finding)]
        for finding in details["findings"]
    ]
    caption = (
        "Each check looks for one sign of an evaluation gone wrong. A sound model shows none; showing "
        "none is no proof, since an attack made for this model may still break it."
    )
    table = Table(caption, ["sign looked for", "found", "what was measured"], rows, prose=True)
    return Section(TITLE, [Text(audit_lead(details)), table], folded=True)


def _sign(name: str) -> str:
    """What a check looks for, in words; the checks of older results by their names."""
    return f"{name}: {CHECKS[name]}" if name in CHECKS else name


_WORDS = {"pass": "no", "fail": "YES", "skipped": "not looked for"}


def evidence_text(finding: dict[str, Any]) -> str:
    """The evidence's numbers in a line, or why there are none."""
    if finding["verdict"] == "skipped":
        return str(finding["cause"])
    shown = {
        name: value for name, value in finding["evidence"].items() if not isinstance(value, (list, dict))
    }
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in shown.items())


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
