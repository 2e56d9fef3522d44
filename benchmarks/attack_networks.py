"""The networks that ``benchmarks/attacks.py`` attacks, trained for a few minutes so that verdicts mean something.

Adversarially (FGSM with random start: Wong, Rice and Kolter, ICLR 2020) on CIFAR-10, far from the state of the art:
what matters is that some examples are robust and some are not. Weights are kept beside the results that need them.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from heirloom.attacks import fgsm
from heirloom.data.labelled import LabelledImages
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.networks.resnet import ResNet
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.threat import Threat

NAMES = ("resnet18", "resnet18-w16", "vit-mae", "vit-mae-384")


class ViTMAEPipeline(nn.Module):
    """A Transformers ViT-MAE encoder at 32x32 that masks nothing and keeps the tokens' order, mean and head."""

    def __init__(self, width: int = 96, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        from transformers import ViTMAEConfig, ViTMAEModel

        config = ViTMAEConfig(
            image_size=32,
            patch_size=4,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            mask_ratio=0.0,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.encoder = ViTMAEModel(config)
        self.head = nn.Linear(config.hidden_size, 10)
        # without fixed noise the model shuffles its tokens at random, in eval mode too
        self.register_buffer("noise", torch.linspace(0, 1, (32 // 4) ** 2))

    def forward(self, x: Tensor) -> Tensor:
        noise = self.noise.expand(len(x), -1)  # type: ignore[operator]
        hidden = self.encoder((x - 0.5) / 0.25, noise=noise).last_hidden_state
        return self.head(hidden[:, 1:].mean(1))


def frozen_resnet(depths: list[int], layer: str) -> nn.Module:
    """A ResNet of Transformers with random weights, read as ``heirloom defend`` reads a foundation, and a head."""
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes = [64, 128, 256, 512] if layer == "basic" else [256, 512, 1024, 2048]
    config = ResNetConfig(depths=depths, hidden_sizes=sizes, layer_type=layer, num_labels=10)
    with tempfile.TemporaryDirectory() as folder:
        ResNetForImageClassification(config).save_pretrained(folder)
        return load_encoder(EncoderSettings(folder, pooling="logits", normalisation="imagenet"))


def network(name: str) -> nn.Module:
    if name == "vit-mae":
        return ViTMAEPipeline()
    if name == "vit-mae-384":
        return ViTMAEPipeline(width=384, layers=6, heads=6)
    width = 16 if name.endswith("w16") else 64
    return ResNet((width, 2 * width, 4 * width, 8 * width), (2, 2, 2, 2), classes=10)


def trained(name: str, weights: Path, data: LabelledImages, *, seconds: float, seed: int = 0) -> nn.Module:
    """The network with the weights of ``weights``, trained for ``seconds`` first where that file is absent."""
    torch.manual_seed(seed)
    model = network(name)
    if weights.exists():
        model.load_state_dict(read_tensors(weights)[0])
        return model.eval()
    train(model, data, seconds, seed)
    write_tensors(weights, model.state_dict())
    return model.eval()


def train(model: nn.Module, data: LabelledImages, seconds: float, seed: int) -> None:
    """FGSM with random start at eps = 4/255 for so many seconds, learning rate falling linearly to 0."""
    x, y = data.limit(20_000).images, data.limit(20_000).labels
    threat, generator = Threat("Linf", 4 / 255), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-4)
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        optimiser.param_groups[0]["lr"] = 2e-3 * (1 - spent / seconds) + 1e-5
        index = torch.randint(0, len(x), (128,), generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            image = fgsm(model, x[index], y[index], threat, random_start=True, generator=generator)
            loss = nn.functional.cross_entropy(model(image).float(), y[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
