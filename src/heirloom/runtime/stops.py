"""How often a GPU would have to stop: counted on the operators, so that it shows on a machine without one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

STOPPING = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal", "aten.masked_select")
INDEXING = ("aten.index.", "aten.index_put")


class Stops(TorchDispatchMode):
    """Counts, while it is entered, the calls that need a number or a size from the device before the program goes on:
    ``.item()``, ``bool()``, ``float()`` of a tensor, ``nonzero``, and a boolean mask as an index.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function)
        self.count += name.startswith(STOPPING)
        if name.startswith(INDEXING):
            masks = [m for m in args[1] if isinstance(m, Tensor)]
            self.count += any(mask.dtype in (torch.bool, torch.uint8) for mask in masks)
        return function(*args, **(kwargs or {}))
