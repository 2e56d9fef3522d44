"""One chunk of one attack: run it, repair what it returns, predict again. Memory running out halves it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.losses import check_labels, margin
from heirloom.attacks.named import Run
from heirloom.errors import InputError
from heirloom.randomness import generator_of, seed_of
from heirloom.threat import Threat

LEFT_BY = 1e-6  # a repaired attack is reported when a pixel had to be moved by more than this


@dataclass(frozen=True)
class ChunkResult:
    """What one attack did to the examples ``index`` (K,).

    Attributes:
        fooled: (K,) bool: misclassified at the repaired ``x_adv``, or, for the clean pass, as it stands.
        margin: (K,) float32: highest other logit minus the true one there; 0 or above where ``fooled``.
        x_adv: (F, C, H, W): the adversarial images of the F fooled ones, in order.
        repaired: how many images the attack left outside the threat set or not a number.
        batch: the most examples that went through the model at once after memory ran out, else K or more.
        seconds: spent on it.
    """

    index: Tensor
    fooled: Tensor
    margin: Tensor
    x_adv: Tensor
    repaired: int
    batch: int
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What stays the same over all chunks of an evaluation."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    threat: Threat
    seed: int
    device: torch.device
    autocast: torch.dtype | None = None
    faster: nn.Module | None = None  # the same function at less cost, for the attacks' passes


def run_chunk(bench: Bench, name: str, part: int, run: Run | None, index: Tensor, limit: int) -> ChunkResult:
    """Attack the examples ``index``, at most ``limit`` at once (``run`` None: predict only).

    Every random draw is seeded by (seed, attack, part, first example, number of examples), so a chunk gives
    the same verdicts whenever and in whichever process it runs. A chunk halved for want of memory is two
    chunks and draws anew.
    """
    started = time.perf_counter()
    pieces = [_run_piece(bench, name, part, run, piece) for piece in split_evenly(index, limit)]
    return ChunkResult(
        index=index,
        fooled=torch.cat([piece[0] for piece in pieces]),
        margin=torch.cat([piece[1] for piece in pieces]),
        x_adv=torch.cat([piece[2] for piece in pieces]),
        repaired=sum(piece[3] for piece in pieces),
        batch=limit,
        seconds=time.perf_counter() - started,
    )


def run_halving(
    bench: Bench, name: str, part: int, run: Run | None, index: Tensor, limit: int
) -> ChunkResult:
    """:func:`run_chunk`, halving ``limit`` until the chunk fits into memory."""
    while True:
        try:
            return run_chunk(bench, name, part, run, index, limit)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            largest = max(map(len, split_evenly(index, limit)))
        if largest == 1:
            raise InputError(
                f"Memory of {bench.device} must hold one image under {name}, but it ran out; "
                "use a smaller image size or another device."
            )
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
        limit = (largest + 1) // 2


def split_evenly(index: Tensor, limit: int) -> list[Tensor]:
    """``index`` halved, and halved again, until no piece is longer than ``limit``."""
    if len(index) <= limit:
        return [index]
    half = (len(index) + 1) // 2
    return split_evenly(index[:half], limit) + split_evenly(index[half:], limit)


def out_of_memory(error: BaseException) -> bool:
    """True for the ways in which torch says that memory has run out, on a GPU or on the CPU."""
    said = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in said
        or "can't allocate memory" in said
    )


def _run_piece(
    bench: Bench, name: str, part: int, run: Run | None, index: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    key = (bench.seed, name, part, int(index[0]) if len(index) else -1, len(index))
    x, y = bench.images[index].to(bench.device), bench.labels[index].to(bench.device)
    repaired = 0
    with seeded(bench.device, seed_of(*key, "model")):
        if run is None:
            x_adv = x
        else:
            x_adv, repaired = _attack(bench, name, run, x, y, key)
        margins = margins_of(bench.model, x_adv, y)
    fooled = ~(margins < 0)
    return fooled.cpu(), margins.nan_to_num(nan=torch.inf).cpu(), x_adv[fooled].cpu(), repaired


def _attack(
    bench: Bench, name: str, run: Run, x: Tensor, y: Tensor, key: tuple[object, ...]
) -> tuple[Tensor, int]:
    """The repaired candidates. What fooled only the faster model (BatchNorm folded) or the low-precision one
    (autocast) is attacked again as it stands, so that speed is bought with no example."""
    attacked = bench.model if bench.faster is None else bench.faster
    with _autocast(bench):
        generator = generator_of(*key, device=bench.device)
        found = run(attacked, x.clone(), y, bench.threat, generator)
        x_adv, repaired = repair(found, x, bench.threat, name)
    if bench.autocast is None and attacked is bench.model:
        return x_adv, repaired
    with _autocast(bench):
        claimed = ~(margins_of(attacked, x_adv, y) < 0)
    again = claimed & (margins_of(bench.model, x_adv, y) < 0)
    if bool(again.any()):
        generator = generator_of(*key, "again", device=bench.device)
        found = run(bench.model, x[again], y[again], bench.threat, generator)
        x_adv[again], more = repair(found, x[again], bench.threat, name)
        repaired += more
    return x_adv, repaired


def repair(found: Tensor, x: Tensor, threat: Threat, name: str) -> tuple[Tensor, int]:
    """``found`` as float32 inside the threat set around ``x``, and how many images needed it.

    A pixel that is not a number goes back to its clean value: it would otherwise fool any model.
    """
    if not isinstance(found, Tensor) or found.shape != x.shape:
        came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"attack {name} must return images of shape {tuple(x.shape)}, but {came} came.")
    found = found.detach().to(x)
    finite = torch.where(found.isfinite(), found, x)
    inside = threat.project(finite, x)
    moved = ((inside - found).abs().flatten(1) <= LEFT_BY).all(1)  # False for NaN as well
    return inside, int((~moved).sum())


@torch.no_grad()
def margins_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Highest other logit minus the true one (N,): 0 or above, or not a number, where ``model`` errs."""
    logits = model(x).float()
    if logits.ndim != 2 or len(logits) != len(x):
        raise InputError(
            f"model must return logits of shape ({len(x)}, classes), but {tuple(logits.shape)} came."
        )
    check_labels(y, logits.shape[1])
    return margin(logits, y)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Run with torch's global generators seeded, then restore them.

    heirloom draws nothing from them, but a randomised model does: so that its verdicts, too, are the same
    after a resume and in any number of processes.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _autocast(bench: Bench) -> Any:
    if bench.autocast is None:
        return nullcontext()
    return torch.autocast(bench.device.type, dtype=bench.autocast)
