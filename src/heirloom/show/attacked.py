"""One picture attacked: what changed, what the preprocessor makes of it, what is said with and without the defence.

The attack goes on after its first success, so that a stronger setting shows more and never less; its result is brought
to 8 bits inside the ball, and every figure is of that picture: what is shown and saved IS what fooled the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from heirloom.attacks.apgd import apgd
from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import margin
from heirloom.attacks.pgd import pgd
from heirloom.attacks.square import square
from heirloom.runtime.errors import reject, require
from heirloom.show.opened import Opened, Sample
from heirloom.threat import Threat

Run = Callable[..., Tensor]
ATTACKS: dict[str, Run] = {
    "PGD": lambda *given, steps, **rest: pgd(*given, steps=steps, **rest),
    "PGD on the margin": lambda *given, steps, **rest: pgd(*given, steps=steps, loss=margin, **rest),
    "APGD": lambda *given, steps, **rest: apgd(*given, steps=steps, **rest),
    "FGSM (one step)": lambda *given, steps, **rest: fgsm(*given, **rest),
    "Square (no gradients; ten queries a step)": lambda *given, steps, **rest: square(
        *given, queries=10 * steps, **rest
    ),
}
TARGETS = ("the whole, defence included", "the model without the defence")


@dataclass(frozen=True)
class Asked:
    """``eps`` in pixel units; ``whole``: the attack knows the defence (white-box), else only what stands behind it."""

    attack: str
    eps: float
    steps: int
    whole: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.attack in ATTACKS, "attack", f"one of {', '.join(ATTACKS)}", self.attack)
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        require(self.eps >= 0, "eps", "at least 0", self.eps)


@dataclass(frozen=True)
class Outcome:
    """Pixels are float32 (C, H, W) in [0, 1]; probabilities (classes,), by what was asked and of which picture.

    Attributes:
        before, after: the picture, and the adversarial one, both of values that 8 bits hold.
        change: after minus before, drawn: grey is none, black and white the largest.
        seen_before, seen_after: what the preprocessor hands to the model.
        probabilities: ``{"with": (before, after), "without": (before, after)}``, the latter where that model is there.
        reference: index of the class that the attack led away from. size: of the change, in the threat's norm.
    """

    before: Tensor
    after: Tensor
    change: Tensor
    seen_before: Tensor
    seen_after: Tensor
    probabilities: dict[str, tuple[Tensor, Tensor]]
    reference: int
    known: bool
    size: float
    threat: Threat | None


def attack_sample(opened: Opened, sample: Sample, asked: Asked) -> Outcome:
    """Attack ``sample`` once; the class that is left is its label, or what the model says of it where none is known."""
    model = opened.model
    device = next(model.parameters(), torch.empty(0)).device
    x = sample.pixels[None].to(device)
    known = sample.label in model.classes
    with torch.no_grad():
        said = int(model(x).argmax())
    reference = model.classes.index(str(sample.label)) if known else said
    threat = Threat(opened.threat.norm, asked.eps) if asked.eps > 0 else None
    x_adv = x
    if threat is not None:
        attacked = model if asked.whole else opened.bare
        if attacked is None:
            reject(
                "target", TARGETS[0], f"a frozen model that is not within reach ({model.defence['teacher']})"
            )
        y = torch.tensor([reference], device=device)
        generator = torch.Generator().manual_seed(asked.seed)
        found = ATTACKS[asked.attack](attacked, x, y, threat, steps=asked.steps, generator=generator)
        x_adv = towards_clean(found, x)
    return _outcome(opened, x, x_adv, reference, known, threat)


@torch.no_grad()
def _outcome(
    opened: Opened, x: Tensor, x_adv: Tensor, reference: int, known: bool, threat: Threat | None
) -> Outcome:
    model, delta = opened.model, x_adv - x
    order = {"Linf": float("inf"), "L2": 2.0, "L1": 1.0}[opened.threat.norm]
    told = {
        name: (part(x).softmax(1)[0].cpu(), part(x_adv).softmax(1)[0].cpu())
        for name, part in (("with", model), ("without", opened.bare))
        if part is not None
    }
    drawn = 0.5 + 0.5 * delta / delta.abs().max().clamp_min(1e-6)
    return Outcome(
        before=x[0].cpu(),
        after=x_adv[0].cpu(),
        change=drawn[0].cpu(),
        seen_before=model.preprocessor(x)[0].cpu(),
        seen_after=model.preprocessor(x_adv)[0].cpu(),
        probabilities=told,
        reference=reference,
        known=known,
        size=float(torch.linalg.vector_norm(delta, ord=order)),
        threat=threat,
    )


def towards_clean(x_adv: Tensor, x: Tensor) -> Tensor:
    """``x_adv`` with each pixel at the nearest 8-bit value on the way to ``x`` (8-bit itself): no norm grows."""
    levels, clean = x_adv * 255, (x * 255).round()
    steps = (levels - clean).abs().add(1e-4).floor() * (levels - clean).sign()
    return ((clean + steps) / 255).clamp(0, 1)


def verdict(opened: Opened, outcome: Outcome) -> str:
    """What happened, in a few sentences."""
    classes = opened.model.classes
    lines = [_said(classes, outcome, "with", "With the defence")]
    if opened.bare is None:
        lines.append(
            f"The frozen model that it stands in for is not within reach: {opened.model.defence['teacher']}."
        )
    else:
        lines.append(_said(classes, outcome, "without", "Without it"))
    if outcome.threat is not None:
        lines.append(
            f"The change has {opened.threat.norm} size {outcome.size:.4g} of at most {outcome.threat.eps:.4g}."
        )
        if outcome.size == 0:
            lines.append(
                "An 8-bit picture holds no smaller change than 1/255 a pixel: this one was not changed."
            )
    if not outcome.known:
        lines.append(
            "The true class is not known: the attack leads away from what the model says of the picture."
        )
    if opened.bare_head != "its own":
        lines.append("The head behind the bare model is the defence's: one of its own might do better.")
    return " ".join(lines)


def _said(classes: tuple[str, ...], outcome: Outcome, key: str, who: str) -> str:
    before, after = outcome.probabilities[key]
    first, then = int(before.argmax()), int(after.argmax())
    names = [
        f"{classes[index]} ({100 * float(p[index]):.0f} %)" for p, index in ((before, first), (after, then))
    ]
    if outcome.known and first != outcome.reference:
        return f"{who} the picture was taken for {names[0]} before any attack, which is wrong."
    if first == then:
        return f"{who} it holds: {names[1]}, before {100 * float(before[first]):.0f} %."
    return f"{who} it is fooled: {names[0]} became {names[1]}."
