"""Killed while they write, again and again, and gone on with: commands end as a run that nobody killed ends."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from heirloom import Summary
from heirloom.cli import app, common
from heirloom.runtime.files import read_tensors

FEW = "--data digits --limit 60 --limit-test 12"
COMMANDS = {
    "probe": f"--encoder FOUNDATION {FEW} --epochs 2 --attacks fgsm --validation 0.2 --adversarial "
    "--adversarial-epochs 3 --attack-steps 2 --batch-size 16",
    "certify": "--model tests.evaluation.subjects:linear --data digits --limit 20 --n 20 --n0 5",
    "features build": "--encoder FOUNDATION --data digits --limit 20 --limit-test 4 --steps 2 --batch-size 6",
}
WRITES = 4  # files that a process may finish before it is killed at the next


def _ends(words: list[str], *, killed: bool) -> bool:
    """Whether the command ``words``, run in a process of its own, ended before it was killed."""
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        out, done = words[words.index("--out") + 1], 0

        def watch(event: str, found: tuple[object, ...]) -> None:
            nonlocal done
            if event == "os.rename" and str(found[0]).startswith(out):
                done += 1
                if killed and done > WRITES:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        code = 1
        try:
            code = common.run(app, words)
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_again_and_again_it_ends_as_if_it_was_not(name: str, foundation: Path, tmp_path: Path) -> None:
    words = [*name.split(), *COMMANDS[name].replace("FOUNDATION", str(foundation)).split(), "--out"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert _ends([*words, str(whole)], killed=False)
    kills = 0
    while not _ends([*words, str(resumed), "--resume"], killed=True):
        kills += 1
        assert kills < 20, "it never gets further"
    assert kills
    assert Summary.read(resumed / "summary.json").rows == Summary.read(whole / "summary.json").rows
    files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(resumed) for path in sorted(resumed.rglob("*")) if path.is_file()]
    for file in files:
        if file.suffix == ".safetensors":
            ours, theirs = (read_tensors(folder / file)[0] for folder in (resumed, whole))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours), file
        elif file.suffix == ".parquet":
            assert (resumed / file).read_bytes() == (whole / file).read_bytes()
