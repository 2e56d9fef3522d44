"""Training of ``distil``: the student under attack against cached features, then the painter behind it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.data.augmentation import Augmentation, augment
from heirloom.data.labelled import LabelledImages
from heirloom.defence.budget import steps_in
from heirloom.defence.inner import strongest_nearby
from heirloom.defence.settings import PreprocessorSettings
from heirloom.heads.linear import extract_features
from heirloom.models.preprocessor import Preprocessor
from heirloom.networks.student_painter import StudentPainter
from heirloom.networks.synchronised import gathered, synchronised
from heirloom.objectives.distil import logit_each, painter, prototypes, student_each
from heirloom.objectives.objective import Each
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.identity import digest, module_facts
from heirloom.runtime.randomness import generator_of, normal, uniform
from heirloom.threat import Threat
from heirloom.training.loop import History, Losses, Step, TrainingSettings, train, unwrapped

FEATURE_NOISE = 0.1  # of the features' deviation, on the codes that the painter learns from
Teacher = tuple[nn.Module, nn.Module | None]


def distil(
    preprocessor: Preprocessor,
    data: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    teacher: Teacher,
    *,
    checkpoint: Path | None,
    resume: bool,
    report: Callable[[int, int, dict[str, float]], None] | None,
) -> tuple[nn.Module, History]:
    """Train ``preprocessor`` (a student and a painter) in place, resumably.

    The teacher's features are computed once and kept beside ``checkpoint``, under the digest of what made them.

    Returns:
        the preprocessor in eval mode on the CPU, and the history of both phases, each entry with its ``phase``:
        0 for the student, 1 for the painter.
    """
    network = preprocessor.network
    assert isinstance(network, StudentPainter)
    encoder, head = teacher[0].eval().requires_grad_(False), teacher[1]
    training = settings.training
    targets = teacher_features(encoder, data, training, checkpoint)
    network.place(targets)
    indexed = replace(data, labels=torch.arange(len(data)))  # a step finds its targets by number
    share = _Share()
    steps: list[tuple[nn.Module, Step]] = [
        (network.student, _student_step(targets, threat, settings, head, share))
    ]
    if settings.distil.paints:
        steps.append((network.painter, _painter_step(network, encoder, threat, settings, head)))
    history: History = []
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for phase, (part, step) in enumerate(steps):
        module = copy.copy(part)  # shares the weights; autocast stays with the copy
        path = checkpoint.with_name(f"phase-{phase}.safetensors") if checkpoint is not None else None

        def run(model: nn.Module, chosen: TrainingSettings, step: Step = step, **options: Any) -> History:
            return train(model, indexed, step, chosen, before_step=share.tell, **options)

        facts = {
            "settings": settings.facts(),
            "threat": asdict(threat),
            "phase": phase,
            "targets": digest(targets),
        }
        with synchronised(module):
            chosen = _share(phase, module, settings, run, path)
            past = run(module, chosen, checkpoint=path, resume=resume, report=report, facts=facts)
        history += [{"phase": phase, **entry} for entry in past]
        network.eval()
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return preprocessor.cpu().eval(), history


def _share(
    phase: int,
    module: nn.Module,
    settings: PreprocessorSettings,
    run: Callable[..., History],
    path: Path | None,
) -> TrainingSettings:
    """The painter's share of the training, or what it leaves, in epochs, steps or minutes."""
    training, share = settings.training, settings.distil.painter_share if settings.distil.paints else 0.0
    share = share if phase == 1 else 1 - share
    if settings.steps is not None:
        return replace(training, steps=settings.steps[min(phase, len(settings.steps) - 1)])
    if settings.minutes is None:
        return replace(training, epochs=max(1, round(share * training.epochs)))
    kept = path.with_name(f"steps-{phase}.json") if path is not None else None
    return replace(training, steps=steps_in(share * settings.minutes, module, training, run, kept))


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


class _Share:
    """How much of a phase is done, in [0, 1)."""

    done = 0.0

    def tell(self, done: float) -> None:
        self.done = done


def attacked_share(done: float, delay: float) -> float:
    """The share of the radius that the attack has when ``done`` of the training is: 0, then rising to 1."""
    return 1.0 if delay == 0 else min(1.0, max(0.0, done / delay - 1))


def _student_step(
    targets: Tensor,
    threat: Threat,
    settings: PreprocessorSettings,
    head: nn.Module | None,
    share: _Share,
) -> Step:
    each, held = _each(targets, settings, head), {targets.device: targets}

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = augment(x, own_augmentation(tuple(x.shape[1:])), generator)
        if y.device not in held:  # once: a GPU would have to stop for indices that the CPU must know
            held[y.device] = targets.to(y.device)
        target, inner = held[y.device][y], unwrapped(model)
        reach = settings.chosen_radius * attacked_share(share.done, settings.distil.delay)
        if reach > 0:
            wide = replace(threat, eps=reach * threat.eps)
            inner.eval()  # running statistics under attack, the batch's when trained
            x = strongest_nearby(inner, x, target, each, wide, settings.attack_steps, generator)
            inner.train()
        loss = each(model(x).float(), target).mean()
        return {"loss": loss, "student": loss}

    return step


def _each(targets: Tensor, settings: PreprocessorSettings, head: nn.Module | None) -> Each:
    scale = targets.square().sum(1).mean().clamp_min(1e-12)
    if settings.distil.targets == "head":
        if head is None:
            raise InputError("head", "the frozen model's own classifier for targets head", "none")
        own = head.requires_grad_(False)
        return lambda q, target: logit_each(own.to(q.device)(q), own(target))
    generator = generator_of(settings.training.seed, "prototypes")
    centres = prototypes(targets, min(settings.distil.count, len(targets)), generator)
    return lambda q, target: student_each(q, target, centres.to(q.device), scale.to(q.device))


def own_augmentation(shape: tuple[int, ...]) -> Augmentation:
    """Crops by an eighth of the side, which leave the targets what they are, and flips, of colour images only:
    a mirrored digit is none."""
    flip = 0.5 if shape[0] == 3 else 0.0
    return Augmentation(crop_scale=None, flip=flip, jitter_p=0.0, grey_p=0.0, pad=max(1, shape[1] // 8))


def _painter_step(
    network: StudentPainter,
    encoder: nn.Module,
    threat: Threat,
    settings: PreprocessorSettings,
    head: nn.Module | None,
) -> Step:
    own = head if settings.distil.targets == "head" else None
    spread = network.painter.deviation

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        network.student.to(x.device).eval()
        encoder.to(x.device)
        with torch.no_grad():
            # half the images are moved to a random corner of the ball, as attacked ones lie
            moved = uniform(x.shape[:1], generator, x.device).view(-1, 1, 1, 1) < 0.5
            corner = threat.eps * (uniform(x.shape, generator, x.device) - 0.5).sign()
            q = network.student(torch.where(moved, threat.project(x + corner, x), x))
            noise = normal(q.shape, generator, x.device)
            q = q + FEATURE_NOISE * spread.to(x.device) * noise
        seen = encoder(model(q)).float()
        loss = painter(gathered(seen), gathered(q))
        if own is not None:
            loss = loss + logit_each(own.to(x.device)(seen), own(q)).mean()
        return {"loss": loss, "painter": loss}

    return step
