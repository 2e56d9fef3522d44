"""What an objective of a defence is: a loss on tensors, with what it needs, costs and gives written beside it.

An objective is a file of this room that ends in ``OBJECTIVE = Objective(...)``, a line in
:mod:`heirloom.objectives.defences` and a test. The training (``heirloom.defence``) hands it a :class:`Batch`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Access = Literal["images", "images and model"]
Each = Callable[[Tensor, Tensor], Tensor]  # (output, reference) -> one value an example, (N,)
Losses = dict[str, Tensor]
Setting = Literal["weight", "radius", "attack_steps", "temperature", "sigma"]


@dataclass(frozen=True)
class Batch:
    """One training batch and what may be done with it.

    Attributes:
        x: images (N, C, H, W) in [0, 1], augmented where the objective wants it.
        forward: ``forward(x, x_adv=None)`` -> reconstruction of ``x`` before it is clamped, latents of ``x``, and
            of ``x_adv`` (of ``x`` where None); the pass that is trained.
        embed, reconstruct, seen: the preprocessor's latents, its reconstruction, and the frozen model's features
            of what the preprocessor hands over, each a function that :attr:`attack` can follow.
        seen_of: the frozen model's features of a reconstruction, clamped; with gradient.
        features: the frozen model's features of images, without gradient.
        attack: ``attack(function, reference, each)``: images within ``radius`` eps of ``x`` on which
            ``each(function(x'), reference)`` is higher: one step of 1.25 radius from a random start.
        noisy: uniform noise of ``radius`` eps on ``x``. gaussian: Gaussian noise of standard deviation sigma on it.
        weight, temperature: the objective's, or the user's.
        gather: rows (N, D) of all processes that share the batch, differentiable; ``own``: this process's of them. For
            losses that compare images with each other, or divide by a mean over them.
    """

    x: Tensor
    forward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    embed: Callable[[Tensor], Tensor]
    reconstruct: Callable[[Tensor], Tensor]
    seen: Callable[[Tensor], Tensor]
    seen_of: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor]
    attack: Callable[[Callable[[Tensor], Tensor], Tensor, Each], Tensor]
    noisy: Callable[[], Tensor]
    weight: float
    temperature: float
    gaussian: Callable[[], Tensor]
    gather: Callable[[Tensor], Tensor] = lambda rows: rows
    own: Callable[[Tensor], Tensor] = lambda rows: rows


@dataclass(frozen=True)
class Objective:
    """An objective, and what a user should know before choosing it.

    Attributes:
        name: what ``--method`` calls it. title: for tables and pages.
        loss: scalars ``{"loss": ..., parts...}`` of a batch; None where training has phases of its own.
        access: what it reads: images alone, or the frozen model as well. None reads labels.
        source: the paper. cost: passes of a step, in those of the preprocessor.
        wins, fails: where, as measured (docs/what-a-preprocessor-can-give.md).
        reads: which settings have an effect on it: the weight, the radius (of the attack or of the noise), ...
        caveat: what must be said wherever its figures or pictures are shown; empty: nothing.
        weight: default of ``--weight``; radius: of the training attack, in eps; augments: whether
            ``--augment`` applies.
    """

    name: str
    title: str
    loss: Callable[[Batch], Losses] | None
    access: Access
    source: str
    cost: str
    wins: str
    fails: str
    weight: float = 0.0
    radius: float = 1.0
    augments: bool = True
    caveat: str = ""
    reads: tuple[Setting, ...] = ()

    @property
    def needs_model(self) -> bool:
        return self.access != "images"


def squared_error(output: Tensor, reference: Tensor) -> Tensor:
    """Squared L2 distance of each example, (N,)."""
    return (output - reference).flatten(1).square().sum(1)
