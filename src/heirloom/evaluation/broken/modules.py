"""What the planted defences are made of. Each hides the gradient in its own way; none adds robustness."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# the luminance table of the JPEG standard (ITU-T T.81, Annex K)
LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]


class Quantise(nn.Module):
    """Pixels rounded to ``levels`` values (Guo et al. 2018, bit-depth reduction)."""

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        return (x * (self.levels - 1)).round() / (self.levels - 1)


class JpegRounding(nn.Module):
    """The lossy step of JPEG: cosine coefficients of 8x8 blocks, rounded (Dziugaite et al. 2016)."""

    basis: Tensor
    table: Tensor

    def __init__(self, coarseness: float = 1.5) -> None:
        super().__init__()
        k = torch.arange(8, dtype=torch.float64)
        basis = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / 16) / 2
        basis[0] /= 2**0.5
        self.register_buffer("basis", basis.float())
        self.register_buffer("table", torch.tensor(LUMINANCE) * coarseness)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x * 255 - 128
        coefficients = self.basis @ blocks @ self.basis.T
        rounded = (coefficients / self.table).round() * self.table
        return ((self.basis.T @ rounded @ self.basis + 128) / 255).clamp(0, 1)


class RandomResizePad(nn.Module):
    """Shrunk to a random side, padded at random places (Xie et al. 2018)."""

    def __init__(self, smallest: int = 6) -> None:
        super().__init__()
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        side = int(torch.randint(self.smallest, size + 1, ()))
        left, top = (int(torch.randint(0, size - side + 1, ())) for _ in range(2))
        small = functional.interpolate(x, (side, side), mode="bilinear", align_corners=False)
        return functional.pad(small, (left, size - side - left, top, size - side - top))


class NoiseInjection(nn.Module):
    """Fresh Gaussian noise on every pixel at every forward pass (Liu et al. 2018; He et al. 2019)."""

    def __init__(self, sd: float = 0.2) -> None:
        super().__init__()
        self.sd = sd

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sd * torch.randn_like(x)


class DetachedSmoothing(nn.Module):
    """A 3x3 median filter outside autograd (Xu et al. 2018, spatial smoothing)."""

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x.detach(), (1, 1, 1, 1), mode="reflect")
        patches = padded.unfold(2, 3, 1).unfold(3, 3, 1)
        return 0.5 * patches.flatten(4).median(-1).values + 0.5 * x.detach()


class AntiAdversary(nn.Module):
    """Before classifying, moves the image by ``steps`` sign steps towards its own predicted class.

    Alfarra et al., "Combating adversaries with anti-adversaries", AAAI 2022: an optimisation inside the
    forward pass.
    """

    def __init__(self, classifier: nn.Module, steps: int = 2, step_size: float = 0.1) -> None:
        super().__init__()
        self.classifier, self.steps, self.step_size = classifier, steps, step_size

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            moved = x.detach().requires_grad_()
            predicted = self.classifier(moved).argmax(1)
            for _ in range(self.steps):
                loss = functional.cross_entropy(self.classifier(moved), predicted, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, moved)
                moved = (moved - self.step_size * gradient.sign()).detach().requires_grad_()
        return x + (moved - x).detach()


class _TinyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 1e-30


class TinyGradient(nn.Module):
    """Passes its input on and divides the gradient by 1e30."""

    def forward(self, x: Tensor) -> Tensor:
        return _TinyGradient.apply(x)


class RandomScale(nn.Module):
    """Logits times a random factor between 1/10 and 10, drawn for each example at every pass."""

    def forward(self, logits: Tensor) -> Tensor:
        exponent = torch.rand(len(logits), 1, device=logits.device) * 2 - 1
        return logits * 10**exponent


class Scale(nn.Module):
    """Logits times a constant: at 10000 the softmax is exactly 0 or 1 in float32."""

    def __init__(self, factor: float = 1e4) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.factor


class WinnersTakeAll(nn.Module):
    """Keeps the largest ``share`` of an example's activations (k-winners-take-all: Xiao et al. 2020).

    Its output jumps wherever the set of winners changes, so the gradient does not foretell the loss.
    """

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        kept = max(1, round(self.share * flat.shape[1]))
        threshold = flat.topk(kept, dim=1).values[:, -1:]
        return (flat * (flat >= threshold)).view_as(x)


class AlwaysTraining(nn.Module):
    """Wraps a network and keeps it in train mode whatever it is told."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def train(self, mode: bool = True) -> AlwaysTraining:
        return super().train(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


class RandomlyMasked(nn.Module):
    """A small Transformers ViT-MAE as encoder with its default behaviour: patches masked at random, in eval
    mode too. The tokens of the visible patches go back to their places, zeros to the masked ones."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTMAEConfig, ViTMAEModel

        config = ViTMAEConfig(
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=96,
            image_size=8,
            patch_size=2,
            num_channels=1,
            mask_ratio=0.25,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.backbone = ViTMAEModel(config)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        found = self.backbone(2 * x - 1, noise=noise)
        tokens = found.last_hidden_state[:, 1:]  # the visible ones, shuffled
        hidden = tokens.new_zeros(len(x), found.ids_restore.shape[1] - tokens.shape[1], tokens.shape[2])
        order = found.ids_restore[..., None].expand(-1, -1, tokens.shape[2])
        return torch.cat([tokens, hidden], 1).gather(1, order).flatten(1)
