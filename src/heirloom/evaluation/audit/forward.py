"""Mechanisms seen in forward passes alone: randomness, mode, inner optimisation, probabilities."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.probe import Probe

REPEATS = 4
RANDOM_ABOVE = 1e-4  # of the logits' spread; sums in another order differ by about 1e-6
BATCH_ABOVE = 2e-2  # in bfloat16 another batch size alone makes 1e-2


def randomness(probe: Probe) -> Finding:
    passes = torch.stack([probe.predict(probe.x) for _ in range(REPEATS)])
    moved = (passes.amax(0) - passes.amin(0)).amax(1) / probe.spread
    changed = (passes.argmax(2) != passes[0].argmax(1)).any(0)
    probe.random = bool((moved > RANDOM_ABOVE).any())
    evidence = {
        "passes": REPEATS,
        "largest_change": float(moved.max()),
        "predictions_changed": float(changed.double().mean()),
    }
    if not probe.random:
        return Finding("randomness", "pass", evidence=evidence)
    return Finding(
        "randomness",
        "fail",
        cause=_random_cause(probe, passes),
        remedy="Make the forward pass deterministic (pass noise and masks as fixed inputs), or attack the "
        "expectation over the randomness (EOT) and score the mean over many fresh draws.",
        evidence=evidence,
    )


def _random_cause(probe: Probe, passes: Tensor) -> str:
    names = {type(module).__name__ for module in probe.model.modules()}
    if any(name.startswith("ViTMAE") for name in names):
        return (
            "The forward pass is random: Transformers' ViT-MAE masks and shuffles patches at random in eval "
            "mode too unless `noise` is passed."
        )
    unit = torch.nn.functional.normalize(passes, dim=2)
    if bool(((unit - unit[0]).abs().amax(2) < 1e-4).all()):
        return "The forward pass is random: it rescales the logits of an image by a random factor."
    return "The forward pass is random: the same images give different logits at every call."


def eval_mode(probe: Probe) -> Finding:
    training = [name.removeprefix("model.") or "the model" for name, m in _leaves(probe) if m.training]
    before = {name: value.clone() for name, value in probe.model.state_dict().items()}
    few = probe.x[: min(8, len(probe.x))]
    together = probe.predict(few)
    evidence: dict[str, Any] = {"modules_in_train_mode": training[:5]}
    changed = [
        name.removeprefix("model.")
        for name, value in probe.model.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    evidence["state_changed"] = changed[:5]
    causes = []
    if training:
        causes.append(f"{len(training)} modules stay in train mode after model.eval(), {training[0]} first.")
    if changed:
        causes.append(f"A forward pass changes the model's state ({changed[0]}).")
    if not probe.random and len(few) > 1:
        # pairs, not single images: BatchNorm in train mode cannot take one
        pairs = torch.cat([probe.predict(pair) for pair in few.split(2)])
        moved = ((pairs - together).abs().amax(1) / probe.spread[: len(few)]).max()
        evidence["change_with_batch"] = float(moved)
        if moved > BATCH_ABOVE:
            causes.append(
                "The logits of an image depend on the other images of its batch (batch statistics)."
            )
    if not causes:
        return Finding("eval-mode", "pass", evidence=evidence)
    return Finding(
        "eval-mode",
        "fail",
        cause=" ".join(causes),
        remedy="Evaluate with fixed statistics: model.eval() must reach every module, and a forward "
        "pass must leave the model as it was.",
        evidence=evidence,
    )


def _leaves(probe: Probe) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, module in probe.model.named_modules():
        if not list(module.children()):
            yield name, module


def inner_optimisation(probe: Probe) -> Finding:
    with _gradient_calls() as calls:
        probe.predict(probe.x[:2])
    if not calls:
        return Finding("inner-optimisation", "pass", evidence={"gradient_calls": 0})
    return Finding(
        "inner-optimisation",
        "fail",
        cause=f"The forward pass computes gradients itself ({len(calls)} times for one call): it "
        "optimises its input or the model, and an attack differentiates through none of that.",
        remedy="Attack adaptively: transfer from the classifier without the inner optimisation, unroll it "
        "(create_graph=True), or approximate it by the identity (BPDA); report the worst case of all.",
        evidence={"gradient_calls": len(calls)},
    )


@contextmanager
def _gradient_calls() -> Iterator[list[str]]:
    """Collects calls of torch's gradient functions, whatever names they were imported under."""
    watched = {torch.autograd.grad.__code__: "grad", torch.autograd.backward.__code__: "backward"}
    calls: list[str] = []
    previous = sys.getprofile()

    def watch(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in watched:
            calls.append(watched[frame.f_code])

    sys.setprofile(watch)
    try:
        yield calls
    finally:
        sys.setprofile(previous)


def probabilities(probe: Probe) -> Finding:
    logits = probe.logits
    lowest, highest = float(logits.min()), float(logits.max())
    off = float((logits.sum(1) - 1).abs().max())
    evidence = {"lowest": lowest, "highest": highest, "sum_minus_1": off}
    # bfloat16 probabilities of 1000 classes sum to 1 within about 1e-2
    if not (lowest >= 0 and highest <= 1 + 1e-3 and off < 1e-2):
        return Finding("probabilities", "pass", evidence=evidence)
    return Finding(
        "probabilities",
        "fail",
        cause="The output is a probability distribution: losses apply a second softmax, and where a "
        "probability has reached 0 or 1 its gradient is lost to rounding.",
        remedy="Return the logits, before the softmax.",
        evidence=evidence,
    )
