"""Per-example verdicts: the worst case over all attacks run. The harness trusts no attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import check_labels, misclassified
from heirloom.attacks.named import Attack, named_attack
from heirloom.errors import require
from heirloom.evaluation.statistics import proportion
from heirloom.results import Proportion
from heirloom.threat import Threat, check_images

Report = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Evaluation:
    """Verdicts of one model under one threat.

    ``correct["clean"]`` and ``correct[attack]`` are boolean (N,): right on the clean image, and still right
    after that attack AND all before it, so the columns can only fall from left to right. ``x_adv``
    (N, C, H, W) holds each example's adversarial image: the first that fooled it, else the clean one.
    """

    threat: Threat
    correct: dict[str, Tensor]
    x_adv: Tensor = field(repr=False)

    def accuracy(self, column: str) -> Proportion:
        return proportion(self.correct[column])

    def row(self) -> dict[str, Proportion]:
        """``{"clean": ..., attack: ...}`` as a result row has them."""
        return {column: self.accuracy(column) for column in self.correct}


def evaluate(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    threat: Threat,
    attacks: Sequence[str | Attack] = ("pgd-10", "pgd-20", "strong"),
    *,
    batch_size: int = 256,
    seed: int = 0,
    device: str | torch.device = "cpu",
    report: Report | None = None,
) -> Evaluation:
    """Measure ``model``, whole and in eval mode, against each attack in turn, survivors only.

    Args:
        model: [0, 1] pixels (N, C, H, W) -> logits (N, classes).
        data: images in [0, 1] and labels (N,).
        attacks: names (see :func:`heirloom.attacks.named.named_attack`) or :class:`Attack`, weakest first.
        report: called with (attack, examples done, examples in all, running robust accuracy).
    """
    images, labels = data
    check_images(images)
    require(len(images) == len(labels), "labels", f"as many as images ({len(images)})", len(labels))
    chosen = [named_attack(a) if isinstance(a, str) else a for a in attacks]
    was_training = model.training
    model = model.to(device).eval()
    try:
        return _evaluate(model, images, labels, threat, chosen, batch_size, seed, device, report)
    finally:
        model.train(was_training)


def _evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, attacks: Sequence[Attack],
    batch_size: int, seed: int, device: str | torch.device, report: Report | None,
) -> Evaluation:  # fmt: skip
    x_adv = images.clone()
    clean = torch.cat(
        [
            ~fooled(model, x.to(device), y.to(device)).cpu()
            for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        ]
    )
    correct, standing = {"clean": clean}, clean.clone()
    for attack in attacks:
        for part, run in enumerate(attack.parts):
            survivors = standing.nonzero().flatten()
            for number, batch in enumerate(survivors.split(batch_size)):
                generator = torch.Generator(device).manual_seed(hash_seed(seed, attack.name, part, number))
                x, y = images[batch].to(device), labels[batch].to(device)
                candidate = threat.project(run(model, x, y, threat, generator), x)
                broken = fooled(model, candidate, y).cpu()
                x_adv[batch[broken]] = candidate.cpu()[broken]
                standing[batch[broken]] = False
                if report is not None:
                    done = min((number + 1) * batch_size, len(survivors))
                    report(attack.name, done, len(survivors), float(standing.double().mean()))
        correct[attack.name] = standing.clone()
    return Evaluation(threat, correct, x_adv)


@torch.no_grad()
def fooled(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits = model(x).float()
    check_labels(y, logits.shape[1])
    return misclassified(logits, y)


def hash_seed(*parts: object) -> int:
    """A seed of 63 bits from any printable parts, the same on every machine and run."""
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1
