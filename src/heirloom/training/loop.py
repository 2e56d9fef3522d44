"""One training loop, on Hugging Face Accelerate: schedules, exact resume, progress.

Every random draw of step s comes from a generator seeded by (seed, s), and every epoch's order of examples
from (seed, epoch). Nothing else is random, so a run that was cut off and resumed gives the numbers of one
that was not: a checkpoint needs no random state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from heirloom.data.labelled import LabelledImages
from heirloom.models.sharded import own_batches
from heirloom.results.schema import to_plain
from heirloom.runtime.choices import MixedPrecision, listed
from heirloom.runtime.devices import make_accelerator, tf32
from heirloom.runtime.errors import require
from heirloom.runtime.identity import deciding
from heirloom.runtime.kinds import check_kinds
from heirloom.runtime.randomness import shared_generator_of
from heirloom.training.checkpoints import TrainingState, load_checkpoint, save_checkpoint, shapes_of
from heirloom.training.feed import Feed
from heirloom.training.readings import Readings
from heirloom.training.schedules import Schedule, warmup_cosine

FIRST_PROCESS = 0  # whose draws all processes share: part of the seed of every step
Losses = dict[str, Tensor]
Step = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Losses]
History = list[dict[str, float]]
OnStep = Callable[[int, int, dict[str, float]], None]
MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class TrainingSettings:
    """How long, how fast, from which seed.

    Attributes:
        epochs, batch_size: the last, smaller batch of an epoch is dropped unless it is the only one.
        learning_rate, weight_decay, betas: of AdamW, the default optimizer.
        warmup: share of the training over which the learning rate rises linearly before it falls to 0 as a
            cosine.
        seed: decides order, augmentation and attacks, not the initial weights.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        mixed_precision: Accelerate's: ``no``, ``fp16``, ``bf16``; ``tf32``: float32 by fast products, on a GPU.
        checkpoint_seconds: at most so much work is lost when a run is cut off.
        steps: stop after exactly so many, whatever ``epochs`` says; the last epoch may then be a part of one.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1.5e-4
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: float = 0.05
    seed: int = 0
    device: str = "cpu"
    mixed_precision: MixedPrecision = "no"
    checkpoint_seconds: float = 30.0
    steps: int | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        require(0 < self.learning_rate < float("inf"), "learning_rate", "above 0", self.learning_rate)
        require(0 <= self.weight_decay < float("inf"), "weight_decay", "at least 0", self.weight_decay)
        seconds = self.checkpoint_seconds
        require(seconds >= 0, "checkpoint_seconds", "at least 0", seconds)
        require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        require(0 <= self.warmup <= 1, "warmup", "a share between 0 and 1", self.warmup)
        require(
            self.mixed_precision in get_args(MixedPrecision),
            "mixed_precision",
            f"one of {listed(MixedPrecision)}",
            self.mixed_precision,
        )


def train(
    model: nn.Module,
    data: LabelledImages,
    step: Step,
    settings: TrainingSettings,
    *,
    make_optimizer: MakeOptimizer | None = None,
    schedule: Schedule | None = None,
    after_epoch: Callable[[nn.Module, int], dict[str, float]] | None = None,
    before_step: Callable[[float], None] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    facts: Mapping[str, Any] | None = None,
    report: OnStep | None = None,
) -> History:
    """Train ``model`` in place.

    Args:
        step: ``step(model, x, y, generator) -> {"loss": scalar, ...}``; it may call an attack on
            :func:`unwrapped` ``(model)`` first, and takes every random draw from ``generator``.
        make_optimizer: default AdamW as in ``settings``. schedule: default warm-up and cosine.
        after_epoch: figures to add to that epoch's entry in the history (validation losses, say).
        before_step: called with the share of the training that is done, in [0, 1), for a ``step`` that changes with it.
        checkpoint: a safetensors file, written every ``settings.checkpoint_seconds`` and at the end.
        resume: go on from ``checkpoint`` if it is there.
        facts: whatever decides the numbers besides ``settings``, the model's shapes and the images (the
            objective's settings, say): a checkpoint of a run with others is refused, and they are named.
        report: called after each step with (steps done, steps in all, losses).

    Returns:
        for each epoch ``{"epoch", "learning_rate", loss names...}``, losses averaged over its steps.

    Raises:
        TrainingError: the loss or a gradient is not finite, or the loss is a thousand times the first; the
            last checkpoint stays.
        InputError: the checkpoint belongs to other settings or another model.
    """
    accelerator = make_accelerator(settings.device, settings.mixed_precision)
    model.to(accelerator.device).train()
    optimizer = (make_optimizer or adamw(settings))([p for p in model.parameters() if p.requires_grad])
    state = TrainingState()
    known: dict[str, Any] = {}
    if checkpoint is not None:
        own = {"training": deciding(settings), "data": data.facts(), "model": shapes_of(model)}
        known = to_plain({**own, **dict(facts or {})})
    if resume and checkpoint is not None and checkpoint.exists():
        state = load_checkpoint(checkpoint, model, optimizer, known)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    loop = _Loop(
        accelerator,
        wrapped,
        optimizer,
        data=data,
        step=step,
        settings=settings,
        schedule=schedule or warmup_cosine(settings.warmup),
    )
    readings = Readings(state, loop.total_steps, accelerator.device)
    started, saved, spent_before = time.perf_counter(), time.perf_counter(), state.seconds
    feed = loop.feed_from(state.step)
    while state.step < loop.total_steps:
        if before_step is not None:
            before_step(state.step / loop.total_steps)
        with tf32(settings.mixed_precision == "tf32"):
            loop.one_step(state, next(feed), readings)
        if report is not None:
            report(state.step, loop.total_steps, readings.last)
        whole, rest = divmod(state.step, loop.steps_per_epoch)
        if rest == 0 or state.step == loop.total_steps:
            readings.read()
            epoch = whole + (rest > 0)
            entry = {name: total / (rest or loop.steps_per_epoch) for name, total in state.sums.items()}
            extra = after_epoch(model, epoch) if after_epoch is not None else {}
            state.history.append(
                {"epoch": epoch, "learning_rate": loop.rate(state.step - 1), **entry, **extra}
            )
            state.sums = {}
            model.train()
        is_last = state.step == loop.total_steps
        if checkpoint is not None and (is_last or time.perf_counter() - saved > settings.checkpoint_seconds):
            readings.read()  # so that no checkpoint holds what diverged
            state.seconds = spent_before + time.perf_counter() - started
            if accelerator.is_main_process:
                save_checkpoint(checkpoint, model, optimizer, state, known)
            saved = time.perf_counter()
    model.eval()
    return state.history


class _Loop:
    """The pieces of one step, in one place."""

    def __init__(
        self,
        accelerator: Any,
        model: nn.Module,
        optimizer: Any,
        *,
        data: LabelledImages,
        step: Step,
        settings: TrainingSettings,
        schedule: Schedule,
    ) -> None:
        require(len(data) > 0, "training images", "at least one", 0)
        self.accelerator, self.model, self.optimizer, self.step = accelerator, model, optimizer, step
        self.settings, self.schedule = settings, schedule
        size = batch_size_of(settings, len(data), accelerator.num_processes)
        self.shared = {"rank": accelerator.process_index, "count": accelerator.num_processes}
        self.feed = Feed(data, size, settings.seed, **self.shared)
        self.steps_per_epoch = self.feed.steps_per_epoch
        self.total_steps = settings.steps or settings.epochs * self.steps_per_epoch

    def rate(self, step: int) -> float:
        return self.settings.learning_rate * self.schedule((step + 1) / self.total_steps)

    def feed_from(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        return self.feed.between(step, self.total_steps, self.accelerator.device)

    def one_step(self, state: TrainingState, batch: tuple[Tensor, Tensor], readings: Readings) -> None:
        device = self.accelerator.device
        generator = shared_generator_of(
            self.settings.seed, "step", state.step, FIRST_PROCESS, **self.shared, device=device
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(state.step)
        with own_batches():
            losses = self.step(self.model, *batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(losses["loss"])
        readings.add(state.step + 1, losses, self._gradient_length())
        if readings.due():  # on the CPU before the weights are touched
            readings.read()
        self.optimizer.step()
        state.step += 1

    def _gradient_length(self) -> Tensor | None:
        """None under fp16: there, the scaler skips steps of infinite gradients itself."""
        if self.settings.mixed_precision == "fp16":
            return None
        return torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])


def batch_size_of(settings: TrainingSettings, images: int, processes: int) -> int:
    """The images of one step, over all ``processes``, which must share them evenly."""
    size = min(settings.batch_size, images)
    require(size % processes == 0, "batch_size", f"a multiple of the {processes} processes", size)
    return size


def adamw(settings: TrainingSettings) -> MakeOptimizer:
    """AdamW; weight decay on matrices and filters only, not on biases and norms (He et al. 2022)."""

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        chosen = list(parameters)
        decayed, plain = [p for p in chosen if p.ndim > 1], [p for p in chosen if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.learning_rate,
            betas=settings.betas,
            fused=chosen[0].device.type in ("cpu", "cuda"),
        )

    return make


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel: attacks differentiate it without waking the reducer."""
    inner = getattr(model, "module", model)
    return inner if isinstance(inner, nn.Module) else model
