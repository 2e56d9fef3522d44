"""How a two-layer network is pre-trained on sparse coding data (I8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.network import Activation

Loss = Literal["square", "absolute", "logistic", "contrastive"]
AttackNorm = Literal["L2", "Linf"]
Attacked = Literal["all", "similar", "dissimilar"]


@dataclass(frozen=True)
class SparseTraining:
    """One way to train, for all eps and seeds.

    Args:
        batch: examples per step; a contrastive example brings one similar and one dissimilar pair.
        c_b: b_h = c_b norm(W_h), computed anew at each step without a gradient.
        init: W_ij starts as init N(0, 1) / sqrt d; None starts from a built network with exactly
            ``start_m`` features per node and U a = theta, an optimum of the clean loss.
        clean_steps: steps without attack before adversarial training begins.
        theta: every coordinate of theta_0 (3 for the logistic loss makes its labels learnable).
        outputs: ``ones``, the paper's a = 1, or ``signs``, +1 for one half of the nodes and -1 for the other,
            without which a non-negative activation cannot fit a symmetric target.
        attacked: which contrastive pairs the training attack reaches.
        lazy: contrastive only: A = tau W^+ is a constant in the gradient (the paper's lazy training).
    """

    loss: Loss = "square"
    activation: Activation = "gate"
    c_b: float = 0.03
    init: float | None = 0.02
    start_m: int = 5
    steps: int = 2500
    clean_steps: int = 0
    batch: int = 400
    rate: float = 1e-2
    norm: AttackNorm = "L2"
    data: SparseCoding = field(default_factory=lambda: SparseCoding(d=50, k=3, zeta=0.05))
    nodes: int = 250
    sigma: float = 0.1
    theta: float = 1.0
    outputs: Literal["ones", "signs"] = "ones"
    attacked: Attacked = "all"
    lazy: bool = True
    tau: float = 5**0.5
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        require(self.loss in get_args(Loss), "loss", f"one of {', '.join(get_args(Loss))}", self.loss)
        require(self.norm in get_args(AttackNorm), "norm", "L2 or Linf", self.norm)
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        require(
            0 <= self.clean_steps <= self.steps, "clean_steps", f"from 0 to {self.steps}", self.clean_steps
        )

    def a(self) -> Tensor:
        """Output weights (H,), never trained in pre-training."""
        ones = torch.ones(self.nodes)
        if self.outputs == "signs":
            ones[self.nodes // 2 :] = -1
        return ones
