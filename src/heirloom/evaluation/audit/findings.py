"""What the audit says: one finding for each sign that a robust accuracy cannot be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Verdict = Literal["pass", "fail", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One check's verdict.

    Attributes:
        check: its name, a key of :data:`CHECKS`.
        verdict: ``fail``: the sign is there, the figure is not to be trusted; ``skipped``: not applicable or
            hidden by another finding, ``cause`` says why.
        cause, remedy: sentences; empty where the verdict is ``pass``.
        evidence: the numbers behind the verdict.
    """

    check: str
    verdict: Verdict
    cause: str = ""
    remedy: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


# mechanisms first: what makes a figure wrong; then symptoms: what a wrong figure looks like
MECHANISMS = {
    "eval-mode": "modules stay in train mode after model.eval(), and the logits show it",
    "state": "logits depend on earlier calls: caches, counters, adaptation at test time",
    "gradient-mode": "logits depend on whether gradients are asked for",
    "batch": "logits depend on the batch's size, on the place in it or on its other images",
    "lookup": "images are answered from what is stored: a table of them, or the nearest of stored ones",
    "randomness": "the same image gives different logits (AutoAttack's check; Athalye et al. 2018)",
    "not-finite": "logits or gradients that are no numbers, which attacks take for zero",
    "inner-optimisation": "the forward pass computes gradients itself (AutoAttack's check; Tramèr et "
    "al. 2020)",
    "saturation": "logits or activations at their limits: no gradient (Carlini and Wagner 2017)",
    "discrete-output": "votes or decisions in place of logits (Athalye et al. 2018)",
    "probabilities": "the output looks like probabilities (AutoAttack's check)",
    "quantisation": "tiny changes of the image change nothing, and no gradient passes (Athalye et al. 2018)",
    "gradients": "zero, absent, blocked or vanishing gradients (AutoAttack's check; Pintor et al. 2022, I1)",
    "backward": "the loss is smooth, but its gradient is another function's (custom backward, detached parts)",
    "gradient-agreement": "the loss is shattered: at no scale does it do what its gradient says (Athalye et al. "
    "2018; Pintor et al. 2022, I2)",
}
LOSING = {
    *("not-finite", "lookup", "inner-optimisation", "saturation", "discrete-output", "quantisation"),
    *("gradients", "backward", "gradient-agreement"),
}
SYMPTOMS = {
    "one-step": "one step fools more than many (Carlini et al. 2019; Athalye et al. 2018)",
    "black-box": "Square Attack fools what gradients could not (Athalye et al. 2018; AutoAttack's check)",
    "transfer": "images made on a surrogate fool what gradients could not (Athalye et al. 2018; Pintor "
    "et al., I5)",
    "blind": "an attack that ignores the preprocessor beats the end-to-end one (Tramèr et al. 2020)",
    "eps": "robust accuracy does not fall with eps, or not to chance at eps 0.5 (Carlini et al. 2019; "
    "Pintor I6)",
    "steps": "a longer attack fools examples that the evaluation left standing (Carlini et al. 2019; "
    "Pintor I4)",
    "attack-output": "an attack left the threat set or returned no numbers",
    "too-few": "too few images to look: the symptoms above could not have shown",
    "selection": "the examples look chosen: copies, missing classes, or no near misses (Carlini et al. 2019)",
}
CHECKS = {**MECHANISMS, **SYMPTOMS}


def failed(findings: Sequence[Finding]) -> list[Finding]:
    """Those that say that the figure is not to be trusted: mechanisms before symptoms, what weighs less behind."""
    order = list(CHECKS)

    def rank(finding: Finding) -> tuple[bool, bool, int]:
        aside = bool(finding.evidence.get("aside"))
        return finding.check in SYMPTOMS, aside, order.index(finding.check)

    return sorted((f for f in findings if f.verdict == "fail"), key=rank)


def weighed(findings: Sequence[Finding]) -> list[Finding]:
    """``findings`` with the mark ``aside`` on mechanisms beside which another one makes the figure wrong.

    What moves the logits by little does not hide what loses the gradient; a softmax at the end loses it less than a
    rounding before it; and logits that a decision filled up are large by that.
    """
    named = {f.check for f in findings if f.verdict == "fail" and not f.evidence.get("slight")}

    def weigh(finding: Finding) -> Finding:
        heavier = {"saturation": {"discrete-output"}, "probabilities": {"quantisation"}}.get(
            finding.check, set()
        )
        if finding.evidence.get("seeded"):  # where a search starts weighs less than that it searches
            heavier = {"inner-optimisation"}
        if finding.evidence.get("slight"):
            heavier = LOSING
        aside = finding.verdict == "fail" and bool(heavier & named)
        return replace(finding, evidence={**finding.evidence, "aside": True}) if aside else finding

    return [weigh(finding) for finding in findings]


def trusted(findings: Sequence[Finding]) -> bool:
    return not failed(findings)


def audit_details(findings: Sequence[Finding]) -> dict[str, Any]:
    """What goes under ``details["audit"]`` of a result."""
    return {
        "trusted": trusted(findings),
        "failed": [finding.check for finding in failed(findings)],
        "findings": [asdict(finding) for finding in findings],
    }
