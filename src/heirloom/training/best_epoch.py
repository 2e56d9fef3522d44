"""The best epoch of a training run, chosen on validation images, kept in a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.data.labelled import LabelledImages
from heirloom.evaluation.verdicts import evaluate
from heirloom.runtime import distributed
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.threat import Threat


class BestEpoch:
    """Measures a classifier after each epoch and keeps the weights of the best one in ``path``.

    The score is the accuracy on the validation images: clean where ``threat`` is None, else under ``cascade``'s first
    look (PMA-5). Of equal epochs the first is kept. After an interruption the file may be ahead of the checkpoint; the
    epochs in between, trained again, score the same, so the outcome is the same.
    """

    def __init__(self, path: Path, data: LabelledImages, threat: Threat | None, *, resume: bool) -> None:
        self.path, self.data, self.threat = path, data, threat
        self.score, self.epoch = -1.0, 0
        if not resume:
            path.unlink(missing_ok=True)
        elif path.exists():
            metadata = read_tensors(path)[1]
            self.score, self.epoch = float(metadata["score"]), int(metadata["epoch"])

    def measure(self, model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device
        if self.threat is None:
            clean = robust = _clean_accuracy(model, self.data, device)
            found = {"validation_clean": clean}
        else:
            verdicts = evaluate(model, self.data.pair, self.threat, (FIRST_LOOK,), device=device)
            clean, robust = (float(v.double().mean()) for v in verdicts.correct.values())
            found = {"validation_clean": clean, "validation_robust": robust}
        if robust > self.score or (robust == self.score and epoch <= self.epoch):
            self.score, self.epoch = robust, epoch
            if distributed.rank() == 0:
                metadata = {"score": repr(robust), "epoch": str(epoch)}
                write_tensors(self.path, model.state_dict(), metadata)
        return found

    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the weights of the best epoch."""
        distributed.wait()
        model.load_state_dict(read_tensors(self.path)[0])


@torch.no_grad()
def _clean_accuracy(model: nn.Module, data: LabelledImages, device: torch.device) -> float:
    model.eval()
    right = 0
    for x, y in zip(data.pair[0].split(256), data.labels.split(256), strict=True):
        right += int((model(x.to(device)).argmax(1).cpu() == y).sum())
    return right / len(data)
