"""Planted accidents and published kinds: what ``eval()`` does not reach, votes over noise, sawtooth margins."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.evaluation.broken.base import clean_net
from heirloom.evaluation.broken.inconsistent import Around
from heirloom.models.defended import Defended

DRAWS, DEVIATION = 16, 0.2
PERIOD = 0.6  # of the margin
KEPT = 20  # templates of a class


class _ListOfMembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = [nn.Sequential(nn.Dropout(0.3), deepcopy(clean_net()).eval()) for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


class _VoteOverNoise(Around):
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        noise = torch.randn(DRAWS, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", DEVIATION * noise)

    def forward(self, x: Tensor) -> Tensor:
        each = self.network((x[:, None] + self.noise).flatten(0, 1)).view(len(x), DRAWS, -1)
        votes = functional.one_hot(each.argmax(2), each.shape[2]).float().mean(1)
        ties: Tensor = votes - 1e-4 * torch.arange(votes.shape[1], device=x.device)
        return ties


class _GrowingTemplates(Around):
    """Beside the logits, how near an image's lie to those of earlier ones of the same prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.templates: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        if not self.templates:
            self.templates = list(torch.eye(logits.shape[1], device=x.device)[:, None])
        shown = functional.normalize(logits, dim=1)
        for k, (row, found) in enumerate(zip(shown.detach(), logits.argmax(1).tolist(), strict=True)):
            if k < KEPT:
                self.templates[found] = torch.cat([self.templates[found], row[None]])[-KEPT:]
        centres = torch.stack([functional.normalize(kept.mean(0), dim=0) for kept in self.templates])
        return 10 * shown @ centres.T

    def get_extra_state(self) -> Any:
        return {"kept": KEPT}  # no tensor

    def set_extra_state(self, state: Any) -> None:
        pass


class _SawtoothMargin(Around):
    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        top = logits.topk(2, dim=1)
        margin = top.values[:, 0] - top.values[:, 1]
        tooth = torch.floor(margin / PERIOD)
        shown = PERIOD * (2 * tooth + 1) - margin  # falls within a tooth, and rises from one to the next
        here: Tensor = functional.one_hot(top.indices[:, 0], logits.shape[1]) * (shown - margin)[:, None]
        return logits + here


class _Float8Features(Around):
    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.network, Defended)
        logits: Tensor = self.network.head(self.network.encoder(x).to(torch.float8_e4m3fn).float())
        return logits


def list_of_members() -> nn.Module:
    """An ensemble in a list: `eval()` does not reach its members, and dropout stays on."""
    return _ListOfMembers().eval()


def vote_over_noise() -> Around:
    """The shares of votes over fixed noise, ties broken by a trace (smoothing, Cohen et al. 2019, in one pass)."""
    return _VoteOverNoise().eval()


def growing_templates() -> Around:
    """Each image joins its predicted class's templates, which classify (Iwasawa and Matsuo 2021); extra state."""
    return _GrowingTemplates().eval()


def sawtooth_margin() -> Around:
    """The margin follows a sawtooth that falls where it should rise (Chen et al. 2022); the decision stays."""
    return _SawtoothMargin().eval()


def float8_features() -> Around:
    """Features in eight-bit floating point: what cross-entropy sends back underflows there."""
    return _Float8Features().eval()
