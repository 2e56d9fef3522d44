"""Checks of the examples and of the attacks' outputs, which need no pass through the model."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from heirloom.data.unit_images import Images
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.verdicts import Evaluation

ENOUGH = 20  # right images: a sixth of them is more than the 2 that a symptom must exceed
COPIES_ABOVE = 0.05
NEAR = 0.1  # of the median margin
NEAR_MISSES = 8


def attack_output(evaluation: Evaluation | None) -> Finding:
    if evaluation is None:
        return Finding("attack-output", "skipped", cause="No evaluation was given.")
    total = len(next(iter(evaluation.correct.values())))
    bad = {name: count for name, count in evaluation.repaired.items() if count > 0.05 * total}
    if not bad:
        return Finding("attack-output", "pass", evidence={"repaired": dict(evaluation.repaired)})
    name = max(bad, key=lambda key: bad[key])
    return Finding(
        "attack-output",
        "fail",
        cause=f"Attack {name} returned {bad[name]} images outside the threat set or with pixels that are no "
        "numbers; the harness put them back, which weakens them.",
        remedy="Mend the attack: it must stay inside the ball and the pixel range, and finish with "
        "finite values.",
        evidence={"repaired": dict(evaluation.repaired)},
    )


def too_few(sampled: int, right: int) -> Finding:
    """Whether a symptom could have shown: it needs more than 2 images, and some that are classified rightly."""
    evidence = {"sampled": sampled, "right": right, "needed": ENOUGH}
    if right >= ENOUGH:
        return Finding("too-few", "pass", evidence=evidence)
    return Finding(
        "too-few",
        "fail",
        cause=f"Too few images to look: {right} of {sampled} sampled images are classified rightly, and a sign that "
        f"shows on one image in six would be missed with fewer than {ENOUGH}.",
        remedy="Evaluate more images (--limit), and let the audit look at more of them (--audit-examples).",
        evidence=evidence,
    )


def selection(images: Images, labels: Tensor, classes: int, margins: Tensor | None) -> Finding:
    """Over ALL examples of the evaluation: copies, missing classes, a suspicious lack of errors."""
    n = len(labels)
    copies = n - _different(images)
    present = len(labels.unique())
    expected = classes * (1 - (1 - 1 / classes) ** n)
    evidence: dict[str, object] = {"n": n, "copies": copies, "classes_present": present, "classes": classes}
    causes = []
    if copies > max(2, COPIES_ABOVE * n):
        causes.append(f"{copies} of {n} images are copies of others.")
    if present < 0.5 * expected:
        causes.append(
            f"Only {present} of {classes} classes occur, where a random choice of {n} would hold "
            f"{expected:.0f}."
        )
    if margins is not None and bool((margins < 0).all()):
        near = int((-margins < NEAR * (-margins).median()).sum())
        evidence["right_by_little"] = near
        if near >= NEAR_MISSES:
            causes.append(
                f"All {n} images are classified correctly though {near} of them only just: errors seem "
                "to have been left out."
            )
    if not causes:
        return Finding("selection", "pass", evidence=evidence)
    return Finding(
        "selection",
        "fail",
        cause=" ".join(causes),
        remedy="Evaluate a random sample of the test set, wrongly classified images included, and say "
        "how it was drawn.",
        evidence=evidence,
    )


def _different(images: Images) -> int:
    """How many of the images are no copies of others."""
    seen = {
        hashlib.sha256(image.numpy().tobytes()).digest() for part in images.split(64) for image in part.cpu()
    }
    return len(seen)


def sample_of(n: int, count: int, seed: int) -> Tensor:
    """``count`` of ``n`` indices, drawn without replacement, in order."""
    from heirloom.runtime.randomness import generator_of

    order = torch.randperm(n, generator=generator_of(seed, "audit sample"))
    return order[:count].sort().values
