"""Modules in train mode whose mode matters, and BatchNorm that works as in train mode whatever its mode says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import RANDOM_ABOVE, Subject
from heirloom.evaluation.copies import change, largest, logits, tensors_of
from heirloom.evaluation.eval_mode import forced, forced_throughout, is_training


def eval_mode(subject: Subject) -> Finding:
    """Modules in train mode whose mode matters: copies forced into eval mode answer differently."""
    throughout = forced_throughout if subject.trace.out_of_reach else forced
    plain, other = subject.fresh(), throughout(subject.fresh())
    training = [name or "the model" for name, module in plain.named_modules() if is_training(module)]
    beyond = list(subject.trace.out_of_reach)
    before = {name: value.clone() for name, value in tensors_of(plain).items()}
    few = subject.x[: max(8, len(subject.x) // 2)]
    difference = change(logits(plain, few), logits(other, few), subject.spread[: len(few)])
    changed = [name for name, value in tensors_of(plain).items() if not _equal(value, before[name])]
    kept = [name for name, value in tensors_of(other).items() if not _equal(value, before[name])]
    moved = largest(difference)
    evidence = {"modules_in_train_mode": training[:5], "state_changed": changed[:5], "change": moved}
    evidence["out_of_reach"] = beyond[:5]
    if not (training or beyond) or not (moved > RANDOM_ABOVE or set(changed) - set(kept)):
        return _batch_statistics(subject, evidence)
    evidence["mended"] = True  # what is asked below is asked of models in eval mode: only other causes remain
    state = f" A forward pass changes the model's state ({changed[0]})." if changed else ""
    leaf = next((name for name, m in plain.named_modules() if is_training(m) and not list(m.children())), "")
    return Finding(
        "eval-mode",
        "fail",
        cause=f"{_in_train_mode(training, leaf, beyond)}, and the logits are others than in eval mode: batch "
        f"statistics or dropout are at work.{state}",
        remedy="Evaluate with fixed statistics: model.eval() must reach every module (an attribute, "
        "nn.ModuleList), and a forward pass must leave the model as it was.",
        evidence=evidence,
    )


def _in_train_mode(training: list[str], leaf: str, beyond: list[str]) -> str:
    if training:
        return f"{len(training)} modules stay in train mode after model.eval() ({leaf or training[0]})"
    last = next((name for name in beyond if "Dropout" in name or "Norm" in name), beyond[-1])
    return (
        f"model.eval() does not reach all modules: some that the forward pass calls ({last}) are not the model's own "
        "but lie in a list, a closure or a global, or are made at each call, and are in train mode"
    )


def mended_by(finding: Finding) -> Callable[[nn.Module], nn.Module]:
    """What undoes that modules stay in train mode, where ``finding`` (of :func:`eval_mode`) says so."""
    if not finding.evidence.get("mended"):
        return lambda model: model
    return forced_throughout if finding.evidence.get("out_of_reach") else forced


def _batch_statistics(subject: Subject, evidence: dict[str, Any]) -> Finding:
    """BatchNorm that normalises by the batch it is shown although every module says that it is in eval mode."""
    others = subject.x.clone()
    others[1::2] = 1 - subject.x[1::2]
    seen = subject.trace.batch_statistics
    one, two = (logits(subject.fresh(), x) for x in (subject.x, others)) if seen else (None, None)
    if one is None or two is None or subject.unfixable:
        return Finding("eval-mode", "pass", evidence=evidence)
    evidence["change"] = largest(change(one, two, subject.spread)[::2])
    if evidence["change"] <= subject.shape_threshold:
        return Finding("eval-mode", "pass", evidence=evidence)
    return Finding(
        "eval-mode",
        "fail",
        cause=f"BatchNorm works as in train mode although the model is in eval mode ({seen} calls normalise by the "
        "statistics of the batch): an image's logits depend on the other images in the batch.",
        remedy="Normalise by statistics that were fixed in training (track_running_stats, training=False in "
        "batch_norm, no switch of the mode in the forward pass); meanwhile attack and judge the same batches.",
        evidence=evidence,
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())
