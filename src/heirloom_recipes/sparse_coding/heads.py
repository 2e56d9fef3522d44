"""Heads fitted clean (least squares) on frozen nodes to new theta, and what FGM adds to their square loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from heirloom.theory.sparse_coding.built import Kind
from heirloom.theory.sparse_coding.downstream import ridge_head
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom.theory.sparse_coding.settings import Loss
from heirloom_recipes.sparse_coding.supervised_statements import RATIOS, SIGMA, Losses, losses_of
from heirloom_recipes.sparse_coding.theorem_setting import TheoremSetting, inputs_of, network_of

Layer = tuple[Tensor, Tensor]  # U (d, H) and b (H,)
Gaps = dict[str, dict[float, Losses]]  # by theta and eps over c_b


@dataclass(frozen=True)
class Tasks:
    """theta (d,) by name; inputs x and z to attack, with Y by the same names."""

    thetas: Mapping[str, Tensor]
    inputs: tuple[Tensor, Tensor]
    ys: Mapping[str, Tensor]

    @classmethod
    def of(cls, setting: TheoremSetting, thetas: Mapping[str, Tensor], generator: torch.Generator) -> Tasks:
        x, z = inputs_of(setting, generator)
        noise = SIGMA * torch.randn(len(x), generator=generator)
        return cls(thetas, (x, z), {name: x @ theta + noise for name, theta in thetas.items()})


def new_thetas(d: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Three kinds of theta that pre-training did not have, and its own."""
    size = 0.5 + torch.rand(d, generator=generator)
    signs = torch.randint(0, 2, (d,), generator=generator) * 2 - 1
    normal = torch.randn(d, generator=generator)
    return {"U(.5, 1.5)": size, "+-U(.5, 1.5)": size * signs, "N(0, 1)": normal, "1": torch.ones(d)}


@dataclass(frozen=True)
class Heads:
    """``best``: a*, which minimises the expected clean loss. Noise in Y that does not depend on x does not move that
    minimum but moves what a sample gives, so a* is fitted to theta^T X itself, on ``plenty`` of examples. ``sampled``:
    fitted to examples of Y."""

    best: Gaps
    sampled: Gaps


def heads_on(setting: TheoremSetting, tasks: Tasks, kind: Kind, m: int, generator: torch.Generator) -> Heads:
    layer = network_of(setting, m, kind, generator)
    best = fitted(setting, tasks, layer, setting.plenty, 0.0, generator)
    return Heads(best, fitted(setting, tasks, layer, setting.fitted, SIGMA, generator))


def fitted(
    setting: TheoremSetting,
    tasks: Tasks,
    layer: Layer,
    examples: int,
    sigma: float,
    generator: torch.Generator,
) -> Gaps:
    """Heads from ``examples`` of x with Y = theta^T x + N(0, sigma^2), attacked on the tasks' inputs."""
    x, z = inputs_of(replace(setting, inputs=examples), generator)
    y = x @ torch.stack([*tasks.thetas.values()], 1)
    y = y + sigma * torch.randn(y.shape, generator=generator)
    heads = ridge_head(activate(z @ layer[0], layer[1])[0], y)
    gaps: Gaps = {}
    for (name, theta), head in zip(tasks.thetas.items(), heads.T, strict=True):
        ys: dict[Loss, Tensor] = {"square": tasks.ys[name]}
        found = losses_of(Scores.of(*layer, head), tasks.inputs, ys, theta, setting.c_b, RATIOS)
        gaps[name] = {ratio: part for (_, ratio), part in found.items()}
    return gaps
