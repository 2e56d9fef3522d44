"""One chunk of one attack: run it, repair what it returns, predict again. Memory running out halves it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.journal import Journal
from heirloom.attacks.engine.passes import Counted, Passes
from heirloom.attacks.engine.rows import images_at_once
from heirloom.attacks.losses import check_labels, margin
from heirloom.attacks.named import Part
from heirloom.data.unit_images import Images
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError, out_of_memory, reject
from heirloom.runtime.randomness import generator_of, seed_of
from heirloom.threat import Threat

NO_PASSES = Passes()
DOUBT = 4.0  # copies err differently at every point: so many times the error seen at one of them
LEFT_BY = 1e-6  # a repaired attack is reported when a pixel had to be moved by more than this


@dataclass(frozen=True)
class ChunkResult:
    """What one attack did to the examples ``index`` (K,).

    Attributes:
        fooled: (K,) bool: misclassified at the repaired ``x_adv``, or, for the clean pass, as it stands.
        margin: (K,) float32: highest other logit minus the true one there; 0 or above where ``fooled``.
        x_adv: (F, C, H, W): the adversarial images of the F fooled ones, in order, none for the clean pass, which are
            the images themselves; or the file that holds them.
        repaired: how many images the attack left outside the threat set or not a number.
        batch: the most examples that went through the model at once after memory ran out, else K or more.
        seconds: spent on it.
        passes: images that went through the attacked model; what the harness itself predicts is not counted.
    """

    index: Tensor
    fooled: Tensor
    margin: Tensor
    x_adv: Tensor | Path
    repaired: int
    batch: int
    seconds: float
    passes: Passes = NO_PASSES


@dataclass(frozen=True)
class Bench:
    """What stays the same over all chunks of an evaluation."""

    model: nn.Module
    images: Images
    labels: Tensor
    threat: Threat
    seed: int
    device: torch.device
    attacked: nn.Module  # the model itself, or a copy that costs less a pass


def run_chunk(
    bench: Bench,
    name: str,
    part: int,
    run: Part | None,
    index: Tensor,
    limit: int,
    kept: Path | None = None,
) -> ChunkResult:
    """Attack the examples ``index``, at most ``limit`` at once (``run`` None: predict only).

    Every random draw is seeded by (seed, attack, part, first example, number of examples), so a chunk gives
    the same verdicts whenever and in whichever process it runs. A chunk halved for want of memory is two
    chunks and draws anew. ``kept`` is a folder for where its attack is (:class:`Journal`): a chunk that was killed
    goes on from there.
    """
    started, journal = time.perf_counter(), Journal(kept, (index.tolist(), limit))
    with images_at_once(limit):
        pieces = [_run_piece(bench, name, part, run, piece, journal) for piece in split_evenly(index, limit)]
    return ChunkResult(
        index=index,
        fooled=torch.cat([piece[0] for piece in pieces]),
        margin=torch.cat([piece[1] for piece in pieces]),
        x_adv=torch.cat([piece[2] for piece in pieces]),
        repaired=sum(piece[3] for piece in pieces),
        batch=limit,
        seconds=time.perf_counter() - started + journal.earlier,
        passes=sum((piece[4] for piece in pieces), Passes()),
    )


def run_halving(
    bench: Bench,
    name: str,
    part: int,
    run: Part | None,
    index: Tensor,
    limit: int,
    kept: Path | None = None,
) -> ChunkResult:
    """:func:`run_chunk`, halving ``limit`` until the chunk fits into memory; where processes go in step none can halve
    it alone, and :class:`InputError` says so.
    """
    while True:
        try:
            return run_chunk(bench, name, part, run, index, limit, kept)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            largest = max(map(len, split_evenly(index, limit)))
            if distributed.are_in_step():  # the others wait inside the pass that failed here
                reject("batch_size", f"below {largest}, for which a process had no memory", largest)
        if largest == 1:
            raise InputError(
                f"memory of {bench.device}",
                f"enough for one image under {name}",
                "none left: use a smaller image size or another device",
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


def _run_piece(
    bench: Bench, name: str, part: int, run: Part | None, index: Tensor, journal: Journal
) -> tuple[Tensor, Tensor, Tensor, int, Passes]:
    key = (bench.seed, name, part, int(index[0]) if len(index) else -1, len(index))
    x, y = bench.images[index].to(bench.device), bench.labels[index].to(bench.device)
    repaired, passes = 0, Passes()
    with seeded(bench.device, seed_of(*key, "model")):
        if run is None:
            x_adv, margins = x, margins_of(bench.model, x, y)
        else:
            x_adv, margins, repaired, passes = _attack(bench, run, x, y, key, journal)
    fooled = ~(margins < 0)
    kept = x_adv[:0] if run is None else x_adv[fooled]
    return fooled.cpu(), margins.nan_to_num(nan=torch.inf).cpu(), kept.cpu(), repaired, passes


def _attack(
    bench: Bench, run: Part, x: Tensor, y: Tensor, key: tuple[Any, ...], journal: Journal
) -> tuple[Tensor, Tensor, int, Passes]:
    """The repaired candidates, the model's margins there, how many were repaired, and the attack's passes.

    Where a faster copy was attacked (BatchNorm folded, low precision) and its error might have decided, the
    model itself is attacked again: what fooled the copy alone, and what stands by a margin within ``DOUBT``
    times the copy's error at that point. So speed is bought with no example.
    """
    attacked, itself, name = Counted(bench.attacked), Counted(bench.model), str(key[1])
    generator = generator_of(*key, device=bench.device)
    with journal.of(key, attacked, generator):
        found = run(attacked, x.clone(), y, bench.threat, generator)
    x_adv, repaired = repair(found, x, bench.threat, name)
    margins = margins_of(bench.model, x_adv, y)
    standing = (margins < 0).nonzero().flatten()
    if bench.attacked is bench.model or not len(standing):
        return x_adv, margins, repaired, attacked.passes
    error = (margins_of(bench.attacked, x_adv[standing], y[standing]) - margins[standing]).abs()
    again = standing[~(DOUBT * error < -margins[standing])]
    if len(again):
        generator = generator_of(*key, "again", device=bench.device)
        with journal.of((*key, "again", again.tolist()), itself, generator):
            found = run(itself, x[again], y[again], bench.threat, generator)
        x_adv[again], more = repair(found, x[again], bench.threat, name)
        margins[again] = margins_of(bench.model, x_adv[again], y[again])
        repaired += more
    return x_adv, margins, repaired, attacked.passes + itself.passes


def repair(found: Tensor, x: Tensor, threat: Threat, name: str) -> tuple[Tensor, int]:
    """``found`` as float32 inside the threat set around ``x``, and how many images needed it.

    A pixel that is not a number goes back to its clean value: it would otherwise fool any model.
    """
    if not isinstance(found, Tensor) or found.shape != x.shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"attack {name}", f"one that returns images of shape {tuple(x.shape)}", got)
    found = found.detach().to(x)
    finite = torch.where(found.isfinite(), found, x)
    inside = threat.project(finite, x)
    moved = ((inside - found).abs().flatten(1) <= LEFT_BY).all(1)  # False for NaN as well
    return inside, int((~moved).sum())


@torch.no_grad()
def margins_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Highest other logit minus the true one (N,): 0 or above, or not a number, where ``model`` errs."""
    logits = model(x.clone()).float()  # some write into their input
    if logits.ndim != 2 or len(logits) != len(x):
        raise InputError(
            "model", f"one that returns logits of shape ({len(x)}, classes)", tuple(logits.shape)
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
