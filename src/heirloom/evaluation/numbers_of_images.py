"""A model that refuses some numbers of images (pairs alone, batches of 8, a ``squeeze()`` that loses a batch of one), asked
in numbers that it takes. Attacks go on with what still stands, so that any number may come.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.evaluation.apart import fresh_copy
from heirloom.evaluation.copies import fixed
from heirloom.runtime.errors import out_of_memory

ASKED = (1, 3)  # two are asked before any work
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
        """What a reader of the figures must know."""
        groups = f"multiples of {self.step}" if self.most is None else f"{self.most} at once"
        return (
            f"The model does not take any number of images: it was asked for {groups}, filled up with copies of an image "
            "whose logits were dropped."
        )


def of_any_number(model: nn.Module, images: Tensor, device: str = "cpu") -> nn.Module:
    """``model``, or where it refuses one or three of ``images`` :class:`InMultiples` of it.

    Args:
        images: at least one (N, C, H, W) in [0, 1]; a copy of the model sees them, where it can be copied.

    Returns:
        the model itself as well where it takes no number of them that was tried: then the number is not what is wrong.
    """
    place = torch.device(device)
    shown = (fresh_copy(model) or model).to(place).eval()
    if all(_takes(shown, images, count, place) for count in ASKED):
        return model
    for step in STEPS:
        if _takes(shown, images, step, place):
            free = step > 1 and all(_takes(shown, images, times * step, place) for times in (2, 3))
            return InMultiples(model, step, None if free else step)
    return model


def _takes(model: nn.Module, images: Tensor, count: int, place: torch.device) -> bool:
    """Whether as many rows of logits come back; one that has no memory for them does not refuse them."""
    x = images[torch.arange(count) % len(images)].to(place)
    try:
        with torch.no_grad(), fixed(place):
            out = model(x)
    except Exception as error:  # a user's own module may raise anything
        return out_of_memory(error)
    return isinstance(out, Tensor) and out.ndim == 2 and len(out) == count
