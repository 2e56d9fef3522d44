"""The losses of the last steps, read off the device together: a GPU that is asked for a number has to stop for it."""

from __future__ import annotations

import torch
from torch import Tensor

from heirloom.runtime import distributed
from heirloom.runtime.errors import TrainingError
from heirloom.training.checkpoints import TrainingState

DIVERGED = 1000.0  # times the first step's loss
STRIDE = 25  # steps between two readings on an accelerator


class Readings:
    """Losses that wait to be read into ``state``, and what must never reach a checkpoint.

    On the CPU, where reading costs nothing, every step is read before the weights are touched. On an accelerator
    ``STRIDE`` steps are read at once, and always before a checkpoint is written, so that none holds what diverged.
    """

    def __init__(self, state: TrainingState, total_steps: int, device: torch.device) -> None:
        self.state, self.total_steps = state, total_steps
        self.stride = 1 if device.type == "cpu" else STRIDE
        self.last: dict[str, float] = {}
        self._waiting: list[tuple[int, dict[str, Tensor], Tensor | None]] = []

    def add(self, step: int, losses: dict[str, Tensor], gradient: Tensor | None) -> None:
        """Losses of ``step`` (from 1), and the length of its gradient, None where a scaler looks after it."""
        self._waiting.append((step, {name: value.detach() for name, value in losses.items()}, gradient))

    def due(self) -> bool:
        return len(self._waiting) >= self.stride

    def read(self) -> None:
        """Read all that waits; :class:`TrainingError` at the first step that diverged."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        values = [value for _, losses, _ in waiting for value in losses.values()]
        lengths = [length for _, _, length in waiting if length is not None]
        stacked = torch.stack([v.double().flatten()[0] for v in (*values, *lengths)])
        flat = iter(distributed.mean(stacked).tolist())  # all processes must stop together
        read = [{name: next(flat) for name in losses} for _, losses, _ in waiting]
        for (step, _, length), losses in zip(waiting, read, strict=True):
            self._check(step, losses, next(flat) if length is not None else 0.0)
            for name, value in losses.items():
                self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.last = losses

    def _check(self, step: int, losses: dict[str, float], length: float) -> None:
        if self.state.first_loss is None:
            self.state.first_loss = losses["loss"]
        limit = DIVERGED * max(abs(self.state.first_loss), 1.0)
        what = ""
        if not abs(losses["loss"]) < limit:
            what = f"The loss became {losses['loss']:.4g}"
        elif not abs(length) < float("inf"):
            what = "A gradient became infinite or NaN"
        if what:
            raise TrainingError(
                f"{what} at step {step} of {self.total_steps}: "
                "lower the learning rate; the last checkpoint is kept."
            )
