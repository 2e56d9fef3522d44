"""Symptoms of a wrong figure: attacks that should be weaker do better, or more effort still helps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import cross_entropy, margin
from heirloom.attacks.square import square
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import Subject, beats
from heirloom.evaluation.verdicts import Evaluation
from heirloom.threat import Threat

QUERIES = 200
SQUARE_MAY = 0.01  # of all examples; AutoAttack warns at 0.002, which two examples in a thousand exceed
MASKED = (
    "The white-box attacks do not see what is there: the gradient is masked, or their settings are too weak."
)
ADAPT = (
    "Find what masks the gradient (see the mechanisms above) and attack around it: BPDA, EOT, another loss; "
    "report the worst case of all attacks."
)


def one_step(subject: Subject) -> Finding:
    only = subject.one_step & ~subject.iterative
    evidence = _counts(subject, fgsm=subject.one_step, pgd_20=subject.iterative, fgsm_only=only)
    return _compared(
        "one-step",
        only,
        subject,
        evidence,
        f"One step fools {int(only.sum())} images that 20 steps do not. {MASKED}",
    )


def black_box(subject: Subject, evaluation: Evaluation | None) -> Finding:
    standing = subject.right & ~subject.white_box
    generator = subject.generator("square")
    only = subject.fools(
        lambda x, y: square(subject.model, x, y, subject.threat, queries=QUERIES, generator=generator),
        standing,
    )
    evidence = _counts(subject, white_box=subject.white_box, black_box_only=only) | {"queries": QUERIES}
    improved, total = square_improves(evaluation)
    if evaluation is not None:
        evidence["fooled_by_square_in_evaluation"] = improved
    if improved > max(2, SQUARE_MAY * total):
        cause = f"Square Attack fools {improved} of {total} images that the white-box attacks before it could not."
        return Finding("black-box", "fail", f"{cause} {MASKED}", ADAPT, evidence)
    cause = (
        f"Square Attack with {QUERIES} queries fools {int(only.sum())} images that PGD could not. {MASKED}"
    )
    return _compared("black-box", only, subject, evidence, cause)


def square_improves(evaluation: Evaluation | None) -> tuple[int, int]:
    """(images that the evaluation's Square Attack fooled after white-box attacks on margins, images)."""
    if evaluation is None:
        return 0, 0
    columns = list(evaluation.correct.items())
    for (before, left), (name, after) in pairwise(columns):
        if name.startswith("square") and before in (
            "cascade",
            "strong",
            "apgd-t",
            "apgd-dlr",
            "apgd-margin",
            "fab",
            "fab-t",
        ):
            return int((left & ~after).sum()), len(after)
    return 0, len(columns[0][1])


def transfer(subject: Subject, surrogate: nn.Module | None) -> Finding:
    if surrogate is None:
        return Finding("transfer", "skipped", cause="No surrogate model was given.")
    only = subject.pgd(margin, 40, among=subject.right & ~subject.white_box, model=surrogate)
    evidence = _counts(subject, white_box=subject.white_box, transfer_only=only)
    cause = f"Images made on the surrogate fool {int(only.sum())} that PGD on the model could not. {MASKED}"
    return _compared("transfer", only, subject, evidence, cause)


def blind(subject: Subject, without: nn.Module | None) -> Finding:
    if without is None:
        return Finding("blind", "skipped", cause="The model has no preprocessor that could be left out.")
    only = subject.pgd(margin, 40, among=subject.right & ~subject.white_box, model=without)
    evidence = _counts(subject, white_box=subject.white_box, blind_only=only)
    cause = (
        f"An attack that ignores the preprocessor fools {int(only.sum())} images that the end-to-end "
        "attack could not: the preprocessor hides the gradient rather than removing the perturbation."
    )
    return _compared("blind", only, subject, evidence, cause)


def _compared(check: str, only: Tensor, subject: Subject, evidence: dict[str, Any], cause: str) -> Finding:
    if not beats(int(only.sum()), int(subject.right.sum())):
        return Finding(check, "pass", evidence=evidence)
    return Finding(check, "fail", cause, ADAPT, evidence)


def eps(subject: Subject) -> Finding:
    """Robust accuracy at eps, 2 eps, and where every image can be made uniformly grey."""
    right = int(subject.right.sum())
    if not right:
        return Finding("eps", "skipped", cause="No image of the sample is classified correctly.")
    threat = subject.threat
    grey = Threat(threat.norm, _to_grey(subject.x, threat.norm))
    double = Threat(threat.norm, min(2 * threat.eps, grey.eps))
    at_double = subject.pgd(margin, 20, threat=double)
    at_grey = subject.pgd(margin, 40, threat=grey)
    standing = [1 - int(found.sum()) / right for found in (subject.white_box, at_double, at_grey)]
    counts = torch.bincount(subject.y[subject.right])
    chance = float(counts.max()) / right
    evidence = {"eps": threat.eps, "standing": standing[0], "standing_at_2_eps": standing[1]}
    evidence |= {"grey_eps": grey.eps, "standing_at_grey_eps": standing[2], "chance": chance}
    lost = int((subject.white_box & ~at_double & ~at_grey).sum())
    causes = []
    if beats(round((standing[2] - chance) * right), right):
        causes.append(
            f"At eps {grey.eps:.3g} every image can be made uniformly grey, so at most "
            f"{100 * chance:.0f} % can rightly stand, but {100 * standing[2]:.0f} % do: the attack "
            "fails, not the model."
        )
    if beats(round((standing[1] - standing[0]) * right), right) or beats(lost, right):
        causes.append(
            f"Robust accuracy rises with eps: {100 * standing[0]:.0f} % at {threat.eps:.3g}, "
            f"{100 * standing[1]:.0f} % at {double.eps:.3g}."
        )
    if not causes:
        return Finding("eps", "pass", evidence=evidence)
    return Finding("eps", "fail", " ".join(causes), ADAPT, evidence)


def _to_grey(x: Tensor, norm: str) -> float:
    """The eps at which every image of [0, 1] pixels reaches uniform grey 0.5."""
    pixels = x[0].numel()
    return 0.5 * {"Linf": 1.0, "L2": pixels**0.5, "L1": float(pixels)}[norm]


def steps(subject: Subject, standing: Tensor | None) -> Finding:
    """``standing``: (K,) bool, the sampled examples that the evaluation's attacks left standing."""
    if standing is None:
        return Finding("steps", "skipped", cause="No evaluation was given.")
    standing = standing & subject.right
    more = subject.pgd(margin, 100, among=standing, restarts=2)
    more |= subject.pgd(cross_entropy, 100, among=standing & ~more)
    evidence = {"standing": int(standing.sum()), "fooled_by_100_steps": int(more.sum())}
    if not beats(int(more.sum()), int(subject.right.sum())):
        return Finding("steps", "pass", evidence=evidence)
    return Finding(
        "steps",
        "fail",
        cause=f"PGD with 100 steps and restarts fools {int(more.sum())} of {int(standing.sum())} images that "
        "the evaluation's attacks left standing: those have not converged, or stopped at one loss.",
        remedy="Use more steps, restarts and losses (`cascade` or `autoattack`), until more effort "
        "changes nothing.",
        evidence=evidence,
    )


def _counts(subject: Subject, **found: Tensor) -> dict[str, Any]:
    return {"attacked": int(subject.right.sum())} | {name: int(value.sum()) for name, value in found.items()}
