"""The audit: signs that a robust accuracy is not to be trusted, each with its cause and a remedy.

A sign proves nothing by itself, and a model without one may still be broken by an attack made for it; but
nearly every defence that was broken after publication showed one (Athalye et al. 2018; Tramèr et al. 2020).
Sources: AutoAttack's checks and flags document (Croce and Hein, ICML 2020); Carlini et al., "On evaluating
adversarial robustness", 2019; Pintor et al., "Indicators of attack failure", NeurIPS 2022.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from heirloom.data.labelled import ImagesAndLabels, pair_of
from heirloom.data.unit_images import Images, check_all
from heirloom.evaluation.apart import fresh_copy
from heirloom.evaluation.askable import alike, askable, inside
from heirloom.evaluation.audit import (
    batches,
    drawing,
    forward,
    modes,
    numbers,
    state,
    stored,
    symptoms,
    training_mode,
)
from heirloom.evaluation.audit.findings import (
    CHECKS,
    MECHANISMS,
    SYMPTOMS,
    Finding,
    audit_details,
    failed,
    trusted,
    weighed,
)
from heirloom.evaluation.audit.gradients import gradients
from heirloom.evaluation.audit.ledger import Ledger
from heirloom.evaluation.audit.sample import attack_output, sample_of, selection, too_few
from heirloom.evaluation.audit.subject import Subject
from heirloom.evaluation.chunks import seeded
from heirloom.evaluation.one_mode import with_modes
from heirloom.evaluation.verdicts import Evaluation, check_evaluable
from heirloom.runtime import distributed
from heirloom.runtime.devices import torch_device
from heirloom.runtime.errors import renamed, require
from heirloom.runtime.kinds import kinds_checked
from heirloom.runtime.randomness import seed_of
from heirloom.threat import Threat

__all__ = [
    "CHECKS",
    "MECHANISMS",
    "SYMPTOMS",
    "Finding",
    "audit",
    "audit_details",
    "failed",
    "fresh_copy",
    "trusted",
]


@kinds_checked("data")
def audit(
    model: nn.Module,
    data: ImagesAndLabels,
    threat: Threat,
    evaluation: Evaluation | None = None,
    *,
    examples: int = 64,
    seed: int = 0,
    device: str | torch.device = "cpu",
    batch_size: int = 64,
    surrogate: nn.Module | None = None,
    without_preprocessor: nn.Module | None = None,
    pristine: nn.Module | None = None,
    folder: str | Path | None = None,
) -> list[Finding]:
    """Look for every sign in :data:`CHECKS` on a random sample of ``examples`` images.

    Args:
        model: [0, 1] pixels (N, C, H, W) -> logits (N, classes), as it was evaluated.
        data: the images (N, C, H, W) in [0, 1] and labels (N,) of the evaluation, or :class:`LabelledImages`.
        evaluation: of the same data; without it the checks of its attacks are skipped or use their own.
        batch_size: images that go through the model at once.
        surrogate: another classifier of the same data, for the check of transfer.
        without_preprocessor: the classifier without its preprocessor; found by itself in a
            :class:`heirloom.models.defended.Defended`.
        pristine: a deep copy of ``model`` taken before it was ever called (:func:`fresh_copy`): what earlier calls
            have left in the model is seen beside it. Without it the copy is taken now.
        folder: keeps each finished check, and the next audit into it goes on from there (the caller sees to it that it
            is the same one).

    Returns:
        one finding for each check, in the order of :data:`CHECKS` (:func:`failed` has the likeliest cause first).
        Cost: at most about 700 forward and 500 backward passes for each sampled image (one that nothing fools), some
        100 where attacks succeed; counted in the evidence of the last finding, ``selection``.
    """
    images, labels = pair_of(data)
    check_all(images)
    for name, value in (("examples", examples), ("batch_size", batch_size)):
        require(value >= 1, name, "at least 1", value)
    require(len(images) == len(labels), "labels", f"as many as images ({len(images)})", len(labels))
    place = distributed.local_device(torch_device(str(device)))
    index = sample_of(len(images), examples, seed)
    given = model = with_modes(model)
    was_training, model = given.training, model.to(place).eval()
    if pristine is not None:
        is_copy = type(inside(pristine)) is type(inside(given))
        require(is_copy, "pristine", "a deep copy of model", type(pristine).__name__)
    pristine = fresh_copy(model) if pristine is None else pristine.to(place).eval()
    try:
        model = askable(model, images[:3], place).eval()
        others = {"surrogate": surrogate, "without_preprocessor": without_preprocessor}
        for name, judged in {"model": model, **others}.items():
            if judged is not None:
                with renamed(**{"model output": f"output of {name}"}):
                    check_evaluable(judged, (images[index], labels[index]), place)
        with seeded(place, seed_of(seed, "audit")):
            subject = Subject(
                model,
                images[index].to(place),
                labels[index].to(place),
                index,
                threat=threat,
                seed=seed,
                batch_size=batch_size,
                pristine=alike(pristine, model),
            )
            subject.labels, subject.batch = labels, evaluation.batch if evaluation else batch_size
            ledger = Ledger(None if folder is None else Path(folder), subject)
            findings = _findings(ledger, images, labels, evaluation, surrogate, without_preprocessor)
    finally:
        given.train(was_training)
    cost = {"examples": len(index), "forward": subject.model.forwards, "backward": subject.model.backwards}
    findings[-1].evidence["cost"] = cost  # no seconds: the same audit has the same findings
    return findings


def _findings(
    ledger: Ledger,
    images: Images,
    labels: Tensor,
    evaluation: Evaluation | None,
    surrogate: nn.Module | None,
    without: nn.Module | None,
) -> list[Finding]:
    subject, check = ledger.subject, ledger.check
    standing = None
    if evaluation is not None:
        last = list(evaluation.correct.values())[-1]
        standing = last[subject.index].to(subject.x.device)
    seen = check("eval-mode", lambda: training_mode.eval_mode(subject))
    subject.mend = training_mode.mended_by(seen[0])
    seen += [
        *check("gradient-mode", lambda: modes.gradient_mode(subject)),
        *check("batch", lambda: batches.batch(subject)),
        *check("lookup", lambda: stored.lookup(subject)),
        *check("randomness", lambda: drawing.randomness(subject)),
        *check("inner-optimisation", lambda: forward.inner_optimisation(subject)),
        *(votes := check("discrete-output", lambda: forward.discrete_output(subject))),
        *check("probabilities", lambda: forward.probabilities(subject, votes[0])),
    ]
    told = ("eval-mode", *subject.hidden)
    subject.hidden += [f.check for f in failed(seen) if f.check not in told and not f.evidence.get("slight")]
    margins = None if evaluation is None else evaluation.margin
    without = _without_preprocessor(subject.model.model) if without is None else without
    for name, make in {
        "not-finite": lambda: numbers.not_finite(subject),
        "gradients": lambda: gradients(subject),
        "one-step": lambda: symptoms.one_step(subject),
        "black-box": lambda: symptoms.black_box(subject, evaluation),
        "transfer": lambda: symptoms.transfer(subject, surrogate),
        "blind": lambda: symptoms.blind(subject, without),
        "eps": lambda: symptoms.eps(subject),
        "steps": lambda: symptoms.steps(subject, standing),
        "attack-output": lambda: attack_output(evaluation),
        "too-few": lambda: too_few(len(subject.x), int(subject.right.sum())),
        # after hundreds of calls: counters have had their time
        "state": lambda: state.state(subject, evaluation),
        "selection": lambda: selection(images, labels, subject.logits.shape[1], margins),
    }.items():
        seen += check(name, make)  # type: ignore[arg-type]
    named = failed(seen)
    seen = [forward.searching(subject, f, named) if f.check == "inner-optimisation" else f for f in seen]
    return sorted(weighed(seen), key=lambda finding: list(CHECKS).index(finding.check))


def _without_preprocessor(model: nn.Module) -> nn.Module | None:
    """Encoder and head of a defended model (None where the preprocessor is the identity)."""
    from heirloom.models.defended import Defended

    if not isinstance(model, Defended) or isinstance(model.preprocessor, nn.Identity):
        return None
    return nn.Sequential(model.encoder, model.head).eval()
