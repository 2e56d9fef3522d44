"""Is the model the same whoever asks: in each gradient mode, for an attack, and wherever the pixels lie in memory?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.pgd import pgd
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import SLIGHT, Subject
from heirloom.evaluation.copies import Mode, change, fixed, largest, logits

MODES: tuple[Mode, ...] = ("grad", "input", "inference")
WHEN = {
    "grad": "gradients are enabled",
    "input": "the input requires a gradient",
    "inference": "inference mode is on",
    "attack": "an attack asks (it looks at who calls it)",
    "memory": "the same pixels lie elsewhere in memory",
}


def gradient_mode(subject: Subject) -> Finding:
    """The same images in each gradient mode, asked by an attack, and lying elsewhere in memory."""
    first = logits(subject.fresh(), subject.x)
    moved: dict[str, float] = {mode: _in_mode(subject, first, mode) for mode in MODES}
    if not subject.random:  # draws come in another order
        moved["attack"] = _asked_by_an_attack(subject)
        moved["memory"] = _elsewhere(subject, first)
    if max(moved.values()) <= subject.shape_threshold or subject.unfixable:
        return Finding("gradient-mode", "pass", evidence=dict(moved))
    which = next(words for mode, words in WHEN.items() if moved.get(mode, 0) > subject.shape_threshold)
    return Finding(
        "gradient-mode",
        "fail",
        cause=f"The model answers differently when {which}: an attack that asks for gradients is shown another "
        "function than the one that is judged.",
        remedy="Remove what asks for the gradient mode, the caller or the memory (requires_grad, is_grad_enabled, the "
        "call stack, strides); meanwhile let the attack see what is judged: transfer, Square Attack, or the same "
        "branch for all.",
        evidence={**moved, "slight": max(moved.values()) <= SLIGHT},
    )


def _in_mode(subject: Subject, first: Tensor, mode: Mode) -> float:
    try:
        return largest(change(first, logits(subject.fresh(), subject.x, mode), subject.spread))
    except RuntimeError:
        if mode != "inference":
            raise
        return 0.0  # a forward pass that computes gradients itself cannot in this mode


class _First(nn.Module):
    """``model``, keeping the first question and its answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked = model, list[tuple[Tensor, Tensor]]()

    def forward(self, x: Tensor) -> Tensor:
        given = x.detach().clone()
        answer: Tensor = self.model(x)
        self.asked.append((given, answer.detach().float()))
        return answer


def _asked_by_an_attack(subject: Subject) -> float:
    """How far what the attack is told lies from what the same question gives outside of it."""
    asked = _First(subject.fresh())
    with fixed(subject.x.device):
        pgd(asked, subject.x, subject.y, subject.threat, steps=1, generator=subject.generator("asked"))
    given, told = asked.asked[0]
    return largest(change(logits(subject.fresh(), given, "input"), told, subject.spread))


@torch.no_grad()
def _elsewhere(subject: Subject, first: Tensor) -> float:
    """The same pixels as a part of a longer tensor, and with other strides; 0 where the model refuses them.

    What draws like its input (``randn_like``) fills other strides in another order: that is asked of no such model.
    """
    x, moved = subject.x, 0.0
    turned = [] if subject.trace.random else [x.transpose(2, 3).contiguous().transpose(2, 3)]
    for placed in (torch.cat([x, x])[len(x) :], *turned):
        try:
            with fixed(x.device):
                told = subject.fresh()(placed).float()
        except RuntimeError:  # .view() of other strides
            continue
        moved = max(moved, largest(change(first, told, subject.spread)))
    return moved
