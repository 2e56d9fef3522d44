"""Does the model answer the same, whatever was asked before?

The harness judges an image after many other calls. Everything here is asked of fresh copies with torch's, NumPy's and
Python's generators seeded alike, so that memory alone is seen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from heirloom.attacks.losses import margin, misclassified
from heirloom.evaluation.apart import connections
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import RANDOM_ABOVE, SLIGHT, SLIGHTLY, Subject, beats
from heirloom.evaluation.copies import apart, change, facts_of, largest, logits, seeded_gradient, tensors_of
from heirloom.evaluation.verdicts import Evaluation

CALLS = 24
LATE = 1000  # single images, asked where something counts and nothing shows: what begins after many calls
NEAR = (1e-3, 1e-2)  # in pixel units: caches may answer for a neighbour of what they know


def state(subject: Subject, evaluation: Evaluation | None) -> Finding:
    """Do earlier calls change an answer? Caches, counters, adaptation at test time, buffers that move."""
    evidence = _after_calls(subject) | _judged_again(subject, evaluation)
    change_seen = max(value for name, value in evidence.items() if name.startswith("change"))
    # verdicts of other batches are others without any state
    explained = bool({"batch", f"batch{SLIGHTLY}"} & set(subject.hidden))
    wrong = 0 if explained else evidence.get("verdicts_changed", 0)
    random = subject.trace.random or subject.own_generators
    evidence["changed"] = subject.remembered[:5]
    if (random and subject.random) or not (
        change_seen > RANDOM_ABOVE
        or subject.written
        or subject.files
        or beats(wrong, evidence.get("judged_again", 0))
    ):
        cause = "Hidden by randomness." if random and subject.random else ""
        return Finding("state", "skipped" if cause else "pass", cause, evidence=evidence)
    elsewhere = subject.written or subject.files or wrong > 2
    seen_on_repeat = (
        evidence["change_on_repeat"] > RANDOM_ABOVE
    )  # a cache is not slight because its images lie close
    evidence["slight"] = not elsewhere and seen_on_repeat and change_seen <= SLIGHT
    subject.hidden.append("state")
    if subject.written:
        return _written(evidence)
    what = ", ".join(subject.remembered[:3]) or "outside the module (a global, a closure)"
    return Finding(
        "state",
        "fail",
        cause=f"The answer depends on earlier calls: state that the state dict does not fix ({what}), such as a "
        f"cache, a counter or adaptation at test time.{_in_files(subject)}{_connected(subject)}"
        f"{adapting(subject)}{_drawn_once(evidence)}"
        f"{_corrected(evidence)}",
        remedy="Remove what is remembered between calls, or reset it before each (a fresh copy for every call), "
        "and attack and judge that; figures from a model that remembers are void.",
        evidence=evidence,
    )


def _written(evidence: dict[str, Any]) -> Finding:
    return Finding(
        "state",
        "fail",
        cause="The forward pass writes into its input: the images are others after a call than before, so that "
        "asking twice is asking two questions, and an attack goes on from an image that it did not make.",
        remedy="Let the forward pass work on a copy (no `.data`, no in-place operation on the input); figures until "
        "then are void.",
        evidence=evidence,
    )


def _after_calls(subject: Subject) -> dict[str, Any]:
    """How far answers move on a repeat, after a neighbour, over many calls, and for the audited model itself."""
    x, few = subject.x, subject.x[:2]
    spread, model = subject.spread, subject.fresh()
    before = facts_of(model) | _numbers(model)
    first, again = logits(model, x), logits(model, x)
    near = [subject.start, *(torch.where(x > 0.5, x - size, x + size) for size in NEAR)]
    moved = [change(logits(model, z), logits(subject.fresh(), z), spread) for z in near]
    logits(model, x, "input")
    third = logits(model, x)
    found = {
        "change_on_repeat": largest(
            torch.maximum(change(first, again, spread), change(first, third, spread))
        ),
        "change_after_a_neighbour": largest(torch.stack(moved)),
    }
    counted = subject.fresh()
    many = [logits(counted, few) for _ in range(2)]
    kept = facts_of(counted) | _numbers(counted) | _outside(subject)
    many += [logits(counted, few) for _ in range(CALLS - 2)]
    counts = facts_of(counted) | _numbers(counted) | _outside(subject) != kept
    found["change_over_calls"] = max(largest(change(many[0], later, spread[:2])) for later in many[1:])
    used = logits(subject.model.model, x)
    found["change_since_the_evaluation"] = largest(
        change(used, logits(subject.fresh(mended=False), x), spread)
    )
    if subject.trace.random and not subject.random:  # it draws, but not at every call
        other = logits(subject.fresh(), x, seed=1)
        found["change_with_the_first_draw"] = largest(change(first, other, spread))
    if counts and max(found.values()) <= RANDOM_ABOVE:
        found |= _late(subject, counted)
    after = facts_of(model) | _numbers(model)
    subject.remembered = [name for name, value in after.items() if before.get(name) != value]
    subject.remembered = [*subject.files, *subject.shared, *subject.remembered] or _left_behind(subject)
    found["change_of_gradient"] = float(_gradient_change(subject, subject.fresh(), subject.fresh()) > 0.5)
    since = _gradient_change(subject, subject.fresh(mended=False), subject.model.model)
    found["change_of_gradient_since_the_evaluation"] = float(since > 0.5)
    return found


def _left_behind(subject: Subject) -> list[str]:
    """What the audited model remembers otherwise than a fresh copy: gradients may count what logits do not."""
    fresh = facts_of(subject.fresh(mended=False))
    used = facts_of(subject.model.model)
    return [name for name, value in used.items() if name not in fresh or fresh[name] != value]


def _outside(subject: Subject) -> dict[str, Any]:
    """Where what the model shares with its copies stands: it is never the same while something counts."""
    return {"shared": object()} if subject.shared else {}


def _late(subject: Subject, counted: nn.Module) -> dict[str, Any]:
    """What a thousand further calls change in the answer and in the gradient."""
    one, spread = subject.x[:1], subject.spread[:1]
    first = logits(counted, one)
    moved = max(largest(change(first, logits(counted, one), spread)) for _ in range(LATE))
    turned = float(_gradient_change(subject, subject.fresh(), counted) > 0.5)
    return {"change_after_many_calls": moved, "change_of_gradient_after_many_calls": turned}


def _gradient_change(subject: Subject, fresh: nn.Module, asked: nn.Module) -> float:
    """1 - cosine of the gradient on a ``fresh`` copy and on one that was ``asked`` before."""
    few, y = subject.x[:8], subject.y[:8]
    logits(asked, few)
    one, other = (seeded_gradient(model, few, y, margin).flatten()[None] for model in (fresh, asked))
    return float(apart(one, other)[0]) if bool((one != 0).any()) else 0.0


def _judged_again(subject: Subject, evaluation: Evaluation | None) -> dict[str, Any]:
    """The evaluation's fallen and standing images on a copy taken before any call, and the figure that it gives."""
    if evaluation is None or subject.labels is None:
        return {}
    last = list(evaluation.correct.values())[-1]
    model, right = subject.fresh(mended=False), []
    for x, y in zip(evaluation.x_adv.split(subject.batch), subject.labels.split(subject.batch), strict=True):
        x = x.to(subject.x.device)
        right.append(~misclassified(logits(model, x).cpu(), y.cpu()))
    again = torch.cat(right)
    found = {"judged_again": len(last), "verdicts_changed": int((again != last).sum())}
    found["fallen_that_stand"] = int((again & ~last).sum())
    found["standing_that_fall"] = int((~again & last).sum())
    return found | {"figure": float(last.double().mean()), "figure_corrected": float(again.double().mean())}


def _in_files(subject: Subject) -> str:
    if not subject.files:
        return ""
    return " A forward pass reads back what an earlier one wrote to the disk, which all copies and processes share."


def _connected(subject: Subject) -> str:
    held = connections(subject.model.model)
    if not held:
        return ""
    return f" The model holds a connection ({held[0]}): what remembers may be another process, which all copies share."


def adapting(subject: Subject) -> str:
    if not subject.trace.gradient_calls:
        return ""
    return (
        " The forward pass computes gradients itself and changes the model by them (an inner optimisation)."
    )


def _drawn_once(evidence: dict[str, Any]) -> str:
    if evidence.get("change_with_the_first_draw", 0) <= RANDOM_ABOVE:
        return ""
    return " It draws at its first call and keeps what it drew: another process has another model."


def _corrected(evidence: dict[str, Any]) -> str:
    if not evidence.get("verdicts_changed"):
        return ""
    return (
        f" On a copy taken before any call {evidence['verdicts_changed']} of {evidence['judged_again']} verdicts "
        f"are others, and the figure is {100 * evidence['figure_corrected']:.0f} instead of "
        f"{100 * evidence['figure']:.0f} %."
    )


def _numbers(model: nn.Module) -> dict[str, Any]:
    return {name: float(value.double().nan_to_num().sum()) for name, value in tensors_of(model).items()}
