"""Networks by name, with normalisation inside: [0, 1] pixels -> features; saved and loaded as encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.runtime.choices import Activation
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json, read_tensors, write_json, write_tensors

FORMAT = "heirloom-encoder-1"


@dataclass(frozen=True)
class BackboneSettings:
    """What it takes to build a network again.

    Attributes:
        network: one of :func:`network_names`; a ResNet and airbench also with the width of its first stage,
            ``resnet18-w16``.
        channels, image_size: of the images it is made for.
        mean, std: per channel, subtracted and divided by inside the network; None: pixels as they are.
        features, width, activation: of a student of ``distil`` alone: of the foundation whose features it says, and
            its own (None: as students were before they could choose).
    """

    network: str
    channels: int = 3
    image_size: int = 32
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    features: int | None = None
    width: int | None = None
    activation: Activation | None = None

    def __post_init__(self) -> None:
        base, width = _sized(self.network)
        known = base in _BODIES and (width is None or base in (*_RESNETS, "airbench"))
        allowed = f"one of {', '.join(_BODIES)}, a ResNet or airbench also as NAME-wWIDTH (resnet18-w16)"
        require(known and width != 0, "network", allowed, self.network)
        require(self.channels in (1, 3), "channels", "1 or 3", self.channels)


class Backbone(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> features (N, feature_size); ``notes`` say how it was trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, settings: BackboneSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("mean", _per_channel(settings.mean, 0.0), persistent=False)
        self.register_buffer("std", _per_channel(settings.std, 1.0), persistent=False)
        self.body = _BODIES[_sized(settings.network)[0]](settings)
        self.feature_size = int(self.body.feature_size)  # type: ignore[arg-type]
        self.notes: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.body((x - self.mean) / self.std)

    def save_pretrained(self, folder: str | Path) -> None:
        """What a Transformers model has, so that either kind is saved in the same way."""
        save_backbone(Path(folder), self)


def network_names() -> tuple[str, ...]:
    return tuple(_BODIES)


def build_backbone(settings: BackboneSettings, *, seed: int = 0) -> Backbone:
    """A fresh network; its initial weights come from ``seed`` and torch's global state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Backbone(settings)


def save_backbone(folder: Path, backbone: Backbone, notes: dict[str, Any] | None = None) -> None:
    """Write ``model.safetensors`` and then ``config.json``; ``notes`` (default: its own) say how it was trained."""
    write_tensors(folder / "model.safetensors", backbone.state_dict())
    told = backbone.notes if notes is None else notes
    write_json(folder / "config.json", {"format": FORMAT, **asdict(backbone.settings), "notes": told})


def is_saved_backbone(folder: str | Path) -> bool:
    """Whether ``folder`` is an encoder that :func:`save_backbone` wrote."""
    path = Path(folder) / "config.json"
    return path.is_file() and read_json(path).get("format") == FORMAT


def load_backbone(folder: str | Path) -> Backbone:
    """The network that :func:`save_backbone` wrote; :class:`InputError` where the files are not that."""
    path = Path(folder)
    config = read_json(path / "config.json")
    require(
        isinstance(config, dict) and config.get("format") == FORMAT,
        f"{path}/config.json",
        f"an encoder's description ({FORMAT})",
        str(config)[:80],
    )
    try:
        settings = BackboneSettings(
            config["network"],
            config["channels"],
            config["image_size"],
            tuple(config["mean"]) if config["mean"] else None,
            tuple(config["std"]) if config["std"] else None,
            features=config.get("features"),
            width=config.get("width"),
            activation=config.get("activation"),
        )
        backbone = build_backbone(settings)
        backbone.load_state_dict(read_tensors(path / "model.safetensors")[0])
        backbone.notes = config.get("notes", {})
    except (KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(str(path), "a whole encoder", f"files that do not fit: {reason}") from None
    return backbone.eval()


def _per_channel(values: tuple[float, ...] | None, default: float) -> Tensor:
    return torch.tensor(values or (default,), dtype=torch.float32).view(1, -1, 1, 1)


def _sized(network: str) -> tuple[str, int | None]:
    """``resnet18-w16`` -> (``resnet18``, 16); a name without a width -> (the name, None)."""
    base, mark, width = network.rpartition("-w")
    return (base, int(width)) if mark and width.isdecimal() else (network, None)


def _resnet(s: BackboneSettings) -> nn.Module:
    from heirloom.networks import resnet

    base, width = _sized(s.network)
    name, _, stem = base.partition("-")
    options: dict[str, Any] = {"stem": stem} if stem == "7x7" else {}  # ResNet-10 has its own
    options |= {"width": width} if width is not None else {}
    return getattr(resnet, name)(channels=s.channels, **options)


def _preact_resnet18(s: BackboneSettings) -> nn.Module:
    from heirloom.networks.preact_resnet import preact_resnet18

    return preact_resnet18(s.channels)


def _wide_resnet_34_10(s: BackboneSettings) -> nn.Module:
    from heirloom.networks.wide_resnet import wide_resnet

    return wide_resnet(34, 10, s.channels)


def _airbench(s: BackboneSettings) -> nn.Module:
    from heirloom.networks.airbench import Airbench

    require(
        s.image_size >= 9, "image_size", "at least 9 for airbench, which halves it three times", s.image_size
    )
    return Airbench(_sized(s.network)[1] or 64, s.channels)


def _student(kind: str) -> Callable[[BackboneSettings], nn.Module]:
    def build(s: BackboneSettings) -> nn.Module:
        from heirloom.networks.student_painter import Student, StudentPainterSettings

        require(s.features is not None, "features", "given for a student", s.features)
        own = StudentPainterSettings(
            image_size=s.image_size,
            channels=s.channels,
            features=s.features or 0,
            student=kind,
            width=s.width or 32,
            activation=s.activation or "relu",
        )
        return Student(own)

    return build


def _vit_tiny(s: BackboneSettings) -> nn.Module:
    from heirloom.networks.vit import vit_tiny

    return vit_tiny(s.image_size, s.channels)


_RESNETS = ("resnet18", "resnet18-7x7", "resnet8", "resnet8-7x7", "resnet10-6x6")
_BODIES: dict[str, Callable[[BackboneSettings], nn.Module]] = {
    **dict.fromkeys(_RESNETS, _resnet),
    "preact-resnet18": _preact_resnet18,
    "wide-resnet-34-10": _wide_resnet_34_10,
    "vit-tiny": _vit_tiny,
    "airbench": _airbench,
    "student-resnet10": _student("resnet10"),
    "student-resnet18": _student("resnet18"),
}
