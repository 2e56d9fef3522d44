"""The one module that is attacked: preprocessor, encoder and head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.runtime.errors import InputError, require


class OwnLogits(nn.Module):
    """The head of a model that has a classifier of its own: its logits, or those of the classes at hand.

    Args:
        columns: of the model's logits, one for each class at hand; None: all of them, as they come.
    """

    columns: Tensor | None

    def __init__(self, columns: Sequence[int] | None = None) -> None:
        super().__init__()
        index = None if columns is None else torch.tensor(list(columns), dtype=torch.int64)
        self.register_buffer("columns", index)

    def forward(self, logits: Tensor) -> Tensor:
        return logits if self.columns is None else logits[:, self.columns]


class Defended(nn.Module):
    """The whole that is attacked: [0, 1] pixels -> preprocessor -> encoder -> head -> logits (N, classes)."""

    def __init__(self, preprocessor: nn.Module, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.preprocessor, self.encoder, self.head = preprocessor, encoder, head
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """(N, D): the foundation model's features of what the preprocessor makes of ``x``."""
        return self.encoder(self.preprocessor(x))


def describe_head(head: nn.Module) -> dict[str, Any]:
    """What :func:`rebuild_head` needs to build it again, as JSON."""
    if isinstance(head, OwnLogits):
        return {"kind": "own", "columns": None if head.columns is None else head.columns.tolist()}
    assert isinstance(head, nn.Linear)
    return {"kind": "linear", "in_features": head.in_features, "out_features": head.out_features}


def rebuild_head(description: dict[str, Any]) -> nn.Module:
    """The head that :func:`describe_head` described, weights not loaded yet."""
    fields = dict(description)
    kind = fields.pop("kind", None)
    require(kind in ("own", "linear"), "head in config.json", "own or linear", kind)
    try:
        if kind == "own":
            return OwnLogits(**fields)
        linear: nn.Linear = nn.utils.skip_init(nn.Linear, **fields)
        return linear.requires_grad_(False)
    except TypeError as error:
        raise InputError("head in config.json", "the description of a head", str(error)) from None


def check_whole(whole: nn.Module, images: Tensor, classes: int | None = None) -> int:
    """The number of logits (or features) of ``images``, tried on them before any work is done.

    Raises:
        InputError: whatever the module raises, in one sentence; outputs that are no tensor (N, D), not floating,
            not finite, of another number of classes.
    """
    x = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            outputs = whole(x)
    except InputError:
        raise
    except Exception as error:  # a user's own module may raise anything
        shape = " x ".join(map(str, images.shape[1:]))
        came = f"{type(error).__name__}{_where(error)}: {error}"
        raise InputError("model", f"one that takes images of {shape}", came) from error
    if not isinstance(outputs, Tensor):
        raise InputError("model", "one that returns a tensor", f"{type(outputs).__name__}")
    require(outputs.ndim == 2, "model", "one that returns (N, D)", tuple(outputs.shape))
    require(
        len(outputs) == len(images),
        "model",
        f"one that returns a row for each of {len(images)} images",
        len(outputs),
    )
    require(outputs.is_floating_point(), "model", "one that returns floating numbers", str(outputs.dtype))
    require(bool(outputs.isfinite().all()), "model", "one that returns finite numbers", "NaN or infinity")
    require(
        classes is None or outputs.shape[1] == classes, "model", f"one of {classes} classes", outputs.shape[1]
    )
    return int(outputs.shape[1])


def _where(error: BaseException) -> str:
    """The file and line of the user's code that raised, the last that belongs to no library."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    own = [f for f in frames if "site-packages" not in f[0] and "/heirloom/" not in f[0]]
    return f" in {own[-1][0].rpartition('/')[2]}, line {own[-1][1]}" if own else ""
