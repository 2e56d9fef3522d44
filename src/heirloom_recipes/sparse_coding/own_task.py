"""How a pre-trained network withstands attacks on the very task that it was trained for (part of ``purify``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from heirloom.runtime.randomness import generator_of, seed_of
from heirloom.theory.sparse_coding.attack import contrastive_delta, fgm
from heirloom.theory.sparse_coding.downstream import Effort
from heirloom.theory.sparse_coding.gate_aware import bracket_loss
from heirloom.theory.sparse_coding.losses import (
    contrastive_score,
    intercepts,
    loss_of,
    output_layer,
    supervised_gradient,
)
from heirloom.theory.sparse_coding.network import Scores, activate
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom.theory.sparse_coding.training import Trained, draw_batch

TEST = 4000


@torch.no_grad()
def losses(trained: Trained, effort: Effort) -> dict[str, Tensor]:
    """Test losses of the pre-training task itself, (R,) each: clean, under FGM of .1 and .3, and, on some
    of the examples, what the gate-aware attack adds (``own_gap_0.3_gate_aware``) and no attack exceeds.
    """
    setting = replace(trained.setting, batch=TEST)
    generators = [torch.Generator().manual_seed(seed_of(seed, "purify-test")) for seed in trained.seeds]
    batch = draw_batch(setting, trained.M, generators)
    W, b = trained.W, intercepts(trained.W, setting.c_b)
    if setting.loss == "contrastive":
        return _contrastive_losses(setting, W, b[:, None], batch) | _own_gaps(trained, batch, effort)
    z, y = batch
    a, bs, found = setting.a(), b[:, None], {}
    scale = 50**-0.5 if setting.norm == "Linf" else 1.0
    for eps, name in ((0.0, "clean"), (0.1, "adversarial_0.1"), (0.3, "adversarial_0.3")):
        radius = torch.full((len(W),), eps * scale)
        delta = fgm(lambda point: supervised_gradient(setting, W, a, bs, point, y), z, radius, setting.norm)
        f = activate((z + delta) @ W, bs, setting.activation)[0] @ a
        found[name] = loss_of(setting.loss, f, y)[0].mean(1)
    return found | _own_gaps(trained, batch, effort)


def _own_gaps(trained: Trained, batch: tuple[Tensor, ...], effort: Effort) -> dict[str, Tensor]:
    """What the gate-aware attack adds to the pre-training loss; contrastive: dissimilar pairs alone."""
    found: dict[str, list[float]] = {}
    for run in range(len(trained.W)):
        some = tuple(
            part[run][-effort.points :] for part in batch
        )  # contrastive: the last half is dissimilar
        for label, (adds, limit) in _own_gaps_of(trained, run, some, effort.restarts).items():
            found.setdefault(f"own_gap_{label}_gate_aware", []).append(adds)
            if limit is not None:
                found.setdefault(f"own_gap_{label}_bound", []).append(limit)
    return {name: torch.tensor(values) for name, values in found.items()}


def _own_gaps_of(
    trained: Trained, run: int, batch: tuple[Tensor, ...], restarts: int
) -> dict[str, tuple[float, float | None]]:
    setting, W, b = trained.setting, trained.W[run], trained.b[run]
    z, y = batch[0], batch[-1]
    a = setting.a()
    if setting.loss == "contrastive":
        A = output_layer(setting, W[None])[0]
        a = (activate(batch[1] @ W, b, setting.activation)[0] @ A) @ A.T
    scores = Scores.of(W, b, a, setting.activation)
    scale = 50**-0.5 if setting.norm == "Linf" else 1.0
    generator = generator_of(trained.seeds[run], "own gate-aware")
    how: dict[str, Any] = {"norm": setting.norm, "restarts": restarts, "generator": generator}
    how["dictionary"] = trained.M[run]
    return {
        label: bracket_loss(setting.loss, scores, (z, y), eps * scale, W, **how).gaps()
        for label, eps in (("0.1", 0.1), ("0.3", 0.3))
    }


def _contrastive_losses(
    setting: SparseTraining, W: Tensor, b: Tensor, batch: tuple[Tensor, ...]
) -> dict[str, Tensor]:
    z, other, y = batch
    A, found, half = output_layer(setting, W), {}, y.shape[1] // 2
    for eps in (0.0, 0.1, 0.3):
        delta = contrastive_delta(setting, W, z, other, y, torch.full((len(W),), eps))
        loss = functional.softplus(-y * contrastive_score(setting, W, A, b, z + delta, other))
        found[f"similar_{eps:g}"] = loss[:, :half].mean(1)
        found[f"dissimilar_{eps:g}"] = loss[:, half:].mean(1)
    found["clean"] = (found.pop("similar_0") + found.pop("dissimilar_0")) / 2
    return found
