"""Linear heads on frozen encoders, clean and adversarial: what a downstream task inherits.

Xing et al., AISTATS 2024, section 7: after pre-training the last layer is removed, a new one trained on the
frozen encoder, and the whole attacked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from heirloom.data.augmentation import Augmentation
from heirloom.data.labelled import LabelledImages
from heirloom.heads.adversarial import PASSES, HeadOnFeatures, of_the_passes, of_the_rest
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.memory import fitting
from heirloom.runtime.choices import PassDtype
from heirloom.runtime.errors import require
from heirloom.runtime.identity import deciding, module_facts
from heirloom.threat import Threat
from heirloom.training.best_epoch import BestEpoch
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import OnStep, TrainingSettings, train
from heirloom.training.schedules import divided_at
from heirloom.training.supervised import supervised_step


@dataclass(frozen=True)
class ProbeSettings:
    """How heads are trained.

    Attributes:
        head: the clean head, trained on features computed once. Images are not augmented.
        adversarial: the adversarial head: cross-entropy on adversarial images alone, the attack running
            through the whole model, in the type of ``mixed_precision``. It starts from the clean head, since the
            task is convex in the head and the clean head is the better start.
        attack, augmentation: of the adversarial head.
        validation: share of the training images held out; the epoch of lowest clean loss (clean head), or of
            highest accuracy under ``cascade``'s first look (adversarial head), is kept.
        validation_images: at most so many are attacked after an epoch.
        eval_batch_size: images at once, wherever no step of training says how many; None: as the memory has room
            for (:mod:`heirloom.models.memory`).
        attack_dtype: of the attacks' passes in evaluation; verdicts stay the model's. ``auto``: measured
            (:mod:`heirloom.evaluation.pass_dtype`).
    """

    head: HeadSettings = field(default_factory=HeadSettings)
    adversarial: TrainingSettings = field(
        default_factory=lambda: TrainingSettings(
            epochs=20, batch_size=128, learning_rate=0.1, weight_decay=5e-4
        )
    )
    attack: InnerAttack = field(default_factory=InnerAttack)
    augmentation: Augmentation | None = None
    validation: float = 0.02
    validation_images: int = 1000
    eval_batch_size: int | None = None
    attack_dtype: PassDtype | None = None

    def __post_init__(self) -> None:
        require(0 < self.validation < 1, "validation", "a share between 0 and 1", self.validation)
        require(self.validation_images >= 1, "validation_images", "at least 1", self.validation_images)
        size = self.eval_batch_size
        require(size is None or size >= 1, "eval_batch_size", "at least 1", size)


@dataclass(frozen=True)
class Heads:
    """Linear heads behind one encoder; ``adversarial`` is None where it was not asked for."""

    clean: nn.Linear
    adversarial: nn.Linear | None


def probe(
    encoder: nn.Module,
    data: LabelledImages,
    threat: Threat | None,
    settings: ProbeSettings,
    folder: Path,
    *,
    resume: bool = False,
    report: OnStep | None = None,
) -> Heads:
    """Train heads behind a frozen ``encoder``.

    Args:
        encoder: [0, 1] pixels -> features (N, D); its weights and BatchNorm statistics are left alone.
        threat: None: the clean head alone.
        folder: of the adversarial head's checkpoint.
    """
    seed, device = settings.head.seed, settings.adversarial.device
    encoder = encoder.to(device).eval().requires_grad_(False)
    rest, held_out = data.split(settings.validation, seed=seed)
    size, place = settings.eval_batch_size, folder / f"features-{module_facts(encoder)['weights']}"
    features, validation = (
        extract_features(encoder, part, batch_size=size, device=device, kept=place / name if resume else None)
        for name, part in (("features", rest), ("held-out", held_out))
    )
    clean = train_head(
        features, rest.labels, len(data.classes), settings.head, validation=(validation, held_out.labels)
    )
    if threat is None:
        return Heads(clean, None)
    first = data.select(torch.arange(min(2, len(data)))).images.to(device)
    size = size or fitting(encoder, first, settings.adversarial.batch_size)
    training = settings.adversarial
    model = HeadOnFeatures(encoder, clean, features, size, PASSES.get(training.mixed_precision))
    best_data = held_out.limit(settings.validation_images, seed)
    best = BestEpoch(folder / "best" / "head.safetensors", best_data, threat, resume=resume)
    train(
        model,
        rest,
        supervised_step(settings.augmentation, threat, settings.attack, at_once=size),
        replace(training, mixed_precision=of_the_rest(training.mixed_precision)),
        make_optimizer=lambda parameters: torch.optim.SGD(
            parameters, lr=training.learning_rate, momentum=0.9, weight_decay=training.weight_decay
        ),
        schedule=divided_at([0.5, 0.75]),
        after_epoch=best.measure,
        checkpoint=folder / "checkpoints" / "head.safetensors",
        resume=resume,
        facts={
            "settings": deciding(replace(settings, adversarial=TrainingSettings())),
            "threat": asdict(threat),
            "encoder": module_facts(encoder),
            **of_the_passes(training.mixed_precision),
        },
        report=report,
    )
    best.restore(model)
    return Heads(clean, model.folded())


def with_head(encoder: nn.Module, head: nn.Module) -> Defended:
    """The whole that is attacked: no preprocessor, the encoder, the head."""
    return Defended(nn.Identity(), encoder, head)


def check_encoder(encoder: nn.Module, data: LabelledImages) -> int:
    """The number of features; :class:`InputError` where the encoder does not take these images."""
    with torch.no_grad():
        try:
            features = encoder(data.select(torch.arange(min(2, len(data)))).images)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            require(False, "encoder", f"one for images of shape {data.shape}", reason)
    require(features.ndim == 2, "encoder", "one whose features have shape (N, D)", tuple(features.shape))
    return int(features.shape[1])
