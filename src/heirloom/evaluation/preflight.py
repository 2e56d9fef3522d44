"""Before any work: two images go through the whole, a few passes are timed, and the plan says what the work will take.

Where attacks may stop early a plan tells two times: what is likely, and the most, for images that nothing fools.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.passes import Counted, Passes
from heirloom.attacks.named import attack_list
from heirloom.evaluation.apart import on_a_copy
from heirloom.models.defended import check_whole
from heirloom.models.memory import MOST, Allocated, fitting
from heirloom.threat import Threat

TIMED = 16  # images whose passes are timed, at most
AUDIT = Passes(700, 500)  # of an image that nothing fools: heirloom.evaluation.audit
TOY_SIDE = 4
CURVE_PASSES = 6 * 20  # of a security curve: PGD-20 at six radii
SHARE, SHARE_OF_CASCADE = (
    0.65,
    0.15,
)  # of the most passes: what attacks took on models that stand on two images of five


@dataclass(frozen=True)
class Cost:
    """What passes of one module cost here: seconds an image, bytes of its weights and of an image's gradient.

    ``outputs``: how many logits (or features) it gives; ``at_once``: how many images the memory has room for.
    """

    forward: float
    gradient: float
    weights: int
    activations: int
    outputs: int
    at_once: int = MOST

    def memory(self, batch: int | None = None) -> int:
        """Bytes of the weights, twice (attacks work on a copy), and of a batch of so many images (None: as fit)."""
        return 2 * self.weights + (batch or self.at_once) * self.activations

    def after(self, front: Cost) -> Cost:
        """Of both together, where ``front`` stands in front of this."""
        return Cost(
            self.forward + front.forward,
            self.gradient + front.gradient,
            self.weights + front.weights,
            self.activations + front.activations,
            self.outputs,
            min(self.at_once, front.at_once),
        )

    def seconds(self, passes: Passes) -> float:
        """Of so many passes; a backward pass is timed with the forward pass that it needs."""
        return passes.backward * self.gradient + max(0, passes.forward - passes.backward) * self.forward


@dataclass(frozen=True)
class Stage:
    """One stage of a plan: ``passes`` through the module that is timed, None where they are of another kind.

    ``seconds``: at most; ``likely``: the share of them that it probably takes.
    """

    name: str
    seconds: float
    passes: Passes | None = None
    likely: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What a command will do. ``bytes``: weights, images held in memory, and one batch's gradients."""

    stages: tuple[Stage, ...]
    bytes: int

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def likely_seconds(self) -> float:
        return sum(stage.likely * stage.seconds for stage in self.stages)


def cost_of(
    model: nn.Module,
    images: Tensor,
    *,
    classes: int | None = None,
    device: str = "cpu",
    with_gradient: bool = True,
) -> Cost:
    """The cost of passes of ``model``, a copy of which sees ``images``: the module itself stays as it was.

    Args:
        images: a few of the run's (N, C, H, W) in [0, 1]. classes: that the model must have, None: whatever it has.
        with_gradient: False: forward passes alone are needed.

    Raises:
        InputError: whatever :func:`heirloom.models.defended.check_whole` refuses, tried on the first two images.
    """
    with on_a_copy(model) as copied:
        shown = (model if copied is None else copied).to(device).eval()
        return _cost(shown, images, classes, device, with_gradient)


def _cost(whole: nn.Module, images: Tensor, classes: int | None, device: str, with_gradient: bool) -> Cost:
    first = images[:2].to(device)
    with torch.random.fork_rng():
        outputs = check_whole(whole, first, classes)
        room = fitting(whole, first)
        x = images[: min(room, TIMED)].to(device)
        with torch.no_grad():
            forward = _seconds(lambda: whole(x), device)
        held = _saved_bytes(whole, x) if with_gradient else 0
        gradient = _seconds(lambda: _gradient(whole, x), device) if with_gradient else 0.0
    weights = sum(t.numel() * t.element_size() for t in (*whole.parameters(), *whole.buffers()))
    return Cost(forward / len(x), gradient / len(x), weights, held // len(x), outputs, room)


def measuring(
    cost: Cost, images: int, attacks: Sequence[str], *, classes: int, threat: Threat, label: str = ""
) -> list[Stage]:
    """A stage for each attack on so many test images, at most."""
    stages = []
    for name in attacks:
        each = passes_of(name, classes, threat)
        passes = Passes(each.forward * images, each.backward * images)
        likely = SHARE_OF_CASCADE if name == "cascade" else SHARE
        stages.append(Stage(f"{label}{name}", cost.seconds(passes), passes, likely))
    return stages


def audit_stage(cost: Cost, examples: int) -> list[Stage]:
    """The audit of so many images, no stage for none."""
    passes = Passes(AUDIT.forward * examples, AUDIT.backward * examples)
    return [Stage("audit", cost.seconds(passes), passes)] if examples else []


@cache
def passes_of(attack: str, classes: int, threat: Threat) -> Passes:
    """The passes of ``attack`` on an image that it does not fool, counted on a toy model that nothing fools."""
    counted = Counted(_Unmoved(classes))
    x = torch.full((2, 1, TOY_SIDE, TOY_SIDE), 0.5)
    labels = torch.zeros(2, dtype=torch.int64)
    for part in attack_list([attack])[0].parts:
        part(counted, x, labels, threat, torch.Generator().manual_seed(0))
    return Passes(counted.passes.forward // 2, counted.passes.backward // 2)


class _Unmoved(nn.Module):
    """The first class, whatever the image; all other logits move with it a little."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        directions = torch.randn(TOY_SIDE**2, classes, generator=torch.Generator().manual_seed(0))
        self.directions, self.first = directions / 1e4, torch.eye(classes)[0] * 10

    def forward(self, x: Tensor) -> Tensor:
        return self.first + x.flatten(1) @ self.directions


def _gradient(model: nn.Module, images: Tensor) -> Tensor | None:
    """None where the model lets none through: that is for the attacks and the audit to say."""
    x = images.detach().clone().requires_grad_()
    total = model(x).sum()
    return torch.autograd.grad(total, x, allow_unused=True)[0] if total.requires_grad else None


def _seconds(call: object, device: str) -> float:
    """Of the second call: the first pays for what is only done once."""
    spent = 0.0
    for _ in range(2):
        started = time.perf_counter()
        call()  # type: ignore[operator]
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - started
    return spent


def _saved_bytes(model: nn.Module, images: Tensor) -> int:
    """What one pass keeps for its gradient, each piece of memory once and no weight."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model(images.detach().clone().requires_grad_())
            del outputs
    except RuntimeError:  # torch.func in the forward pass takes no such hooks: then all that it could keep
        with Allocated() as allocated:
            model(images.detach().clone().requires_grad_())
        return allocated.bytes
    return sum(kept.values())
