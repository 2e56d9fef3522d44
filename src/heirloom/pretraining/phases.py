"""Pre-training an encoder: a clean phase, then an adversarial one (Xing et al., AISTATS 2024, section 7).

The folder of a run holds ``checkpoints/`` (to go on after an interruption), ``best/`` (the best epoch of each
phase), ``filters/`` (the first layer after every epoch), ``kept/`` (the epochs of ``keep_epochs``) and at the end
``encoder/`` and, where there was one, the classifier's ``head.safetensors``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.networks.backbones import Backbone, build_backbone
from heirloom.networks.synchronised import synchronise
from heirloom.pretraining.folder import save_filters, save_pretrained
from heirloom.pretraining.fresh import backbone_settings, fresh_networks
from heirloom.pretraining.kept import keep_epoch
from heirloom.pretraining.optimisation import optimiser_of, schedule_of, step_of
from heirloom.pretraining.settings import Phase, PretrainSettings
from heirloom.pretraining.steps import Classifier
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat
from heirloom.training.best_epoch import BestEpoch
from heirloom.training.loop import History, TrainingSettings, batch_size_of, train

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
    encoder, model = fresh_networks(rest, settings)
    if distributed.count() > 1:
        synchronise(model)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # the copy shares all weights; compilation and autocast stay with it, so that validation runs in plain float32
    trained = copy.copy(model)
    if settings.compile:
        trained.compile()
    save_filters(folder, encoder, "initial", 0)
    work = _Work(model, trained, encoder, rest, held_out, threat, settings, folder, resume, report)
    history = {phase: _one_phase(work, phase) for phase in settings.phases}
    model.cpu().eval()
    head = model.head if isinstance(model, Classifier) else None
    save_pretrained(folder, encoder, head, threat, settings, data.classes)
    return Pretrained(encoder, head, history)  # type: ignore[arg-type]


def check_before_training(data: ImageSource, settings: PretrainSettings) -> None:
    """What can be refused is, before anything is written."""
    rest, _ = _parts(data.train, data.test, settings)
    build_backbone(backbone_settings(rest, settings), seed=settings.training.seed)


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


def _one_phase(work: _Work, phase: Phase) -> History:
    settings, folder = work.settings, work.folder
    attacked = work.threat if phase == "adversarial" else None
    epochs = settings.epochs_of(phase)
    best = None
    if settings.method != "contrastive":
        limited = work.held_out.limit(settings.validation_images, settings.training.seed)
        best = BestEpoch(folder / "best" / f"{phase}.safetensors", limited, attacked, resume=work.resume)

    def after_epoch(network: nn.Module, epoch: int) -> dict[str, float]:
        save_filters(folder, work.encoder, phase, epoch)
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
        make_optimizer=optimiser_of(settings),
        schedule=schedule_of(settings, epochs),
        after_epoch=after_epoch,
        checkpoint=folder / "checkpoints" / f"{phase}.safetensors",
        resume=work.resume,
        facts=_facts(phase, settings, work.threat),
        report=report,
    )
    if best is not None:
        best.restore(work.model)
    return history


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
