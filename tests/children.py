"""A child of this process that does a piece of work and may be killed at it.

It is forked: a fresh one takes seconds to import what this one has imported already.
"""

import os
import signal
from collections.abc import Callable

import torch

Say = Callable[..., object]


class Child:
    """Does ``work``, which is given a function that says a line, and ends."""

    def __init__(self, work: Callable[[Say], object]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            torch.set_num_threads(1)
            code = 1
            try:
                work(lambda *words: os.write(writer, (" ".join(map(str, words)) + "\n").encode()))
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        self.lines = os.fdopen(reader)

    def runs(self) -> bool:
        return os.waitpid(self.pid, os.WNOHANG)[0] == 0

    def is_killed(self) -> bool:
        """Kill -9 it; whether it was running until then."""
        os.kill(self.pid, signal.SIGKILL)
        self.lines.close()
        return os.waitpid(self.pid, 0)[1] == signal.SIGKILL

    def is_killed_at(self, line: str) -> bool:
        """Kill -9 it when it says ``line``; whether it came there."""
        came = any(said.strip() == line for said in self.lines)
        return self.is_killed() and came
