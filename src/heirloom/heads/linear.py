"""A linear head on features computed once; :mod:`heirloom.heads.adversarial` goes on from it under attack."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.losses import check_labels
from heirloom.data.batches import batches
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import Pixels, to_unit_range
from heirloom.models.memory import fitting
from heirloom.runtime import distributed
from heirloom.runtime.errors import out_of_memory, require
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.kinds import check_kinds
from heirloom.runtime.randomness import generator_of
from heirloom.training.schedules import divided_at

PART = 1024  # images whose features are kept together
HEAD_SCHEDULE = divided_at([30 / 150, 70 / 150, 100 / 150])  # of the training done (CRoPD, Table 7)


@dataclass(frozen=True)
class HeadSettings:
    """CRoPD's Table 7: AdamW, the learning rate times 0.1 after epochs 30, 70 and 100 of 150.

    Attributes:
        weight_decay: decoupled. More of it shortens the weights, and a robust encoder's head then holds more
            (docs/what-a-preprocessor-can-give.md).
        adversarial_step: of the PGD-10 that makes the adversarial half of each batch (Appendix A: 0.007).
    """

    epochs: int = 150
    batch_size: int = 64
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    seed: int = 0
    adversarial_step: float = 0.007
    adversarial_steps: int = 10

    def __post_init__(self) -> None:
        check_kinds(self)
        require(self.epochs >= 1, "head_epochs", "at least 1", self.epochs)
        rate = self.learning_rate
        require(0 < rate < float("inf"), "learning_rate", "above 0", rate)
        most = 1 / rate  # a step takes away this times the rate of each weight: all at most
        allowed = f"between 0 and {most:g}"
        require(0 <= self.weight_decay <= most, "head_weight_decay", allowed, self.weight_decay)

    def rate(self, epoch: int) -> float:
        return self.learning_rate * HEAD_SCHEDULE((epoch + 1) / self.epochs)


@torch.no_grad()
def extract_features(
    features: Callable[[Tensor], Tensor],
    data: LabelledImages,
    *,
    batch_size: int | None = None,
    device: str = "cpu",
    kept: Path | None = None,
) -> Tensor:
    """Features (N, D) of all images, on the CPU: computed once, since all before the head is frozen.

    Under ``torchrun`` each process computes every n-th part, and all get all.

    Args:
        batch_size: images at once; None: as the memory has room for. Half, where it runs out all the same.
        kept: a folder of this one use: finished parts stay there, and an interrupted extraction goes on.
    """
    size = batch_size or fitting(features, data.select(torch.arange(min(2, len(data)))).images.to(device))
    mine = []
    for number, rows in distributed.dealt(torch.arange(len(data)).split(PART)):
        place = kept / f"{number:05d}.safetensors" if kept is not None else None
        if place is not None and place.exists():
            mine.append(read_tensors(place)[0]["features"])
            continue
        found, size = _features_of(features, data.pixels, rows, size, device)
        mine.append(found)
        if place is not None and (distributed.rank() == 0 or not distributed.are_in_step()):
            write_tensors(place, {"features": mine[-1]})
    return torch.cat(distributed.gather(mine))


def _features_of(
    features: Callable[[Tensor], Tensor], pixels: Pixels, rows: Tensor, size: int, device: str
) -> tuple[Tensor, int]:
    """Features of the images ``rows``, and how many of them went through together: half where memory ran out."""
    try:
        passed = [
            features(to_unit_range(part.to(device))).float().cpu()
            for part in batches(pixels, rows.split(size))
        ]
        return torch.cat(passed), size
    except RuntimeError as error:
        if size == 1 or distributed.are_in_step() or not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return _features_of(features, pixels, rows, (size + 1) // 2, device)


def train_head(
    features: Tensor,
    labels: Tensor,
    classes: int,
    settings: HeadSettings | None = None,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
) -> nn.Linear:
    """A linear head on features computed beforehand.

    Args:
        features: (N, D); they are centred and scaled for training, which is folded into the layer.
        labels: (N,) class indices below ``classes``.
        validation: features and labels; the epoch with the lowest loss on them is kept, else the last.
    """
    settings = settings or HeadSettings()
    check_labels(labels, classes)
    require(len(features) == len(labels), "labels", f"one for each of {len(features)} features", len(labels))
    # one scale for all features: a scale each would let an attacker in through those that hardly vary
    centre, scale = features.mean(0), features.var(0).mean().sqrt().clamp_min(1e-6)
    standard = (features - centre) / scale
    head = _fresh_head(features.shape[1], classes, settings.seed)
    optimizer = torch.optim.AdamW(head.parameters(), weight_decay=settings.weight_decay)
    best, lowest = None, float("inf")
    for epoch in range(settings.epochs):
        optimizer.param_groups[0]["lr"] = settings.rate(epoch)
        order = torch.randperm(len(labels), generator=generator_of(settings.seed, "head", epoch))
        for batch in order.split(settings.batch_size):
            loss = functional.cross_entropy(head(standard[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if validation is not None:
            with torch.no_grad():
                logits = head((validation[0] - centre) / scale)
                loss = functional.cross_entropy(logits, validation[1])
            if float(loss) < lowest:
                best, lowest = copy.deepcopy(head.state_dict()), float(loss)
    if best is not None:
        head.load_state_dict(best)
    return _folded(head, centre, scale)


def _fresh_head(features: int, classes: int, seed: int) -> nn.Linear:
    head: nn.Linear = nn.utils.skip_init(nn.Linear, features, classes)  # no draw from the global state
    with torch.no_grad():
        head.weight.normal_(0, 0.01, generator=generator_of(seed, "head weights"))
        head.bias.zero_()
    return head


@torch.no_grad()
def _folded(head: nn.Linear, centre: Tensor, scale: Tensor) -> nn.Linear:
    """The same function of features that are not standardised."""
    head.weight.div_(scale)
    head.bias.sub_(head.weight @ centre)
    return head.requires_grad_(False)
