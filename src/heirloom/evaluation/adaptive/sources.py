"""What to differentiate in place of a model, given what the audit found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from heirloom.attacks.adaptive import BPDA, EOT
from heirloom.evaluation.adaptive.rewriting import Rewritten
from heirloom.evaluation.apart import fresh_copy, noticed, separate
from heirloom.evaluation.askable import differentiated, inside
from heirloom.evaluation.eval_mode import forced, forced_throughout
from heirloom.models.defended import Defended
from heirloom.runtime.errors import reject

MASKED = {
    "quantisation",
    "gradients",
    "backward",
    "gradient-agreement",
    "discrete-output",
    "not-finite",
    "state",
}


@dataclass(frozen=True)
class Source:
    """A model to attack; what it finds is tried on the model that is judged. ``name`` says what it is."""

    name: str
    model: nn.Module


def judged(model: nn.Module, found: set[str], x: Tensor, pristine: nn.Module | None = None) -> nn.Module:
    """The model as it is scored: from a fresh copy at every call, or one image at a time, where it needs that.

    ``x``: a few images. ``pristine``: :func:`heirloom.evaluation.apart.fresh_copy` of it before it was called.
    """
    if "state" in found:
        return FreshAtEveryCall(model if pristine is None else pristine, x)
    return OneByOne(model) if "batch" in found else model


def sources(
    model: nn.Module,
    found: set[str],
    x: Tensor,
    *,
    random: bool = False,
    draws: int = 16,
    surrogate: nn.Module | None = None,
    bpda: Sequence[tuple[str, Callable[[Tensor], Tensor] | None]] = (),
) -> list[Source]:
    """Ways around what the audit ``found`` (names of failed checks), each as a model to differentiate.

    Args:
        x: a few images, on which parts of the model are tried as classifiers.
        random: attack the expectation over ``draws`` passes of each.
        surrogate: another classifier, to transfer from.
        bpda: parts by name with their stand-in for the backward pass (None: the identity).
    """
    listed = [Source("the model itself", model)]
    listed += _without_the_preprocessor(model) + _parts(model, x)
    if found & MASKED:
        listed.append(Source("operations straight through (BPDA)", Rewritten(model)))
    if "saturation" in found:
        listed.append(Source("activations as straight lines (BPDA)", Rewritten(model, saturated=True)))
    if "inner-optimisation" in found:
        listed.append(Source("its inner optimisation blinded", Rewritten(model, inner="blinded")))
        listed.append(Source("its inner optimisation unrolled", Rewritten(model, inner="unrolled")))
    if "gradient-mode" in found:
        listed.append(Source("the branch that is judged", AsJudged(model)))
    if "gradient-agreement" in found:
        listed.append(Source("the loss smoothed by noise", Smoothed(model)))
    if "eval-mode" in found:
        listed.append(Source("every module in eval mode", _in_eval_mode(model)))
    listed += [Source(f"{name} straight through (BPDA)", with_bpda(model, name, part)) for name, part in bpda]
    if random:
        listed = [
            replace(s, name=f"{s.name}, {draws} draws (EOT)", model=_expected(s.model, draws)) for s in listed
        ]
    if surrogate is not None:
        listed.append(Source("the surrogate", surrogate))
    return listed


def with_bpda(model: nn.Module, name: str, backward: Callable[[Tensor], Tensor] | None) -> nn.Module:
    """A copy of ``model`` whose part ``name`` has the gradient of ``backward`` (None: the identity)."""
    copied = fresh_copy(model)
    if copied is None or not name or name not in dict(inside(model).named_modules()):
        known = ", ".join(part for part, _ in inside(model).named_children())
        reject("bpda", f"the name of a part of a model that can be copied ({known})", name)
    owner, _, last = name.rpartition(".")
    own = inside(copied)
    setattr(own.get_submodule(owner), last, BPDA(own.get_submodule(name), backward))
    return differentiated(copied)


def _without_the_preprocessor(model: nn.Module) -> list[Source]:
    if not isinstance(model, Defended) or isinstance(model.preprocessor, nn.Identity):
        return []
    without = nn.Sequential(model.encoder, model.head).eval()
    straight = Defended(BPDA(model.preprocessor), model.encoder, model.head)
    return [
        Source("without the preprocessor", without),
        Source("the preprocessor straight through (BPDA)", straight),
    ]


def _parts(model: nn.Module, x: Tensor) -> list[Source]:
    """Parts that are classifiers of the same images themselves: the undefended model inside."""
    found = []
    with torch.no_grad():
        whole = model(x)
        for name, part in list(inside(model).named_modules())[1:]:
            if name.count(".") > 1:
                continue
            try:
                logits = part(x)
            except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
                continue
            same = isinstance(logits, Tensor) and logits.shape == whole.shape
            if same and float((logits.argmax(1) == whole.argmax(1)).double().mean()) > 0.5:
                found.append(Source(f"the undefended part `{name}`", part))
    return found[:1]


def _expected(model: nn.Module, draws: int) -> nn.Module:
    return EOT(model, draws, average="probabilities")


def _in_eval_mode(model: nn.Module) -> nn.Module:
    copied = fresh_copy(model)
    return forced(model) if copied is None else forced_throughout(copied)


class FreshAtEveryCall(nn.Module):
    """A copy of the model as it was, for every call: nothing is remembered."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.kept, self.shared = model, noticed(model, x)

    def forward(self, x: Tensor) -> Tensor:
        return separate(self.kept, self.shared)(x.clone())  # some write into their input


class OneByOne(nn.Module):
    """Every image in a batch of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        try:
            return torch.cat([self.model(image) for image in x.split(1)])
        except (RuntimeError, ValueError):  # batch statistics of one image do not exist
            return self.model(x)


class Smoothed(nn.Module):
    """The mean over ``draws`` noisy images: its gradient averages over jumps of the loss."""

    def __init__(self, model: nn.Module, draws: int = 16, sd: float = 0.03) -> None:
        super().__init__()
        self.model, self.draws, self.sd = model, draws, sd

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn(self.draws, *x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        return torch.stack([self.model(x + self.sd * one) for one in noise]).mean(0)


class AsJudged(nn.Module):
    """The model made to believe that nobody asks for gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        asked = torch.is_grad_enabled
        torch.is_grad_enabled = lambda: False
        try:
            with _Denied():
                return self.model(x)
        finally:
            torch.is_grad_enabled = asked


class _Denied(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(getattr(func, "__self__", None), "__name__", "") == "requires_grad":
            return False
        return func(*args, **(kwargs or {}))
