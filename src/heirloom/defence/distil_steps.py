"""The steps of ``distil``: the student under attack against cached features, and the painter behind it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from heirloom.data.augmentation import Augmentation, augment
from heirloom.defence.inner import strongest_nearby
from heirloom.defence.settings import PreprocessorSettings
from heirloom.networks.student_painter import StudentPainter
from heirloom.networks.synchronised import gathered
from heirloom.objectives.distil import likeness, logit_each, painter, prototypes, student_each
from heirloom.objectives.objective import Each, squared_error
from heirloom.runtime.devices import autocast_as
from heirloom.runtime.errors import InputError
from heirloom.runtime.randomness import generator_of, normal, uniform
from heirloom.threat import Threat
from heirloom.training.loop import Losses, Step, unwrapped
from heirloom.training.refolded import Refolded

FEATURE_NOISE = 0.1  # of the features' deviation, on the codes that the painter learns from


class Share:
    """How much of a phase is done, in [0, 1)."""

    done = 0.0

    def tell(self, done: float) -> None:
        self.done = done


def attacked_share(done: float, delay: float) -> float:
    """The share of the radius that the attack has when ``done`` of the training is: 0, then rising to 1."""
    return 1.0 if delay == 0 else min(1.0, max(0.0, done / delay - 1))


def student_step(
    targets: Tensor,
    threat: Threat,
    settings: PreprocessorSettings,
    head: nn.Module | None,
    share: Share,
) -> Step:
    each, held = _each(targets, settings, head), {targets.device: targets}
    refolded = Refolded()

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        x = augment(x, own_augmentation(tuple(x.shape[1:])), generator)
        if y.device not in held:  # once: a GPU would have to stop for indices that the CPU must know
            held[y.device] = targets.to(y.device)
        target, inner = held[y.device][y], unwrapped(model)
        reach = settings.chosen_radius * attacked_share(share.done, settings.distil.delay)
        if reach > 0:
            wide = replace(threat, eps=reach * threat.eps)
            inner.eval()  # running statistics under attack, the batch's when trained
            attacked = refolded.of(inner, x)
            x = strongest_nearby(attacked, x, target, each, wide, settings.attack_steps, generator)
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


def painter_step(
    network: StudentPainter,
    encoder: nn.Module,
    threat: Threat,
    settings: PreprocessorSettings,
    head: nn.Module | None,
) -> Step:
    own = head if settings.distil.targets == "head" else None
    spread, count = network.painter.deviation, network.settings.features
    refolded = Refolded()

    def step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Losses:
        network.student.to(x.device).eval()
        cheap = refolded.of(encoder.to(x.device), x)
        moved = _moved(network, cheap, x, threat, settings, generator)
        with torch.no_grad():
            latent = network.encode(moved)
            q = latent[:, :count] + FEATURE_NOISE * spread.to(x.device) * normal(
                (len(x), count), generator, x.device
            )
        made = model(torch.cat([q, latent[:, count:]], 1))
        with autocast_as(settings.training.mixed_precision, x.device):  # it is not what is wrapped
            seen = cheap(made).float()
        loss = painter(gathered(seen), gathered(q))
        if own is not None:
            loss = loss + logit_each(own.to(x.device)(seen), own(q)).mean()
        told = {"painter": loss}
        if settings.distil.fidelity > 0:
            told["likeness"] = likeness(made, x)
            loss = loss + settings.distil.fidelity * told["likeness"]
        return {"loss": loss, **told}

    return step


def _moved(
    network: StudentPainter,
    encoder: nn.Module,
    x: Tensor,
    threat: Threat,
    settings: PreprocessorSettings,
    generator: torch.Generator,
) -> Tensor:
    """Half of the images ``x`` as they lie under attack: at a random corner of the ball where features are all that
    the painter sees (the student has met the attack in its training), else where the frozen model sees the paintings
    least as the student says, by one step through all of it: a thumbnail is a way round the student.
    """
    half = uniform(x.shape[:1], generator, x.device).view(-1, 1, 1, 1) < 0.5
    if network.settings.thumbnail == 0:
        corner = threat.eps * (uniform(x.shape, generator, x.device) - 0.5).sign()
        return torch.where(half, threat.project(x + corner, x), x)
    with torch.no_grad():
        said = network.student(x)
    network.painter.to(x.device)

    def seen(images: Tensor) -> Tensor:
        return encoder(network.decode(network.encode(images))).float()

    with autocast_as(settings.training.mixed_precision, x.device):  # round the forward that is wrapped
        steps = settings.attack_steps
        attacked = strongest_nearby(seen, x, said, squared_error, threat, steps, generator)
    return torch.where(half, attacked, x)
