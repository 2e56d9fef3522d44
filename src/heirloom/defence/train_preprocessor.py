"""Training a preprocessor: without labels and without the foundation model (CRoPD's Algorithm 1, line 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import squared_distance
from heirloom.data.augmentation import Augmentation, augment
from heirloom.data.labelled import LabelledImages
from heirloom.models.preprocessor import Preprocessor, build_preprocessor
from heirloom.objectives.arae import arae
from heirloom.objectives.cropd import adversarial_contrastive, cropd
from heirloom.runtime.errors import require
from heirloom.threat import Threat
from heirloom.training.loop import History, TrainingSettings, train, unwrapped

Method = Literal["identity", "vanilla", "noise", "arae", "cropd"]
METHODS: tuple[str, ...] = get_args(Method)
NOISE_FACTOR = 1.5  # the noise method's amplitude in eps


@dataclass(frozen=True)
class DefenceSettings:
    """How a preprocessor is made.

    Attributes:
        method: ``identity`` (nothing in front), ``vanilla`` (reconstruction alone), ``noise`` (reconstruction
            from uniform noise of 1.5 eps: what training without an attack gives), ``arae`` (Salehi et al.),
            ``cropd``.
        architecture: see :func:`heirloom.models.preprocessor.build_preprocessor`.
        weight: lambda of CRoPD, gamma of ARAE. None: 10 and 0.1, the papers' values.
        temperature: tau of the contrastive loss.
        augmentation: of ``vanilla``, ``noise`` and ``cropd`` (Table 5), never of ``arae``. None: none.
        training: epochs, batch size, learning rate, seed, device, precision.
    """

    method: Method = "cropd"
    architecture: str = "mlp"
    weight: float | None = None
    temperature: float = 0.5
    augmentation: Augmentation | None = None
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        require(self.method in METHODS, "method", f"one of {', '.join(METHODS)}", self.method)
        require(self.weight is None or self.weight >= 0, "weight", "at least 0", self.weight)
        require(self.temperature > 0, "temperature", "above 0", self.temperature)

    @property
    def chosen_weight(self) -> float:
        return self.weight if self.weight is not None else {"arae": 0.1, "cropd": 10.0}.get(self.method, 0.0)


def train_preprocessor(
    data: LabelledImages,
    threat: Threat,
    settings: DefenceSettings,
    *,
    validation: LabelledImages | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    report: Callable[[int, int, dict[str, float]], None] | None = None,
) -> tuple[nn.Module, History]:
    """Train the preprocessor that ``settings`` describe; the labels of ``data`` are never read.

    Args:
        threat: what the inner attack may do.
        validation: images whose reconstruction error joins the history as ``validation_reconstruction``.
        checkpoint, resume, report: see :func:`heirloom.training.loop.train`.

    Returns:
        the module in eval mode ([0, 1] pixels -> [0, 1] pixels) and its history, empty for ``identity``.
    """
    preprocessor = fresh_preprocessor(data, settings)
    if not isinstance(preprocessor, Preprocessor):
        return preprocessor.eval(), []
    both = _ReconstructAndEmbed(preprocessor)
    unlabelled = replace(data, labels=torch.zeros_like(data.labels))
    history = train(
        both,
        unlabelled,
        _step(threat, settings),
        settings.training,
        after_epoch=_validate(preprocessor, validation, settings.training.batch_size),
        checkpoint=checkpoint,
        resume=resume,
        identity={**asdict(settings), "training": None, "threat": asdict(threat)},
        report=report,
    )
    return preprocessor.cpu().eval(), history


def fresh_preprocessor(data: LabelledImages, settings: DefenceSettings) -> nn.Module:
    """The untrained module that ``settings`` describe, for images of ``data``'s shape."""
    if settings.method == "identity":
        return nn.Identity()
    require(
        settings.method != "cropd" or min(len(data), settings.training.batch_size) >= 2,
        "batch_size",
        "at least 2 for a contrastive loss",
        settings.training.batch_size,
    )
    return build_preprocessor(settings.architecture, data.shape, seed=settings.training.seed)


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


class _Embed(nn.Module):
    """The embedding alone, for the attack: it has no use for the decoder."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        super().__init__()
        self.preprocessor = preprocessor

    def forward(self, x: Tensor) -> Tensor:
        return self.preprocessor.embed(x)


def _step(threat: Threat, settings: DefenceSettings) -> Callable[..., dict[str, Tensor]]:
    steps = {"vanilla": _vanilla, "noise": _noise, "arae": _arae, "cropd": _cropd}
    return lambda model, x, y, generator: steps[settings.method](
        model, _augmented(x, settings, generator), generator, threat, settings
    )


def _augmented(x: Tensor, settings: DefenceSettings, generator: torch.Generator) -> Tensor:
    if settings.augmentation is None or settings.method == "arae":
        return x
    return augment(x, settings.augmentation, generator)


def _vanilla(
    model: nn.Module, x: Tensor, generator: torch.Generator, threat: Threat, settings: DefenceSettings
) -> dict[str, Tensor]:
    reconstruction, z, _ = model(x)
    # 0 * z: the projector takes part in no loss, which DistributedDataParallel would call an error
    error = functional.mse_loss(reconstruction, x)
    return {"loss": error + 0 * z.sum(), "reconstruction": error}


def _noise(
    model: nn.Module, x: Tensor, generator: torch.Generator, threat: Threat, settings: DefenceSettings
) -> dict[str, Tensor]:
    noisy = replace(threat, eps=NOISE_FACTOR * threat.eps).random_start(x, generator)
    reconstruction, z, _ = model(noisy)
    error = functional.mse_loss(reconstruction, x)
    return {"loss": error + 0 * z.sum(), "reconstruction": error}


def _cropd(
    model: nn.Module, x: Tensor, generator: torch.Generator, threat: Threat, settings: DefenceSettings
) -> dict[str, Tensor]:
    embed = _Embed(_preprocessor(model))
    with torch.no_grad():
        reference = embed(x)
    x_adv = fgsm(
        embed,
        x,
        reference,
        threat,
        random_start=True,
        generator=generator,
        loss=lambda z_adv, z: adversarial_contrastive(z, z_adv, settings.temperature),
    )
    reconstruction, z, z_adv = model(x, x_adv)
    return cropd(reconstruction, x, z, z_adv, weight=settings.chosen_weight, temperature=settings.temperature)


def _arae(
    model: nn.Module, x: Tensor, generator: torch.Generator, threat: Threat, settings: DefenceSettings
) -> dict[str, Tensor]:
    embed = _Embed(_preprocessor(model))
    with torch.no_grad():
        reference = embed(x)
    x_adv = fgsm(embed, x, reference, threat, random_start=True, generator=generator, loss=squared_distance)
    reconstruction_adv, z_adv, z = model(x_adv, x)
    return arae(reconstruction_adv, x, z, z_adv, gamma=settings.chosen_weight)


def _preprocessor(model: nn.Module) -> Preprocessor:
    inner: Any = unwrapped(model)
    return inner.preprocessor


def _validate(
    preprocessor: Preprocessor, validation: LabelledImages | None, batch_size: int
) -> Callable[[nn.Module, int], dict[str, float]] | None:
    if validation is None:
        return None

    @torch.no_grad()
    def measure(model: nn.Module, epoch: int) -> dict[str, float]:
        device = next(model.parameters()).device
        images = validation.images
        errors = [
            functional.mse_loss(preprocessor(x.to(device)), x.to(device), reduction="none")
            .mean((1, 2, 3))
            .cpu()
            for x in images.split(batch_size)
        ]
        return {"validation_reconstruction": float(torch.cat(errors).mean())}

    return measure
