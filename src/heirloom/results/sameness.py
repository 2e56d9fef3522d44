"""Whether two results are of the same figures: rows, verdicts by digest, images, threat; never times or places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heirloom.results.schema import Summary
from heirloom.runtime.identity import differing

TIMES = ("seconds", "minutes")
FREE = {"folder", "processes", "examples"}  # places, layout, pictures


def differences(earlier: Summary, now: Summary) -> list[str]:
    """What differs between two results, each as a sentence; empty where every figure is the same.

    Rows are compared to the last digit, verdicts (which images stand) by their digests, and all other numbers of the
    details but times.
    """
    found = [
        f"{name} is {_short(b)} and was {_short(a)}."
        for name, a, b in (
            ("kind", earlier.kind, now.kind),
            ("seed", earlier.seed, now.seed),
            ("threat", str(earlier.threat), str(now.threat)),
            ("the images' digest", _digest(earlier), _digest(now)),
        )
        if a != b
    ]
    if found:
        return found
    if len(earlier.rows) != len(now.rows):
        return [f"there are {len(now.rows)} rows and were {len(earlier.rows)}."]
    for number, (a, b) in enumerate(zip(earlier.rows, now.rows, strict=True), start=1):
        found += _cells(_kept(a), _kept(b), _called(b, number))
    a, b = _kept(earlier.details), _kept(now.details)
    shared = a.keys() & b.keys()
    names = differing({k: _shared(a[k], b[k]) for k in shared}, {k: _shared(b[k], a[k]) for k in shared})
    verdicts = [name for name in names if name.endswith("right") or "verdicts" in name or "standing" in name]
    if verdicts:
        found.append(f"verdicts on single images differ by digest: {_listed(verdicts)}.")
    if others := [name for name in names if name not in verdicts]:
        found.append(f"details differ: {_listed(others)}.")
    return found


def _digest(summary: Summary) -> str:
    return "none" if summary.data is None else summary.data.digest


def _called(row: Mapping[str, Any], number: int) -> str:
    name = next((str(value) for value in row.values() if isinstance(value, str)), "")
    return f"row {number}" + (f" ({name})" if name else "")


def _cells(a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> list[str]:
    names = dict.fromkeys([*a, *b])
    return [
        f"{where}: {name} is {_short(b.get(name))} and was {_short(a.get(name))}."
        for name in names
        if a.get(name) != b.get(name)
    ]


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "value" in value:
        return f"{value['value']:.6g}"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _kept(value: Any) -> Any:
    """``value`` without times, places and pictures."""
    if isinstance(value, Mapping):
        return {k: _kept(v) for k, v in value.items() if k not in FREE and not any(t in k for t in TIMES)}
    if isinstance(value, list):
        return [_kept(item) for item in value]
    return "picture" if isinstance(value, str) and value.startswith("data:") else value


def _shared(value: Any, other: Any) -> Any:
    """``value`` with the keys that both have: an older version recorded fewer details."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return {key: _shared(value[key], other[key]) for key in value if key in other}
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        return [_shared(a, b) for a, b in zip(value, other, strict=True)]
    return value


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
