"""Pre-training an encoder: a clean phase, then an adversarial one (Xing et al., AISTATS 2024, section 7).

The folder of a run holds ``checkpoints/`` (to go on after an interruption), ``best/`` (the best epoch of each
phase), ``filters/`` (the first layer after every epoch), ``kept/`` (the epochs of ``keep_epochs``) and at the end
``encoder/`` and, where there was one, the classifier's ``head.safetensors``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.analysis.filters import first_layer
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.data.pixels import pass_size
from heirloom.networks.airbench import Airbench
from heirloom.networks.backbones import Backbone, BackboneSettings, build_backbone, save_backbone
from heirloom.networks.synchronised import synchronise
from heirloom.pretraining.kept import keep_epoch
from heirloom.pretraining.settings import PretrainSettings
from heirloom.pretraining.steps import Classifier, Projected, contrastive_step, trades_step
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import write_bytes, write_tensors
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat
from heirloom.training.best_epoch import BestEpoch
from heirloom.training.loop import History, Step, TrainingSettings, batch_size_of, train
from heirloom.training.optimisers import LARS
from heirloom.training.schedules import Schedule, divided_at, warmup_cosine
from heirloom.training.supervised import supervised_step

NORMALISED_BY = 10_000  # images, from which the mean and deviation are taken
WHITENED_BY = 500  # images
OnPhaseStep = Callable[[str, int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Pretrained:
    """What pre-training made: the encoder, its classifier where there is one, and a history per phase."""

    encoder: Backbone
    head: nn.Linear | None
    history: dict[str, History]


def pretrain(
    data: LabelledImages,
    threat: Threat,
    settings: PretrainSettings,
    folder: Path,
    *,
    test: LabelledImages | None = None,
    resume: bool = False,
    report: OnPhaseStep | None = None,
) -> Pretrained:
    """Pre-train an encoder and save it under ``folder``.

    Args:
        data: training images; a share of them is held out for validation.
        test: read for ``select_on_test`` alone.
        resume: go on from the checkpoints in ``folder``, which must be of the same settings and data.
        report: called with (phase, steps done, steps in all, losses).

    Raises:
        InputError: ``folder`` holds a run's work and ``resume`` is off, or was made with other settings.
        TrainingError: a loss or gradient that is not finite, or a loss that grew a thousandfold; the last
            checkpoint before it is kept.
    """
    if not resume and (folder / "checkpoints").exists():
        raise InputError("out", "a new folder unless resume is given", f"{folder}, which holds a run")
    rest, held_out = _parts(data, test, settings)
    distributed.join()
    encoder, model = _networks(rest, settings)
    if distributed.count() > 1:
        synchronise(model)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # the copy shares all weights; compilation and autocast stay with it, so that validation runs in plain float32
    trained = copy.copy(model)
    if settings.compile:
        trained.compile()
    _save_filters(folder, encoder, "initial", 0)
    work = _Work(model, trained, encoder, rest, held_out, threat, settings, folder, resume, report)
    history = {phase: _one_phase(work, phase) for phase in phases_of(settings)}
    model.cpu().eval()
    head = model.head if isinstance(model, Classifier) else None
    _save(folder, encoder, head, threat, settings, data.classes)
    return Pretrained(encoder, head, history)  # type: ignore[arg-type]


def check_before_training(data: ImageSource, settings: PretrainSettings) -> None:
    """What can be refused is, before anything is written."""
    rest, _ = _parts(data.train, data.test, settings)
    build_backbone(_backbone_settings(rest, settings), seed=settings.training.seed)


def _parts(
    data: LabelledImages, test: LabelledImages | None, settings: PretrainSettings
) -> tuple[LabelledImages, LabelledImages]:
    """(what is trained on, what epochs are chosen on)."""
    rest, held_out = data.split(settings.validation, seed=settings.training.seed)
    if settings.select_on_test:
        require(test is not None, "select_on_test", "used with a data set that has test images", "none")
        rest, held_out = data, test  # type: ignore[assignment]
    batch_size_of(settings.training, len(rest), distributed.launched())
    return rest, held_out


def fresh_network(data: LabelledImages, settings: PretrainSettings) -> nn.Module:
    """What is trained on ``data``, untrained: the encoder with its classifier or its projector."""
    return _networks(data, settings)[1]


def _networks(data: LabelledImages, settings: PretrainSettings) -> tuple[Backbone, nn.Module]:
    encoder = build_backbone(_backbone_settings(data, settings), seed=settings.training.seed)
    if isinstance(encoder.body, Airbench):
        few = data.select(torch.arange(min(len(data), WHITENED_BY))).images
        encoder.body.whiten((few - encoder.mean) / encoder.std)
    return encoder, _whole(encoder, len(data.classes), settings)


def phases_of(settings: PretrainSettings) -> list[str]:
    """``clean``, ``adversarial``: those that last an epoch or more."""
    epochs = {"clean": settings.clean_epochs, "adversarial": settings.adversarial_epochs}
    return [phase for phase, count in epochs.items() if count > 0]


@dataclass(frozen=True)
class _Work:
    """What both phases share; ``trained`` is ``model`` as it is trained (compiled, under autocast)."""

    model: nn.Module
    trained: nn.Module
    encoder: Backbone
    data: LabelledImages
    held_out: LabelledImages
    threat: Threat
    settings: PretrainSettings
    folder: Path
    resume: bool
    report: OnPhaseStep | None

    @property
    def head(self) -> Any:
        """The classifier's, None where there is none."""
        return self.model.head if isinstance(self.model, Classifier) else None


def _one_phase(work: _Work, phase: str) -> History:
    settings, folder = work.settings, work.folder
    attacked = work.threat if phase == "adversarial" else None
    epochs = epochs_of(settings, phase)
    best = None
    if settings.method != "contrastive":
        limited = work.held_out.limit(settings.validation_images, settings.training.seed)
        best = BestEpoch(folder / "best" / f"{phase}.safetensors", limited, attacked, resume=work.resume)

    def after_epoch(network: nn.Module, epoch: int) -> dict[str, float]:
        _save_filters(folder, work.encoder, phase, epoch)
        if epoch in settings.keep_epochs and distributed.rank() == 0:
            keep_epoch(folder, phase, epoch, work.encoder, work.head)
        return best.measure(work.model, epoch) if best is not None else {}

    def report(done: int, total: int, losses: dict[str, float]) -> None:
        if work.report is not None:
            work.report(phase, done, total, losses)

    history = train(
        work.trained,
        work.data,
        step_of(settings, attacked),
        replace(settings.training, epochs=epochs),
        make_optimizer=_optimiser(settings),
        schedule=_schedule(settings, epochs),
        after_epoch=after_epoch,
        checkpoint=folder / "checkpoints" / f"{phase}.safetensors",
        resume=work.resume,
        facts=_facts(phase, settings, work.threat),
        report=report,
    )
    if best is not None:
        best.restore(work.model)
    return history


def step_of(settings: PretrainSettings, threat: Threat | None) -> Step:
    """The training step of a phase: the adversarial one has a ``threat``."""
    if settings.method == "contrastive":
        return contrastive_step(settings.augmentation, threat, settings.attack, settings.contrastive)
    if settings.method == "trades" and threat is not None:
        return trades_step(settings.augmentation, threat, settings.attack, settings.beta)
    return supervised_step(settings.augmentation, threat, settings.attack)


def _optimiser(settings: PretrainSettings) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    rate, decay = settings.training.learning_rate, settings.training.weight_decay
    if settings.optimiser == "lars":
        return lambda parameters: LARS(
            parameters, lr=rate, weight_decay=decay, adapt_vectors=settings.lars_adapts_vectors
        )
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)


def _schedule(settings: PretrainSettings, epochs: int) -> Schedule:
    if settings.schedule == "divided":
        return divided_at([0.5, 0.75])
    return warmup_cosine(min(settings.warmup / epochs, 1.0))


def _whole(encoder: Backbone, classes: int, settings: PretrainSettings) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed + 1)
        if settings.method == "contrastive":
            return Projected(encoder, encoder.feature_size, hidden=4 * encoder.feature_size)
        return Classifier(encoder, nn.Linear(encoder.feature_size, classes))


def _backbone_settings(data: LabelledImages, settings: PretrainSettings) -> BackboneSettings:
    channels, height, width = data.shape
    require(height == width, "data", "of square images (image_size crops them)", f"{height}x{width}")
    mean = std = None
    if settings.normalise:
        found = _statistics(data)
        mean, std = (tuple(round(float(value), 4) for value in part) for part in found)
    return BackboneSettings(settings.network, channels, height, mean, std)


def _statistics(data: LabelledImages) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over the first images, batch by batch."""
    few = data.select(torch.arange(min(len(data), NORMALISED_BY)))
    total, squares, count = torch.zeros(few.shape[0]).double(), torch.zeros(few.shape[0]).double(), 0
    for part in few.pair[0].split(pass_size(few.pixels.shape)):
        values = part.transpose(0, 1).flatten(1).double()
        total, squares = total + values.sum(1), squares + values.square().sum(1)
        count += values.shape[1]
    mean = total / count
    deviation = ((squares - count * mean.square()) / (count - 1)).clamp_min(0).sqrt()
    return mean, deviation.clamp_min(1e-3)


def _save_filters(folder: Path, encoder: Backbone, phase: str, epoch: int) -> None:
    if distributed.rank() > 0:
        return
    order = {"initial": 0, "clean": 1, "adversarial": 2}[phase]
    path = folder / "filters" / f"{order}-{phase}-{epoch:04d}.safetensors"
    write_tensors(path, {"filters": first_layer(encoder)}, {"phase": phase, "epoch": str(epoch)})


def _save(
    folder: Path,
    encoder: Backbone,
    head: Any,
    threat: Threat,
    settings: PretrainSettings,
    classes: Sequence[str],
) -> None:
    epochs = {p: epochs_of(settings, p) for p in phases_of(settings)}
    notes: dict[str, Any] = {"method": settings.method, "epochs": epochs}
    notes |= {"classes": list(classes)} if head is not None else {}
    notes |= {"threat": asdict(threat)} if settings.adversarial_epochs else {}
    if distributed.rank() > 0:
        return
    if head is not None:
        write_tensors(folder / "head.safetensors", head.state_dict())
    save_backbone(folder / "encoder", encoder, notes)


def epochs_of(settings: PretrainSettings, phase: str) -> int:
    """How many epochs ``phase`` lasts."""
    return settings.clean_epochs if phase == "clean" else settings.adversarial_epochs


def _facts(phase: str, settings: PretrainSettings, threat: Threat) -> dict[str, Any]:
    """What decides the weights of a phase besides the training settings, which ``train`` adds itself. The
    clean phase knows nothing of what follows, so an adversarial run can take it over from a clean one."""
    chosen = deciding(replace(settings, training=TrainingSettings(), keep_epochs=()))
    if phase == "adversarial":
        return {"phase": phase, "settings": chosen, "threat": asdict(threat)}
    later = ("adversarial_epochs", "attack", "beta")
    method = "supervised" if settings.method == "trades" else settings.method
    kept = {name: value for name, value in chosen.items() if name not in later}
    return {"phase": phase, "settings": {**kept, "method": method}}


def take_over_clean_phase(source: Path, folder: Path) -> None:
    """Let a run in ``folder`` start (with ``resume``) from the finished clean phase of the run in ``source``.

    Settings of the clean phase that differ are noticed: ``pretrain`` refuses the checkpoint.
    """
    for part in ("checkpoints/clean.safetensors", "best/clean.safetensors"):
        if (source / part).exists() and not (folder / part).exists():
            write_bytes(folder / part, (source / part).read_bytes())
    for path in sorted((source / "filters").glob("*-clean-*.safetensors")):
        if not (folder / "filters" / path.name).exists():
            write_bytes(folder / "filters" / path.name, path.read_bytes())
