"""What a table must not leave unsaid: a defence that costs more than it gives, or gives no more than a control."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from heirloom.objectives.defences import DEFENCES
from heirloom.results.schema import Difference
from heirloom.results.statistics import paired_difference

# what robustness could come from that is no defence of the frozen model
CONTROLS = ("noise", "student alone", "jpeg", "bit-depth", "median")


def remarks(
    defence: str, right: Mapping[str, Mapping[str, Tensor]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The warnings about ``defence``, empty where there is none.

    Args:
        right: for each row of the table its verdicts, ``right[row][column]`` boolean (N,) over the same images:
            ``clean`` and the attacks, of which the last is the worst case.
        names: of the attacks, weakest first.

    Returns:
        ``{"warning": sentence, "against": row, "difference": worst case of the defence minus that row's}``. The
        first kind compares with ``identity``: clean accuracy lost against worst-case accuracy gained, on the same
        images. The second compares with the strongest control that was measured: one that the defence does not
        beat by its paired interval explains the figure as well as the defence does. The third, where neither is
        found: no gain over ``identity`` is shown.
    """
    worst, own = names[-1], right[defence]
    found = []
    if "identity" in right and defence != "identity":
        bare = right["identity"]
        cost = paired_difference(bare["clean"], own["clean"])
        gain = paired_difference(own[worst], bare[worst])
        if cost.value > gain.value:
            sentence = _costly(right[defence], bare, worst, cost, gain)
            found.append({"warning": sentence, "against": "identity", "difference": gain})
    strongest = strongest_control(defence, right, worst)
    if strongest is not None:
        ahead = paired_difference(own[worst], right[strongest][worst])
        if ahead.low <= 0:
            sentence = (
                f"Under '{worst}' it does not beat the control '{strongest}': the difference on the same images is "
                f"{_points(ahead)}, so the control explains the figure as well."
            )
            found.append({"warning": sentence, "against": strongest, "difference": ahead})
    if not found and "identity" in right and defence != "identity" and gain.low <= 0:
        sentence = f"Under '{worst}' it is not shown to gain anything over nothing in front: {_points(gain)}."
        found.append({"warning": sentence, "against": "identity", "difference": gain})
    return found


def _costly(
    own: Mapping[str, Tensor], bare: Mapping[str, Tensor], worst: str, cost: Difference, gain: Difference
) -> str:
    """That a defence takes more than it gives, wherever it takes it."""
    if cost.value > 0:
        return (
            f"It costs more clean accuracy ({_points(cost)}) than it gains under '{worst}' ({_points(gain)})."
        )
    lost, gained = (
        paired_difference(first, second)
        for first, second in ((bare[worst], own[worst]), (own["clean"], bare["clean"]))
    )
    return f"It loses more under '{worst}' ({_points(lost)}) than it gains in clean accuracy ({_points(gained)})."


def needs_control(method: str) -> bool:
    """Whether figures of ``method`` must stand beside a control: those of trained preprocessors. ``distil`` brings its
    own; nothing is trained in a filter or a ``vae``; a control needs none.
    """
    return method in DEFENCES and method not in (*CONTROLS, "distil")


def unjudged(method: str, rows: Collection[str]) -> list[str]:
    """What could not be judged of ``method`` for want of ``rows`` to compare it with, a sentence each."""
    found = []
    if method == "identity":
        return ["Nothing stands in front of the model: there is no defence to judge."]
    if "identity" not in rows:
        found.append(
            "Whether it gives more than it costs was not measured: 'identity' is not among the compared."
        )
    if needs_control(method) and not set(CONTROLS) & (set(rows) - {method}):
        found.append(
            "No control was measured beside it ('noise', say), so what it gives may need no such training."
        )
    return found


def strongest_control(defence: str, right: Mapping[str, Mapping[str, Tensor]], worst: str) -> str | None:
    """The measured control that keeps most images right under ``worst``; None where none was measured."""
    controls = [name for name in CONTROLS if name in right and name != defence]
    if defence != "distil":  # the student is the control of its own defence alone
        controls = [name for name in controls if name != "student alone"]
    return max(controls, key=lambda name: int(right[name][worst].sum())) if controls else None


def packed(verdicts: Mapping[str, Tensor]) -> dict[str, str]:
    """Verdicts as JSON: a string of 0 and 1 for each column."""
    return {
        column: "".join("1" if right else "0" for right in each.tolist()) for column, each in verdicts.items()
    }


def unpacked(stored: Mapping[str, str]) -> dict[str, Tensor]:
    """The verdicts that :func:`packed` wrote."""
    return {column: torch.tensor([digit == "1" for digit in digits]) for column, digits in stored.items()}


def _points(difference: Difference) -> str:
    return f"{100 * difference.value:.1f} points [{100 * difference.low:.1f}, {100 * difference.high:.1f}]"
