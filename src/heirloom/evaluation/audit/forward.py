"""Mechanisms seen in forward passes alone: inner optimisation, votes, probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heirloom.evaluation.audit.findings import MECHANISMS, Finding
from heirloom.evaluation.audit.slopes import ITERATES
from heirloom.evaluation.audit.subject import Subject
from heirloom.evaluation.audit.watch import CHOOSING, COMPARING, DECIDING, ROUNDING

FEW = 0.1  # of all logits: so few different values are votes; a network's logits are all different
SAME = 3e-3  # of the logits' spread: a vote with a trace of the logits, or with ties broken, is a vote
REPEATED = 0.2  # of the images: so many with another's logits, number for number, are votes
COARSE = 1e-3  # of the logits' spread: float32 knows numbers a thousand times closer
LIKE = 0.5  # cosine with the true gradient: of the same function, if approximately
CLIPPED = 0.1  # share of the logits; ten classes whose logits end at a limit have more


def inner_optimisation(subject: Subject) -> Finding:
    calls, iterations = subject.trace.gradient_calls, subject.trace.calls
    evidence = {"gradient_calls": calls, "calls_of_one_layer": iterations}
    if not calls:
        return Finding("inner-optimisation", "pass", evidence=evidence)
    return Finding(
        "inner-optimisation",
        "fail",
        cause=f"The forward pass computes gradients itself ({calls} times for one call): it "
        "optimises its input or the model at test time, and an attack differentiates through none of that.",
        remedy="Attack adaptively: transfer from the classifier without the inner optimisation, unroll it "
        "(create_graph=True), or approximate it by the identity (BPDA); report the worst case of all.",
        evidence=evidence,
    )


def searching(subject: Subject, finding: Finding, failed: Sequence[Finding]) -> Finding:
    """``finding`` of :func:`inner_optimisation`, once the gradient is known: where it is lost or foreign, no other
    cause is seen, and the forward pass runs its layers again and again, it searches without gradients. Where the
    gradient is a fair approximation (a solver's last step), that is what is wrong, and ``backward`` says so.
    """
    names = {other.check for other in failed if other.check in MECHANISMS}
    lost = names & {"gradients", "backward", "gradient-agreement"}
    fair = any(other.check == "backward" and other.evidence.get("cosine", 0) > LIKE for other in failed)
    if finding.verdict == "fail" or names - lost or not lost or fair or subject.trace.calls < ITERATES:
        return finding
    return Finding(
        "inner-optimisation",
        "fail",
        cause=f"The forward pass runs a layer {subject.trace.calls} times for one call, and no usable gradient "
        "comes back: it iterates at test time without gradients (a search for a better input, a solver).",
        remedy="Attack adaptively: transfer from the classifier without the iterations, unroll them, or approximate "
        "them by the identity (BPDA), and add Square Attack; report the worst case of all.",
        evidence=finding.evidence,
    )


def discrete_output(subject: Subject) -> Finding:
    """Votes and decisions in place of logits: few values, and nothing in between."""
    shown = torch.cat([subject.logits, subject.predict(subject.start)])
    if _decides_beside(subject):
        shown = subject.predict(subject.start)
    values = _values(subject, shown)
    evidence = {"values": values, "of": shown.numel()}
    explained = bool(subject.trace.saturating) or subject.offset
    alike = _repeated(subject)
    few = (_few(values, shown) and not _lost(subject, shown)) or alike > REPEATED
    rounds = bool(subject.trace.seen(ROUNDING)) and not subject.trace.seen(CHOOSING)
    step = None if explained or subject.random or (few and not rounds) else _grid(subject, shown)
    if step is not None:
        return _rounded(step, _at_the_ends(shown), evidence, subject.trace.seen(DECIDING))
    if explained or not few or not bool(shown.std() > 0):
        return Finding("discrete-output", "pass", evidence=evidence)
    chosen = subject.trace.seen(CHOOSING)
    agree = (
        f", and {100 * alike:.0f} % of them have another's logits, number for number"
        if alike > REPEATED
        else ""
    )
    how = f" ({', '.join(chosen[:3])})" if chosen else ""
    return Finding(
        "discrete-output",
        "fail",
        cause=f"The output takes only {values} values over {len(shown)} images{agree}: it is a decision or a "
        f"vote{how}, not logits; between its jumps there is no gradient and no margin.",
        remedy="Return what is decided upon (logits, distances to the neighbours), or differentiate a soft version "
        "of the choice in the backward pass (BPDA), and add decision-based and transfer attacks.",
        evidence=evidence,
    )


def _few(values: int, shown: Tensor) -> bool:
    return values <= max(4, FEW * shown.numel())


def _decides_beside(subject: Subject) -> bool:
    """Whether beside the images, and not at them, there are decisions in place of logits, as of a detector."""
    beside = subject.predict(subject.start)
    several = len(beside.nan_to_num().unique(dim=0)) > 1
    return (
        several
        and _few(_values(subject, beside), beside)
        and not _few(_values(subject, subject.logits), subject.logits)
    )


def _lost(subject: Subject, shown: Tensor) -> bool:
    """Whether most logits are one number and no other comes twice, and nothing chooses: an underflow, no votes."""
    _, counts = shown.nan_to_num().unique(return_counts=True)
    rest = shown.numel() - int(counts.max())
    chosen = subject.trace.seen((*CHOOSING, *COMPARING, "eq", "where", "masked_fill"))
    return not chosen and len(counts) - 1 > rest / 2


def _values(subject: Subject, shown: Tensor) -> int:
    """How many different logits; where the model decides (argmax), those that all but coincide count once."""
    if subject.trace.seen(DECIDING) and not subject.offset:
        shown = (shown.double() / (SAME * subject.spread.double().median())).round()
    return len(shown.nan_to_num().unique())


def _repeated(subject: Subject) -> float:
    """The share of images with the logits of another one, number for number, where the model decides or sorts."""
    if "lookup" in subject.hidden or not subject.trace.seen(CHOOSING):
        return 0.0  # what is stored may be the same for many
    _, counts = subject.logits.nan_to_num().unique(dim=0, return_counts=True)
    return float(counts[counts > 1].sum()) / len(subject.logits)


def _grid(subject: Subject, shown: Tensor) -> float | None:
    """The step between logits that are all multiples of one number, None where they are not.

    Numbers of less than 32 bits always are: such models are not asked.
    """
    if subject.trace.halves or any(p.dtype.itemsize < 4 for p in subject.model.parameters()):
        return None
    steps = shown.double().flatten().sort().values.diff()
    steps = steps[steps > 1e-6 * float(subject.spread.median())]
    step = float(steps.min()) if len(steps) else 0.0
    off = (steps / step - (steps / step).round()).abs() if step > 0 else steps + 1
    coarse = step > COARSE * float(subject.spread.median())
    return step if coarse and len(steps) and bool((off < 0.02).double().mean() > 0.98) else None


def _at_the_ends(shown: Tensor) -> float:
    """The share of all logits that equal the highest or the lowest: a sound model has one of each."""
    return float(((shown == shown.max()) | (shown == shown.min())).double().mean())


def _rounded(step: float, ends: float, evidence: dict[str, Any], decided: list[str]) -> Finding:
    clipped = f" {100 * ends:.0f} % of them are clipped at the ends of their range." if ends > CLIPPED else ""
    what = f"counts, a vote ({', '.join(decided[:2])})" if decided else "rounded"
    return Finding(
        "discrete-output",
        "fail",
        cause=f"The logits are {what}: all are multiples of {step:.2g}; between the steps there is no gradient."
        f"{'' if decided else clipped}",
        remedy="Return the logits as they are before rounding, or round straight through in the backward pass (BPDA), "
        "and add black-box and transfer attacks.",
        evidence=evidence | {"step": step, "clipped": ends},
    )


def probabilities(subject: Subject, votes: Finding) -> Finding:
    """``votes``: what :func:`discrete_output` found; votes sum to their number as well."""
    logits = subject.logits
    lowest, total = float(logits.min()), float(logits.sum(1).median())
    off = float((logits.sum(1) / total - 1).abs().max()) if total > 0 else 1.0
    evidence = {"lowest": lowest, "highest": float(logits.max()), "sum": total, "sums_differ_by": off}
    # bfloat16 probabilities of 1000 classes sum to 1 within about 1e-2
    known = "lookup" in subject.hidden  # a table's answers
    if (
        known
        or not (lowest >= 0 and off < 1e-2)
        or subject.offset
        or (votes.verdict == "fail" and total != 1)
    ):
        return Finding("probabilities", "pass", evidence=evidence)
    times = "" if abs(total - 1) < 1e-2 else f" times {total:.3g}"
    return Finding(
        "probabilities",
        "fail",
        cause=f"The output is a probability distribution{times}: losses apply a second softmax, and where a "
        "probability has reached 0 or 1 its gradient is lost to rounding.",
        remedy="Return the logits, before the softmax.",
        evidence=evidence,
    )
