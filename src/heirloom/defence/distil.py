"""Training of ``distil``: the student, then the painter behind it, or a painter for a student that is there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.data.labelled import LabelledImages
from heirloom.defence.budget import steps_in
from heirloom.defence.distil_steps import Share, painter_step, student_step
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.heads.linear import extract_features
from heirloom.models.preprocessor import Preprocessor
from heirloom.networks.student_painter import StudentPainter
from heirloom.networks.synchronised import synchronised
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.identity import digest, module_facts
from heirloom.threat import Threat
from heirloom.training.loop import History, Step, TrainingSettings, train

Teacher = tuple[nn.Module, nn.Module | None]


def distil(
    preprocessor: Preprocessor,
    data: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    teacher: Teacher,
    *,
    student: nn.Module | None = None,
    checkpoint: Path | None,
    resume: bool,
    report: Callable[[int, int, dict[str, float]], None] | None,
) -> tuple[nn.Module, History]:
    """Train ``preprocessor`` (a student and a painter) in place, resumably.

    The teacher's features are computed once and kept beside ``checkpoint``, under the digest of what made them.

    Args:
        student: one that was trained already, of the same shapes: it is copied, and the painter alone is trained.

    Returns:
        the preprocessor in eval mode on the CPU, and the history of both phases, each entry with its ``phase``:
        0 for the student, 1 for the painter.
    """
    network = preprocessor.network
    assert isinstance(network, StudentPainter)
    encoder, head = teacher[0].eval().requires_grad_(False), teacher[1]
    targets = teacher_features(encoder, data, settings.training, checkpoint)
    network.place(targets)
    if student is not None:
        network.student.load_state_dict(student.state_dict())
    share, phases = Share(), dict[int, tuple[nn.Module, Step]]()
    if student is None:
        phases[0] = (network.student, student_step(targets, threat, settings, head, share))
    if settings.distil.paints:
        phases[1] = (network.painter, painter_step(network, encoder, threat, settings, head))
    history: History = []
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for phase, (part, step) in phases.items():
        facts = {
            "settings": settings.facts(),
            "threat": asdict(threat),
            "phase": phase,
            "targets": digest(targets),
            **({} if student is None else {"student": module_facts(student)}),
        }
        path = checkpoint.with_name(f"phase-{phase}.safetensors") if checkpoint is not None else None
        options: dict[str, Any] = {"checkpoint": path, "resume": resume, "report": report, "facts": facts}
        history += _trained(phase, part, step, data, settings, before_step=share.tell, **options)
        network.eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return preprocessor.cpu().eval(), history


def _trained(
    phase: int,
    part: nn.Module,
    step: Step,
    data: LabelledImages,
    settings: PreprocessorSettings,
    *,
    before_step: Callable[[float], None],
    checkpoint: Path | None,
    **options: Any,
) -> History:
    """Train one part; a step finds its targets by the image's number, which stands in the label's place."""
    indexed = replace(data, labels=torch.arange(len(data)))
    module = copy.copy(part)  # shares the weights; autocast stays with the copy

    def run(model: nn.Module, chosen: TrainingSettings, **more: Any) -> History:
        return train(model, indexed, step, chosen, before_step=before_step, **more)

    with synchronised(module):
        chosen = _share(phase, module, settings, run, checkpoint)
        past = run(module, chosen, checkpoint=checkpoint, **options)
    return [{"phase": phase, **entry} for entry in past]


def _share(
    phase: int,
    module: nn.Module,
    settings: PreprocessorSettings,
    run: Callable[..., History],
    path: Path | None,
) -> TrainingSettings:
    """The painter's share of the training, or what it leaves, in epochs, steps or minutes."""
    training, share = settings.training, shares_of_phases(settings.distil)[phase]
    if settings.steps is not None:
        return replace(training, steps=settings.steps[min(phase, len(settings.steps) - 1)])
    if settings.minutes is None:
        return replace(training, epochs=max(1, round(share * training.epochs)))
    kept = path.with_name(f"steps-{phase}.json") if path is not None else None
    return replace(training, steps=steps_in(share * settings.minutes, module, training, run, kept))


def shares_of_phases(settings: DistilSettings) -> tuple[float, ...]:
    """What the student and, where there is one, the painter have of the training."""
    share = settings.painter_share
    return (1 - share, share) if settings.paints else (1.0,)


@torch.no_grad()
def teacher_features(
    encoder: nn.Module, data: LabelledImages, training: TrainingSettings, checkpoint: Path | None
) -> Tensor:
    """Features (N, D), those of colour images averaged with those of the mirror image; from the file beside
    ``checkpoint`` where that is of this encoder and these images.
    """
    wanted = {**module_facts(encoder), "images": data.facts()["pixels"]}
    path = checkpoint.with_name("teacher.safetensors") if checkpoint is not None else None
    if path is not None and distributed.agreed(path.exists()):
        tensors, facts = read_tensors(path)
        if facts == wanted:
            return tensors["features"]
        raise InputError("resume", f"of the run in {path.parent}", "another model or other images")
    encoder.to(training.device)

    def both_ways(x: Tensor) -> Tensor:
        return encoder(x) if x.shape[1] == 1 else (encoder(x) + encoder(x.flip(3))) / 2

    features = extract_features(both_ways, data, device=training.device)
    if path is not None and distributed.rank() == 0:
        write_tensors(path, {"features": features}, wanted)
    distributed.wait()
    return features
