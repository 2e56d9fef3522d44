"""A frozen model whose weights no single device holds: torch's ``fully_shard`` (FSDP2), which is what Accelerate calls.

Each process keeps a share of every weight; a block's are gathered for its pass and let go again. So all processes must
make the same passes, in step. They do: outside training each runs the whole program on the same images, and of every
batch that comes here takes its own part, whose features (and gradients) all get. Inside a training step
(:func:`own_batches`) each has images of its own already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as group

from heirloom.runtime import distributed
from heirloom.runtime.errors import require

_OWN: ContextVar[bool] = ContextVar("own_batches", default=False)


def check_shardable(model: nn.Module) -> None:
    """Raise :class:`InputError` where ``model`` names no blocks, or one process is all there is."""
    require(
        distributed.launched() > 1, "fsdp", "used under torchrun with two processes or more", "one process"
    )
    require(bool(_units(model)), "fsdp", "used with a model of Transformers", type(model).__name__)


def _units(model: nn.Module) -> list[nn.Module]:
    """The blocks that a model of Transformers names itself, inner ones first."""
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    parts = [part for part in model.modules() if type(part).__name__ in blocks and part is not model]
    return parts[::-1]


def shard(model: nn.Module, device: torch.device) -> None:
    """Spread the weights of ``model`` (of Transformers: with blocks that it names itself) over all processes, in place.

    Accelerate's rule: a unit for each block of ``_no_split_modules``, one for the rest. Accelerate itself gives FSDP to
    GPUs alone; torch's call is the same on a CPU.

    Raises:
        InputError: as :func:`check_shardable`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    check_shardable(model)
    distributed.join()
    mesh = init_device_mesh(device.type, (distributed.count(),))
    for part in [*_units(model), model]:
        fully_shard(part, mesh=mesh)
    if hasattr(model, "get_image_features"):  # a pass that goes round ``forward``
        register_fsdp_forward_method(model, "get_image_features")
    distributed.go_in_step()


@contextmanager
def own_batches() -> Iterator[None]:
    """Inside, each process has images of its own: a training step."""
    token = _OWN.set(True)
    try:
        yield
    finally:
        _OWN.reset(token)


def in_step(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``run(x)`` where every process has the same ``x`` (N, ...): each runs a part of it, all get all rows, and all
    gradients with respect to ``x``.
    """
    if _OWN.get():
        return run(x)
    part: Tensor = _Take.apply(x)
    rows: Tensor = _Give.apply(run(part), len(x))
    return rows


class _Take(torch.autograd.Function):
    """This process's part of the rows, the last repeated where they do not go up; backwards all parts."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return x[_own(len(x)).clamp(max=len(x) - 1).to(x.device)]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _all(gradients[0])[: ctx.rows]


class _Give(torch.autograd.Function):
    """All parts, without what was repeated; backwards this process's."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, rows: int) -> Tensor:
        return _all(part)[:rows]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient, own = gradients[0], _own(len(gradients[0])).to(gradients[0].device)
        kept = gradient[own.clamp(max=len(gradient) - 1)]
        return kept * (own < len(gradient)).view(-1, *[1] * (kept.ndim - 1)), None


def _own(rows: int) -> Tensor:
    each = -(-rows // distributed.count())
    return torch.arange(each) + distributed.rank() * each


def _all(part: Tensor) -> Tensor:
    whole = part.new_empty(len(part) * distributed.count(), *part.shape[1:])
    group.all_gather_into_tensor(whole, part.contiguous())
    return whole
