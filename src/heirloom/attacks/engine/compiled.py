"""The attacked model through ``torch.compile``: fewer and larger kernels, and on a GPU one CUDA graph a pass.

One compilation serves every number of images: attacks go on with those that still stand, so batches shrink. On a GPU
each size would have a graph of its own; there a batch is filled up to a power of two. Verdicts are the model's own.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient

TOLERANCE = 1e-2  # of the largest logit, in float32: fused kernels round otherwise; a wrong one exceeds it
LOW = 0.1  # in bfloat16 and float16
FEWEST = 2  # torch compiles anew for one image


class Compiled(nn.Module):
    """A copy of ``model`` whose weights need no gradient, compiled for any number of images of one size.

    Args:
        backend: of ``torch.compile``; ``"eager"`` and ``"aot_eager"`` need no C++ compiler.
    """

    def __init__(self, model: nn.Module, device: torch.device, backend: str = "inductor") -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.training, self.graphs = model.training, device.type == "cuda" and backend == "inductor"
        mode = "reduce-overhead" if self.graphs else None
        # a tuple hides it: it holds the same weights
        self._run = (torch.compile(self.model, backend=backend, mode=mode),)

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        size = 1 << (count - 1).bit_length() if self.graphs else count
        size = max(size, FEWEST)
        filled = x if size == count else torch.cat([x, x[:1].expand(size - count, *x.shape[1:])])
        torch._dynamo.mark_dynamic(
            filled, 0
        )  # a model that is made for one size fails here, once, and is told of
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        output: Tensor = self._run[0](filled)
        return output[:count].clone()  # a graph's next pass writes over its outputs


def compiled(model: nn.Module, x: Tensor, backend: str = "inductor") -> nn.Module:
    """:class:`Compiled`, tried on the images ``x`` forwards and backwards; ``model`` itself, and a warning that says
    why, where it cannot be compiled or answers otherwise than before.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own code, which looks at every tensor's .grad
            candidate = Compiled(model, x.device, backend)
            reason = _differs(candidate, x)
    except Exception as error:  # a foreign model, or a machine without a compiler, may meet anything here
        reason = _told(error)
    if reason:
        warnings.warn(
            f"The model is attacked without torch.compile, at its usual speed: {reason}.",
            RuntimeWarning,
            stacklevel=2,
        )
        return model
    return candidate


def _differs(candidate: Compiled, x: Tensor) -> str:
    """Why ``candidate`` cannot stand in for its model, empty where it can; compiles it for both kinds of pass."""

    def ask(model: nn.Module, shown: Tensor) -> tuple[Tensor, Tensor]:
        gradient, _, _ = input_gradient(model, shown, shown, lambda output, _: output.square().sum(1))
        with torch.no_grad():
            return model(shown).float(), gradient

    low = any(p.dtype in (torch.bfloat16, torch.float16) for p in candidate.model.parameters())
    for shown in (x, x[:1]):
        for found, expected in zip(ask(candidate, shown), ask(candidate.model, shown), strict=True):
            apart, largest = (found - expected).abs().max(), expected.abs().max()
            if not apart <= (LOW if low else TOLERANCE) * largest.clamp_min(1e-12):
                return f"compiled, it answers otherwise (by {float(apart):.2g} where {float(largest):.2g} is most)"
    return ""


def _told(error: Exception) -> str:
    said = " ".join(str(error).split())
    if "C++ compiler" in said or "InvalidCxxCompiler" in said:
        return "torch.compile needs a C++ compiler (g++) and found none that works"
    return f"{type(error).__name__}: {said[:200]}".rstrip(".")
