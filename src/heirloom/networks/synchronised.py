"""Batches that span processes: BatchNorm over all of them, and projections gathered from all of them.

torch's own SyncBatchNorm runs on accelerators alone; this one runs on any device that the process group
serves, and does nothing in a single process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from heirloom.runtime import distributed


class _Sum(torch.autograd.Function):
    """The sum over all processes; since each of them uses it, gradients are summed over all as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def summed(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, differentiable."""
    return _Sum.apply(x)


def gathered(z: Tensor) -> Tensor:
    """The rows of ``z`` (N, D) of all processes, (P N, D), rank by rank; gradients flow back to each."""
    count = distributed.count()
    if count == 1:
        return z
    before = distributed.rank() * len(z)
    return summed(nn.functional.pad(z, (0, 0, before, (count - 1) * len(z) - before)))


def own_rows(x: Tensor) -> Tensor:
    """This process's rows of what :func:`gathered` rows gave."""
    n = len(x) // distributed.count()
    return x[distributed.rank() * n : (distributed.rank() + 1) * n]


class SynchronisedBatchNorm(_BatchNorm):
    """BatchNorm whose training statistics are those of the batches of all processes together."""

    def _check_input_dim(self, x: Tensor) -> None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.count() == 1:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        values = x.float()
        count = torch.tensor([float(x.numel() // x.shape[1])], device=x.device)
        dist.all_reduce(count)
        mean = summed(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = summed(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * torch.rsqrt(variance.view(shape) + self.eps)
        if self.affine:
            normal = normal * self.weight.view(shape) + self.bias.view(shape)
        return normal.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


@contextmanager
def synchronised(module: nn.Module) -> Iterator[None]:
    """``module`` with its BatchNorm over all processes, and afterwards as it was; nothing in a single process."""
    kinds = {part: type(part) for part in module.modules() if isinstance(part, _BatchNorm)}
    if distributed.count() > 1:
        synchronise(module)
    try:
        yield
    finally:
        for part, kind in kinds.items():
            part.__class__ = kind


def synchronise(module: nn.Module) -> nn.Module:
    """Make every BatchNorm of ``module`` a :class:`SynchronisedBatchNorm`, in place; weights are kept."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            part.__class__ = SynchronisedBatchNorm  # type: ignore[assignment]
    return module
