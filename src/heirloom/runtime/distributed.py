"""Several processes share one evaluation: each takes every n-th chunk, all get all results.

Unless they go in step: a model whose weights are spread over them passes images only if all call it. Then every
process does all the work on the same images, and the passes themselves are shared (:mod:`heirloom.models.sharded`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

Item = TypeVar("Item")
LOST = ("closed by peer", "connection reset", "broken pipe", "remote process exited")
LONGEST_STAGE = timedelta(days=7)  # that one process may work while the others wait
_steps: dict[str, bool] = {"together": False}


def go_in_step() -> None:
    """From now on, until :func:`leave`, nothing is dealt out: every process does all of it."""
    _steps["together"] = True


def are_in_step() -> bool:
    return _steps["together"]


def takes_part() -> bool:
    """Whether this process does what one process is enough for: the first does, and all that go in step."""
    return rank() == 0 or are_in_step()


def join() -> None:
    """Join the process group that ``torchrun`` has laid out; nothing happens in a single process.

    What is exchanged on the CPU are verdicts and the images that fooled the model; gradients go by the GPU's own
    library where there is one.
    """
    if launched() > 1 and not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():  # so that "cuda" means this process's own
            torch.cuda.set_device(local_device("cuda"))
        distributed.init_process_group(backend, timeout=LONGEST_STAGE)


def launched() -> int:
    """The processes that ``torchrun`` started, joined or not yet."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leave() -> None:
    """Leave the process group, so that the processes end quietly."""
    _steps["together"] = False
    if _together():
        distributed.destroy_process_group()


def lost_another(error: BaseException) -> bool:
    """Whether ``error`` says that another process of this run is gone: that one has told why."""
    said = str(error).lower()
    return launched() > 1 and any(words in said for words in LOST)


def speaks() -> bool:
    """Whether this process, joined or not yet, is the one that tells the user."""
    return launched() == 1 or os.environ.get("RANK", "0") == "0"


def rank() -> int:
    return distributed.get_rank() if _together() else 0


def count() -> int:
    return distributed.get_world_size() if _together() else 1


def local_device(device: str | torch.device) -> torch.device:
    """``cuda`` as this process's own GPU; any other device, and a numbered one, as it is."""
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is None and launched() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return chosen


def gather(mine: list[Item]) -> list[Item]:
    """Every process's items in the order dealt: item k was made by process k modulo their count."""
    if count() == 1 or are_in_step():
        return mine
    return _from_all(mine)


def _from_all(mine: list[Item]) -> list[Item]:
    hands: list[list[Item]] = [[] for _ in range(count())]
    distributed.all_gather_object(hands, mine)
    return [hands[k % count()][k // count()] for k in range(sum(map(len, hands)))]


def agreed(mine: Item) -> Item:
    """What the first process has: files and clocks may look different to each of them."""
    if count() == 1:
        return mine
    said: list[Item] = [mine]
    distributed.broadcast_object_list(said, src=0)
    return said[0]


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean over all processes of ``values``, in place; no gradient."""
    if count() > 1:
        distributed.all_reduce(values)
        values /= count()
    return values


def least(mine: int) -> int:
    """The smallest of the numbers that the processes have."""
    return mine if count() == 1 else min(_from_all([mine]))


def dealt(items: Iterable[Item]) -> list[tuple[int, Item]]:
    """The (position, item) pairs that are this process's to do."""
    if are_in_step():
        return list(enumerate(items))
    return [(k, item) for k, item in enumerate(items) if k % count() == rank()]


def wait() -> None:
    """Wait until all processes are here."""
    if _together():
        distributed.barrier()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
