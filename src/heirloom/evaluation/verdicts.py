"""Per-example verdicts: the worst case over all attacks run. The harness trusts no attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.compaction import compacted_every
from heirloom.attacks.engine.compiled import Compiled
from heirloom.attacks.engine.for_the_passes import for_the_passes
from heirloom.attacks.engine.passes import Passes
from heirloom.attacks.losses import check_labels
from heirloom.attacks.named import Attack, Part, attack_list
from heirloom.data.labelled import ImagesAndLabels, pair_of
from heirloom.data.unit_images import Pair, check_all, digest_of_images
from heirloom.evaluation.adversarial_images import AdversarialImages
from heirloom.evaluation.askable import askable, remarks_on
from heirloom.evaluation.behaviour import model_facts
from heirloom.evaluation.chunks import Bench, ChunkResult, margins_of, run_halving, seeded
from heirloom.evaluation.one_mode import with_modes
from heirloom.evaluation.store import Store
from heirloom.models.memory import Allocated, at_once
from heirloom.results.schema import Proportion
from heirloom.results.statistics import proportion
from heirloom.runtime import distributed
from heirloom.runtime.devices import torch_device
from heirloom.runtime.errors import require
from heirloom.runtime.identity import digest
from heirloom.runtime.kinds import kinds_checked
from heirloom.runtime.processors import give_back
from heirloom.threat import Threat

CHUNK = 256  # examples whose verdicts are stored together, and whose draws share a seed
COMPACTED = 5  # steps between two compactions of the survivors where the model is compiled
OnChunk = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Evaluation:
    """Verdicts of one model under one threat.

    Attributes:
        correct: ``correct["clean"]`` and ``correct[attack]`` are boolean (N,): right on the clean image, and
            still right after that attack AND all before it, so the columns can only fall from left to right.
        x_adv: (N, C, H, W): each example's adversarial image: the first that fooled it, else the clean one. A tensor
            where the images came as one; else :class:`AdversarialImages`, which reads each when it is asked for. None
            where they were not to be kept.
        margin: (N,): highest other logit minus the true one on the clean images; below 0 where right.
        repaired: for each attack, how many images it left outside the threat set (the harness put them back).
        batch: the most examples that went through the model at once: less than asked for if memory ran out.
        seconds: time spent on attacks, that of an interrupted run included.
        passes: for each attack, images that went through the model forward and backward, over all examples.
        compiled: whether the attacks' passes went through ``torch.compile``; None where nobody asked for it.
        asked: how the model was asked where it refuses some numbers of images, or its gradient raises an error
            (:mod:`heirloom.evaluation.askable`); empty for most.
    """

    threat: Threat
    correct: dict[str, Tensor]
    x_adv: Tensor | AdversarialImages = field(repr=False)
    margin: Tensor | None = field(default=None, repr=False)
    repaired: dict[str, int] = field(default_factory=dict)
    batch: int = 0
    seconds: float = 0.0
    passes: dict[str, Passes] = field(default_factory=dict)
    compiled: bool | None = None
    asked: str = ""

    def accuracy(self, column: str) -> Proportion:
        return proportion(self.correct[column])

    def row(self) -> dict[str, Proportion]:
        """``{"clean": ..., attack: ...}`` as a result row has them."""
        return {column: self.accuracy(column) for column in self.correct}


@kinds_checked("data")
def evaluate(
    model: nn.Module,
    data: ImagesAndLabels,
    threat: Threat,
    attacks: Sequence[str | Attack] = ("pgd-10", "pgd-20", "cascade"),
    *,
    batch_size: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    attack_dtype: torch.dtype | None = None,
    compile: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    report: OnChunk | None = None,
) -> Evaluation:
    """Measure ``model``, whole and in eval mode, against each attack in turn, survivors only.

    What an attack returns is projected into the threat set and predicted again, in float32; only that counts.
    The survivors of each part of an attack are cut into chunks of ``batch_size``, and each chunk's random
    draws are seeded by (seed, attack, part, first example, length). So the verdicts depend on ``seed``,
    ``batch_size`` and device type, but neither on interruptions nor on how many processes share the work:
    under ``torchrun`` each takes every n-th chunk. When memory runs out, the batch is halved, and stays so.

    Args:
        model: [0, 1] pixels (N, C, H, W) -> logits (N, classes). One that refuses some numbers of images, or whose
            gradient raises an error, is judged all the same: ``Evaluation.asked`` says how.
        data: images in [0, 1] and labels (N,), tensors or arrays, or :class:`LabelledImages`
            (``load_images(...).test``), which hands them over batch by batch.
        batch_size: images that go through the model at once. None: chunks of 256, of which so many go at once as the
            memory has room for, and as are fast on a CPU (:mod:`heirloom.models.memory`).
        attacks: names (see :func:`heirloom.attacks.named.named_attack`) or :class:`Attack`, weakest first.
        attack_dtype: run the attacks' passes on a copy in this type (``torch.bfloat16``); verdicts stay the model's,
            and where the copy's error might have decided, the model itself is attacked again.
        compile: run them through ``torch.compile`` (:mod:`heirloom.attacks.engine.compiled`), survivors compacted
            every ``COMPACTED`` steps; where that fails a warning says why. Verdicts stay the model's.
        folder: keep the verdicts there as they come.
        resume: go on from what lies in ``folder``, if it is of the same model, data and settings.
        report: called with (attack, examples done, examples in all, running robust accuracy).

    Raises:
        InputError: images outside [0, 1], labels out of range, an unknown attack, a folder of another run.
    """
    images, labels = data = pair_of(data)
    folder = None if folder is None else Path(folder)
    require(batch_size is None or batch_size >= 1, "batch_size", "at least 1", batch_size)
    floating = isinstance(attack_dtype, torch.dtype) and attack_dtype.is_floating_point
    require(attack_dtype is None or floating, "attack_dtype", "None or a floating torch.dtype", attack_dtype)
    chosen = attack_list(attacks)
    names = [attack.name for attack in chosen]
    distributed.join()
    place = distributed.local_device(torch_device(str(device)))
    given = model = with_modes(model)
    was_training = given.training
    model = model.to(place).eval()
    try:
        check_all(images)
        model = askable(model, images[:3], place).eval()
        each = check_evaluable(model, data, place)
        store, size = Store(folder), batch_size or CHUNK
        if distributed.takes_part() and folder is not None:
            facts = {
                "model": model_facts(model, images),
                "data": {"pixels": digest_of_images(images), "labels": digest(labels)},
                "threat": asdict(threat),
                "attacks": names,
                "seed": seed,
                "batch_size": size,
                "attack_dtype": str(attack_dtype),
            }
            if distributed.rank() == 0:
                store.open(facts, resume=resume)
        distributed.wait()
        limit = (
            size if batch_size else store.limit(at_once(each, place, size, 4 * math.prod(images.shape[1:])))
        )
        faster = for_the_passes(model, images[:3].to(place), attack_dtype, compile=compile)
        bench = Bench(model, images, labels, threat, seed, place, faster)
        is_compiled = isinstance(faster, Compiled)
        with compacted_every(COMPACTED if is_compiled else 1):
            found = _evaluate(bench, chosen, (size, limit), store, report)
        return replace(found, compiled=is_compiled if compile else None, asked=remarks_on(model))
    finally:
        given.train(was_training)


def _evaluate(
    bench: Bench, attacks: Sequence[Attack], sizes: tuple[int, int], store: Store, report: OnChunk | None
) -> Evaluation:
    """``sizes``: of a chunk, and of what goes through the model at once."""
    x_adv = AdversarialImages(bench.images)
    margin, standing = torch.zeros(len(x_adv)), torch.ones(len(x_adv), dtype=torch.bool)
    correct: dict[str, Tensor] = {}
    repaired = dict.fromkeys((attack.name for attack in attacks), 0)
    passes = dict.fromkeys(repaired, Passes())
    (chunk, limit), seconds = sizes, 0.0
    for number, attack in enumerate([Attack("clean", ()), *attacks]):
        for part, run in enumerate(attack.parts or [None]):
            stage = _Stage(attack.name, part, run, f"{number}-{attack.name}-{part}")
            chunks = standing.nonzero().flatten().split(chunk)
            results = _run_stage(bench, stage, chunks, limit, store, standing=standing, report=report)
            for result in results:
                fooled = result.index[result.fooled]
                standing[fooled] = False
                if run is None:
                    margin[result.index] = result.margin
                else:
                    x_adv.put(fooled, result.x_adv)
                    repaired[attack.name] += result.repaired
                    passes[attack.name] += result.passes
                limit, seconds = min(limit, result.batch), seconds + result.seconds
        correct[attack.name] = standing.clone()
    found = x_adv[:] if isinstance(bench.images, Tensor) else x_adv
    return Evaluation(bench.threat, correct, found, margin, repaired, limit, seconds, passes)


@dataclass(frozen=True)
class _Stage:
    """One part of one attack (``run`` None: the clean pass), by the name that its chunks have in the store."""

    attack: str
    part: int
    run: Part | None
    stored_as: str


def _run_stage(
    bench: Bench,
    stage: _Stage,
    chunks: Sequence[Tensor],
    limit: int,
    store: Store,
    *,
    standing: Tensor,
    report: OnChunk | None,
) -> list[ChunkResult]:
    """The results of all chunks: this process's own, run or read from ``store``, and the others'."""
    mine: list[ChunkResult] = []
    total, fallen = sum(map(len, chunks)), 0
    for number, index in distributed.dealt(chunks):
        if not len(index):
            continue
        result = store.read(stage.stored_as, number, index)
        if result is None:
            kept = None if distributed.are_in_step() else store.under_way(stage.stored_as, number)
            result = run_halving(bench, stage.attack, stage.part, stage.run, index, limit, kept)
            store.write(stage.stored_as, number, result)
        result = store.without_images(stage.stored_as, number, result)
        limit = min(limit, result.batch)
        mine.append(result)
        shares = 1 if distributed.are_in_step() else distributed.count()
        fallen += int(result.fooled.sum()) * shares  # the others' are like this process's own
        if report is not None and distributed.rank() == 0:
            done = min(sum(len(r.index) for r in mine) * shares, total)
            report(stage.attack, done, total, max(int(standing.sum()) - fallen, 0) / len(standing))
    give_back()
    return distributed.gather(mine)


def check_evaluable(model: nn.Module, data: Pair, device: str | torch.device = "cpu") -> int:
    """Refuse images, labels or a model that cannot be judged, before any time is spent.

    Returns:
        the bytes that a forward pass of an image allocates.
    """
    images, labels = data
    model = with_modes(model)
    check_all(images)
    require(len(images) == len(labels), "labels", f"as many as images ({len(images)})", len(labels))
    place, was_training = distributed.local_device(device), model.training
    try:
        with torch.no_grad(), seeded(place, 0), Allocated() as allocated:
            logits = model.to(place).eval()(images[:2].to(place))
    finally:
        model.train(was_training)
    require(
        isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(images[:2]),
        "model output",
        f"logits of shape ({len(images[:2])}, classes)",
        tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__,
    )
    check_labels(labels, logits.shape[1])
    return allocated.bytes // len(logits)


def fooled(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """True where ``model`` errs (a tie counts as an error): bool (N,)."""
    return ~(margins_of(model, x, y) < 0)
