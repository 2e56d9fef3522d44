"""The audit on a page: what it found, then every check with its verdict. Drawn from ``details["audit"]``."""

from __future__ import annotations

from typing import Any

from heirloom.report.page import Part, Section, Table, Text

TITLE = "Can these figures be trusted?"


def audit_lead(details: dict[str, Any]) -> str:
    """One sentence for the top of a page."""
    if details["trusted"]:
        return "The audit found no sign that these figures are wrong."
    return f"The audit says that these figures cannot be trusted: {', '.join(details['failed'])}."


def audit_section(details: dict[str, Any]) -> Section:
    """``details``: as :func:`heirloom.evaluation.audit.audit_details` makes them."""
    by_name = {finding["check"]: finding for finding in details["findings"]}
    parts: list[Part] = [Text(audit_lead(details))]
    for name in details["failed"]:
        finding = by_name[name]
        parts.append(Text(f"{name}: {finding['cause']} Remedy: {finding['remedy']}"))
    rows = [[name, _WORDS[finding["verdict"]], evidence_text(finding)] for name, finding in by_name.items()]
    caption = (
        "Each check looks for one sign of an evaluation gone wrong. A sound model shows none; showing "
        "none is no proof, since an attack made for this model may still break it."
    )
    parts.append(Table(caption, ["check", "sign", "what was seen"], rows, prose=True))
    return Section(TITLE, parts)


_WORDS = {"pass": "absent", "fail": "PRESENT", "skipped": "not looked for"}


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
