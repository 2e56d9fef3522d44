"""Planted defences that do not answer one question in one way: caches, counters, batches, modes, odd randomness."""

from __future__ import annotations

import hashlib
from copy import deepcopy

import torch
from torch import Tensor, nn

from heirloom.evaluation.broken.base import clean_net


class Around(nn.Module):
    """The undefended net, inside."""

    def __init__(self) -> None:
        super().__init__()
        self.network = deepcopy(clean_net())


class _MemoCache(Around):
    def __init__(self) -> None:
        super().__init__()
        self.known: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        coarse = [image.detach().mul(2).round().cpu().numpy().tobytes() for image in x]
        kept = [self.known.setdefault(key, row.detach()) for key, row in zip(coarse, logits, strict=True)]
        return torch.stack(kept) + 0 * logits if kept else logits


class _CallParity(Around):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x if self.calls % 2 else x.flip(3))


class _TestTimeStatistics(Around):
    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        self.average = 0.9 * self.average + 0.1 * x.detach().mean(0, keepdim=True)
        return self.network(x - self.average)


class _BatchCentring(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x - 0.5 * x.mean(0, keepdim=True))


class _PositionDependent(Around):
    def forward(self, x: Tensor) -> Tensor:
        odd = torch.arange(len(x), device=x.device)[:, None, None, None] % 2 == 1
        return self.network(torch.where(odd, x.flip(3), x))


class _FixedSeedNoise(Around):
    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            noise = torch.randn_like(x)  # other strides are filled in another order
        return self.network(x + 0.2 * noise)


class _ImageSeededNoise(Around):
    def forward(self, x: Tensor) -> Tensor:
        def noise(image: Tensor) -> Tensor:
            seed = hashlib.sha256(image.detach().cpu().numpy().tobytes()).digest()[:4]
            generator = torch.Generator().manual_seed(int.from_bytes(seed, "big"))
            return torch.randn(image.shape, generator=generator).to(image)

        drawn = [noise(image) for image in x]
        return self.network(x + 0.2 * torch.stack(drawn) if drawn else x)


class _GradientModeSwitch(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flip(3) if x.requires_grad else x)


class _Dropout(nn.Dropout):
    def train(self, mode: bool = True) -> nn.Module:  # type: ignore[override]
        return super().train(True)


def memo_cache() -> nn.Module:
    """Answers kept by the rounded image: who asks beside a known image gets the known answer."""
    return _MemoCache().eval()


def call_parity() -> nn.Module:
    """Every second call sees the image mirrored."""
    return _CallParity().eval()


def test_time_statistics() -> nn.Module:
    """The average of the images seen so far is subtracted: the model adapts at test time."""
    return _TestTimeStatistics().eval()


def batch_centring() -> nn.Module:
    """Half of the batch's mean image is subtracted."""
    return _BatchCentring().eval()


def position_dependent() -> nn.Module:
    """Images at odd places of the batch are mirrored."""
    return _PositionDependent().eval()


def fixed_seed_noise() -> nn.Module:
    """Noise from a fixed seed: each place in the batch has its own."""
    return _FixedSeedNoise().eval()


def image_seeded_noise() -> nn.Module:
    """Noise seeded by a digest of the image: another pixel, other noise."""
    return _ImageSeededNoise().eval()


def gradient_mode_switch() -> nn.Module:
    """Mirrors the image when it requires a gradient."""
    return _GradientModeSwitch().eval()


def dropout_left_on() -> nn.Module:
    """A dropout layer that eval() does not reach."""
    return nn.Sequential(_Dropout(0.3), deepcopy(clean_net())).eval()
