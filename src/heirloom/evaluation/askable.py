"""A model as it can be asked. Attacks ask for gradients, and go on with what still stands, so that any number of images
may come; a model may refuse both (pairs alone, batches of 8, a ``squeeze()`` that loses a batch of one; an operation
without a derivative, ``inference_mode``). It is judged all the same, and the result says how it was asked.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.low_precision import InDtype
from heirloom.evaluation.apart import on_a_copy, taken_as
from heirloom.evaluation.copies import fixed
from heirloom.evaluation.one_mode import OneMode
from heirloom.runtime.errors import out_of_memory

ASKED = (1, 3)  # two are asked before any work
AS_IT_IS: WeakKeyDictionary[nn.Module, set[object]] = (
    WeakKeyDictionary()
)  # images that a model takes as it is
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 64, 100, 128, 256)


class InMultiples(nn.Module):
    """``model``, given multiples of ``step`` images, at most ``most`` at once (None: however many).

    What lacks is filled up with copies of the last image, and their logits are dropped.
    """

    def __init__(self, model: nn.Module, step: int, most: int | None = None) -> None:
        super().__init__()
        self.model, self.step, self.most = model, step, most
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._filled(part) for part in x.split(self.most or max(1, len(x)))])

    def _filled(self, x: Tensor) -> Tensor:
        lacking = -len(x) % self.step
        more = torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]) if lacking else x
        out: Tensor = self.model(more)
        return out[: len(x)]

    @property
    def said(self) -> str:
        groups = f"multiples of {self.step}" if self.most is None else f"{self.most} at once"
        return (
            f"The model does not take any number of images: it was asked for {groups}, filled up with copies of an "
            "image whose logits were dropped."
        )


class Undifferentiated(nn.Module):
    """``model``, whose gradient cannot be asked for, since that raises ``error``: it is called without."""

    def __init__(self, model: nn.Module, error: str) -> None:
        super().__init__()
        self.model, self.error = model, error
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = self.model(x)
        return out

    @property
    def said(self) -> str:
        return f"The model's gradient cannot be asked for ({self.error}): attacks found none."


def askable(model: nn.Module, images: Tensor, device: str | torch.device = "cpu") -> nn.Module:
    """``model``, or where it refuses what attacks ask for :class:`InMultiples` and :class:`Undifferentiated` of it.

    Args:
        images: at least one (N, C, H, W) in [0, 1]; a copy of the model sees them, where it can be copied.

    Returns:
        the model itself as well where nothing that was tried helps: then the images are wrong for it.
    """
    place = torch.device(device)
    kind = (tuple(images.shape[1:]), images.dtype, place)
    known = kind in AS_IT_IS.get(model, ()) or isinstance(model, (InMultiples, Undifferentiated))
    if known or not len(images):
        return model  # asked before: by the command line, by an evaluation before the audit
    with on_a_copy(model) as copied:
        shown = (model if copied is None else copied).to(place).eval()
        step, most = _numbers(shown, images, place)
        error = _backward_error(InMultiples(shown, step, most) if step else shown, images[:2].to(place))
    taken = InMultiples(model, step, most) if step else model
    taken = Undifferentiated(taken, error) if error else taken
    if taken is model:
        AS_IT_IS.setdefault(model, set()).add(kind)
    return taken


def alike(pristine: nn.Module | None, model: nn.Module) -> nn.Module | None:
    """``pristine``, a copy of a model that was never called, asked as :func:`askable` found that ``model`` is."""
    if pristine is None or isinstance(pristine, (InMultiples, Undifferentiated)):
        return pristine
    if not isinstance(model, (InMultiples, Undifferentiated)):
        return pristine
    part = alike(pristine, model.model)
    assert part is not None
    if isinstance(model, InMultiples):
        return taken_as(pristine, InMultiples(part, model.step, model.most))
    return taken_as(pristine, Undifferentiated(part, model.error))


def remarks_on(model: nn.Module) -> str:
    """How it was asked, for a reader of the figures; empty for most models."""
    return " ".join(
        part.said for part in model.modules() if isinstance(part, (InMultiples, Undifferentiated))
    )


def inside(model: nn.Module) -> nn.Module:
    """The user's own module, in which parts have the names that the user knows."""
    while isinstance(model, (InMultiples, Undifferentiated, InDtype, OneMode)):
        model = model.model
    return model


def differentiated(model: nn.Module) -> nn.Module:
    """``model``, asked for gradients again: one of its parts has been given another backward pass."""
    return model.model if isinstance(model, Undifferentiated) else model


def _numbers(model: nn.Module, images: Tensor, place: torch.device) -> tuple[int, int | None]:
    """The step between numbers of images that ``model`` takes, and the largest or None; (0, None): it takes all."""
    if all(_takes(model, images, count, place) for count in ASKED):
        return 0, None
    for step in STEPS:
        if _takes(model, images, step, place):
            free = step > 1 and all(_takes(model, images, times * step, place) for times in (2, 3))
            return step, None if free else step
    return 0, None


def _takes(model: nn.Module, images: Tensor, count: int, place: torch.device) -> bool:
    """Whether no error and no single row (``squeeze()``) comes back: what else may be wrong, another number does not
    mend. One that has no memory for so many does not refuse them.
    """
    x = images[torch.arange(count) % len(images)].to(place)
    try:
        with torch.no_grad(), fixed(place):
            out = model(x)
    except Exception as error:  # a user's own module may raise anything
        return out_of_memory(error)
    return not (isinstance(out, Tensor) and out.ndim == 1)


def _backward_error(model: nn.Module, x: Tensor) -> str:
    """What asking for the gradient raises, where the logits alone can be had."""
    try:
        with torch.enable_grad(), fixed(x.device):
            given = x.detach().clone().requires_grad_()
            if (out := model(given)).requires_grad:
                torch.autograd.grad(out.sum(), given, allow_unused=True)
    except Exception as error:  # a user's own module may raise anything
        said = " ".join(f"{type(error).__name__}: {error}".split())
        alone = not out_of_memory(error) and _takes(model, x, len(x), x.device)
        return said[:200].removesuffix(".") if alone else ""
    return ""
