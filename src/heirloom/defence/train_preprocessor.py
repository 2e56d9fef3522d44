"""Training a preprocessor without labels: with images alone (CRoPD's Algorithm 1, line 2), or with the frozen
model's features as well, as the objective says.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.data.augmentation import augment
from heirloom.data.labelled import LabelledImages
from heirloom.defence.budget import steps_in
from heirloom.defence.distil import distil
from heirloom.defence.inner import strongest_nearby
from heirloom.defence.settings import METHODS, DistilSettings, PreprocessorSettings
from heirloom.models.preprocessor import Preprocessor, build_preprocessor, vae_preprocessor
from heirloom.networks.small_autoencoders import ConvAutoencoder
from heirloom.networks.synchronised import gathered, own_rows, synchronised
from heirloom.networks.transforms import TRANSFORMS
from heirloom.objectives.objective import Batch, Each
from heirloom.runtime.choices import Architecture
from heirloom.runtime.devices import autocast_as
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.identity import module_facts
from heirloom.runtime.randomness import normal
from heirloom.threat import Threat
from heirloom.training.loop import History, Losses, Step, TrainingSettings, train, unwrapped
from heirloom.training.refolded import Refolded

__all__ = ["METHODS", "DistilSettings", "PreprocessorSettings", "fresh_preprocessor", "train_preprocessor"]

# what cannot learn from one image at a time, and why
PAIRS = {"cropd": "a contrastive loss", "distil": "the batch normalisation of its student"}


def architecture_for(shape: tuple[int, int, int]) -> Architecture:
    """The small architecture for images of ``shape`` (C, H, W); the paper's take a GPU and are asked for by name."""
    return "mlp" if shape[1] <= 28 else "conv"


def learning_rate_for(architecture: str) -> float:
    """What our trials used for the small architectures, the paper's 1.5e-4 for its own."""
    return {"mlp": 3e-3, "conv": 2e-3}.get(architecture, 1.5e-4)


def train_preprocessor(
    data: LabelledImages,
    threat: Threat,
    settings: PreprocessorSettings,
    *,
    encoder: nn.Module | None = None,
    head: nn.Module | None = None,
    student: nn.Module | None = None,
    start: Preprocessor | None = None,
    validation: LabelledImages | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> tuple[nn.Module, History]:
    """Train the preprocessor that ``settings`` describe; the labels of ``data`` are never read.

    Args:
        threat: what the inner attack may do, at the objective's radius.
        encoder: the frozen model, for objectives that read it. head: its own classifier, from the encoder's
            features or from logits, for ``distil`` with targets ``head``. student: for ``distil``: one that was trained
            already; a painter alone is trained. start: for the other objectives: a trained preprocessor whose copy is
            trained on, in place of a fresh one.
        validation: images whose reconstruction error joins the history as ``validation_reconstruction``.
        checkpoint, resume, report: see :func:`heirloom.training.loop.train`.

    Returns:
        the module in eval mode ([0, 1] pixels -> [0, 1] pixels) and its history, empty where nothing is trained.

    Raises:
        InputError: the objective reads the frozen model (or its head) and none came.
    """
    require(
        start is None or settings.method != "distil", "start", "None for distil, which has student", "one"
    )
    preprocessor: nn.Module = (
        fresh_preprocessor(data, settings, encoder)
        if start is None
        else deepcopy(start).train().requires_grad_(True)
    )
    if not isinstance(preprocessor, Preprocessor) or settings.objective is None:
        return preprocessor.eval(), []
    if settings.method == "distil":
        assert encoder is not None
        options: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume, "report": report}
        return distil(preprocessor, data, threat, settings, (encoder, head), student=student, **options)
    unlabelled = replace(data, labels=torch.zeros_like(data.labels))
    step = _step(threat, settings, encoder)

    def run(model: nn.Module, training: TrainingSettings, **options: Any) -> History:
        return train(model, unlabelled, step, training, **options)

    both = _ReconstructAndEmbed(preprocessor)
    if _convolves_faster_channels_last(preprocessor, settings.training):
        both.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with synchronised(both):
        history = run(
            both,
            _boxed(both, settings, run, checkpoint),
            after_epoch=_validate(preprocessor, validation, settings.training.batch_size),
            checkpoint=checkpoint,
            resume=resume,
            facts={
                "settings": settings.facts(),
                "threat": asdict(threat),
                **({} if start is None else {"start": module_facts(start)}),
            },
            report=report,
        )
    preprocessor.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return preprocessor.cpu().eval(), history


def fresh_preprocessor(
    data: LabelledImages, settings: PreprocessorSettings, encoder: nn.Module | None = None
) -> nn.Module:
    """The untrained module that ``settings`` describe, for images of ``data``'s shape."""
    _, height, width = data.shape
    wanted = "of square images for a preprocessor (image_size crops those of files)"
    require(settings.method == "identity" or height == width, "data", wanted, f"{height}x{width}")
    if settings.method in TRANSFORMS:
        return build_preprocessor(settings.method, data.shape)
    objective = settings.objective
    if settings.method == "vae":
        return vae_preprocessor(settings.vae, data.shape)
    if objective is None:
        return nn.Identity()
    if objective.needs_model and encoder is None:
        raise InputError("encoder", f"the frozen model, which {settings.method} reads", "none")
    if (reason := PAIRS.get(settings.method)) is not None:
        require(len(data) >= 2, "training images", f"at least 2 for {reason}", len(data))
        size = settings.training.batch_size
        require(size >= 2, "batch_size", f"at least 2 for {reason}", size)
    if settings.method != "distil":
        chosen = settings.architecture
        chosen = architecture_for(data.shape) if chosen == "auto" else chosen
        return build_preprocessor(chosen, data.shape, seed=settings.training.seed)
    with torch.no_grad():
        features = encoder(data.select(torch.arange(1)).images).shape[1]  # type: ignore[misc]
    s = settings.distil
    own = {"student": s.student, "width": s.width, "activation": s.activation, "thumbnail": s.thumbnail}
    own["features"] = features
    return build_preprocessor("student-painter", data.shape, seed=settings.training.seed, **own)


def _convolves_faster_channels_last(preprocessor: Preprocessor, training: TrainingSettings) -> bool:
    """On a GPU; on a CPU in float32 (a step takes some four fifths of the time), not under bfloat16."""
    fits = training.device.startswith("cuda") or training.mixed_precision == "no"
    return fits and isinstance(preprocessor.network, ConvAutoencoder)


def _boxed(
    model: nn.Module, settings: PreprocessorSettings, run: Callable[..., History], checkpoint: Path | None
) -> TrainingSettings:
    """The training settings with the number of steps that was asked for, by count or by minutes."""
    if settings.steps is not None:
        return replace(settings.training, steps=settings.steps[0])
    if settings.minutes is None:
        return settings.training
    kept = checkpoint.with_name("steps.json") if checkpoint is not None else None
    return replace(settings.training, steps=steps_in(settings.minutes, model, settings.training, run, kept))


class _ReconstructAndEmbed(nn.Module):
    """One forward for both outputs: under DistributedDataParallel every pass must go through ``forward``."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.preprocessor = preprocessor

    def forward(self, x: Tensor, x_adv: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction of ``x``, embeddings of ``x`` and of ``x_adv`` (of ``x`` where None)."""
        network: Any = self.preprocessor.network
        latent = network.encode(x)
        z = network.project(latent)
        z_adv = z if x_adv is None else self.preprocessor.embed(x_adv)
        return network.decode(latent), z, z_adv


def _step(threat: Threat, settings: PreprocessorSettings, encoder: nn.Module | None) -> Step:
    objective = settings.objective
    assert objective is not None
    assert objective.loss is not None
    loss, wide = objective.loss, replace(threat, eps=settings.chosen_radius * threat.eps)
    wants_augmentation = settings.augmentation is not None and objective.augments
    frozen = _frozen(encoder) if objective.needs_model and encoder is not None else None
    refolded = Refolded()

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        if wants_augmentation:
            x = augment(x, settings.augmentation, generator)  # type: ignore[arg-type]
        cheap = None if frozen is None else refolded.of(frozen.to(x.device), x)
        return loss(_batch(model, x, wide, settings, cheap, generator))

    return step


def _batch(
    model: nn.Module,
    x: Tensor,
    wide: Threat,
    settings: PreprocessorSettings,
    frozen: nn.Module | None,
    generator: torch.Generator,
) -> Batch:
    inner: Any = unwrapped(model)
    preprocessor: Preprocessor = inner.preprocessor

    def attack(function: Callable[[Tensor], Tensor], reference: Tensor, each: Each) -> Tensor:
        with autocast_as(
            settings.training.mixed_precision, x.device
        ):  # it goes round the forward that is wrapped
            return strongest_nearby(function, x, reference, each, wide, settings.attack_steps, generator)

    def seen_of(made: Tensor) -> Tensor:
        assert frozen is not None
        return frozen(made.clamp(0, 1))

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return seen_of(images)

    return Batch(
        x=x,
        forward=model,
        embed=preprocessor.embed,
        reconstruct=preprocessor.reconstruct,
        seen=lambda images: seen_of(preprocessor.reconstruct(images)),
        seen_of=seen_of,
        features=features,
        attack=attack,
        noisy=lambda: wide.random_start(x, generator),
        weight=settings.chosen_weight,
        temperature=settings.temperature,
        gather=gathered,
        own=own_rows,
        gaussian=lambda: x + settings.sigma * normal(tuple(x.shape), generator, x.device),
    )


def _frozen(encoder: nn.Module) -> nn.Module:
    """In eval mode, its parameters without gradient: nothing in training may touch it."""
    return encoder.eval().requires_grad_(False)


def _validate(
    preprocessor: Preprocessor, validation: LabelledImages | None, batch_size: int
) -> Callable[[nn.Module, int], dict[str, float]] | None:
    if validation is None:
        return None

    @torch.no_grad()
    def measure(model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device
        images = validation.pair[0]
        errors = [
            functional.mse_loss(preprocessor(x.to(device)), x.to(device), reduction="none")
            .mean((1, 2, 3))
            .cpu()
            for x in images.split(batch_size)
        ]
        return {"validation_reconstruction": float(torch.cat(errors).mean())}

    return measure
