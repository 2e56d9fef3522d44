"""A model in another floating-point type, attacked and judged as it would run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.low_precision import InDtype
from heirloom.evaluation.apart import copy_or_itself
from heirloom.evaluation.copies import fixed
from heirloom.runtime.errors import require

OWN = "its own"  # of a model that casts for itself

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_named(name: str) -> torch.dtype:
    require(name in DTYPES, "dtype", f"one of {', '.join(DTYPES)}", name)
    return DTYPES[name]


def in_dtype(model: nn.Module, dtype: torch.dtype, images: Tensor | None = None) -> nn.Module:
    """A copy of ``model`` in ``dtype``; the model itself where it computes in float32 and is to.

    ``images``: a few, float32, shown to copies. A model that casts its input itself may refuse weights of another type:
    where float32 is asked for (as it is where nobody says anything) it is then left as it is.
    """
    if dtype == type_of(model) == torch.float32:
        return model
    copied = InDtype(model, dtype)
    if dtype != torch.float32 or images is None or _runs(copied, images):
        return copied
    return model if _runs(copy_or_itself(model), images) else copied


def type_of(model: nn.Module) -> torch.dtype:
    """Of the weights that come first."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _runs(model: nn.Module, images: Tensor) -> bool:
    place = next((p.device for p in model.parameters()), images.device)
    try:
        with torch.no_grad(), fixed(place):
            model(images[:2].to(place))
    except Exception:  # a user's own module may raise anything
        return False
    return True
