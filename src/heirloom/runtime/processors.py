"""The processors and the memory that this process may use, containers' limits included."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from heirloom.runtime import distributed

MOST_WORKERS = 8
EVERY = 64 << 20
_since = {"bytes": 0}
CGROUP = Path("/sys/fs/cgroup")


def processors() -> int:
    """Processors for this process: those it may run on, less where a container has a share, dealt to the processes
    that ``torchrun`` started here.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, _, period = _read(CGROUP / "cpu.max").partition(" ")
    if quota.isdecimal() and period.strip().isdecimal():
        usable = min(usable, max(1, int(quota) // int(period)))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if distributed.launched() > 1 else 1
    return max(1, usable // here)


def decoding_workers() -> int:
    """Processes that decode pictures beside this one: none where it has a processor to itself alone."""
    return min(processors(), MOST_WORKERS) if processors() > 1 else 0


def give_back() -> None:
    """Hand the system what the C library keeps of freed memory: glibc keeps hundreds of MB that lie between pieces
    still in use, and processes that are forked copy them. Elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def passed(count: int) -> None:
    """Tell that ``count`` bytes of pixels have gone by: :func:`give_back` every ``EVERY``. The tensors of a batch come
    and go, small results stay between them, and on a long way the holes add up to gigabytes.
    """
    _since["bytes"] += count
    if _since["bytes"] >= EVERY:
        _since["bytes"] = 0
        give_back()


def free_memory() -> int | None:
    """Bytes that can be taken before the system kills somebody; None where that cannot be told.

    Linux never refuses memory, it kills: so what is available is asked for beforehand, of the machine and of every
    control group (a container's limit) above this process.
    """
    told = [_available(), *_left_in_groups()]
    known = [value for value in told if value is not None]
    return max(0, min(known)) if known else None


def _available() -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _left_in_groups() -> list[int | None]:
    """Limit less use of each control group of version 2, and of version 1's one; file caches are given back."""
    found: list[int | None] = []
    own = next((line[3:] for line in _read(Path("/proc/self/cgroup")).splitlines() if line[:3] == "0::"), "/")
    places = [CGROUP / own.strip("/"), *(CGROUP / own.strip("/")).parents]
    for place in dict.fromkeys([CGROUP, *(p for p in places if CGROUP in (p, *p.parents))]):
        found.append(_left(place / "memory.max", place / "memory.current", place / "memory.stat"))
    old = CGROUP / "memory"
    found.append(_left(old / "memory.limit_in_bytes", old / "memory.usage_in_bytes", old / "memory.stat"))
    return found


def _left(limit: Path, used: Path, told: Path) -> int | None:
    most, now = _read(limit).strip(), _read(used).strip()
    if not most.isdecimal() or not now.isdecimal():
        return None
    caches = dict(line.split(" ", 1) for line in _read(told).splitlines() if " " in line)
    given_back = int(caches.get("inactive_file", 0)) + int(caches.get("active_file", 0))
    return int(most) - max(0, int(now) - given_back)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
