"""Killed at random moments or shared by processes, an evaluation ends with the verdicts of one run whole."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from heirloom import Threat
from heirloom.data.images import load_images
from heirloom.evaluation.comparison import read_verdicts
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.schema import Summary
from heirloom.runtime.files import read_tensors

from .subjects import linear

ROOT = Path(__file__).parents[2]
RUN = "import sys; from heirloom.cli import main; main(sys.argv[1:])"
ATTACKS = "fgsm,pgd-5,pgd-20"


def arguments(out: Path) -> list[str]:
    return [
        "evaluate",
        "--model",
        "tests.evaluation.subjects:slow_linear",
        "--data",
        "digits",
        "--eps",
        "0.06",
        "--attacks",
        ATTACKS,
        "--limit",
        "160",
        "--batch-size",
        "16",
        "--no-audit",
        "--out",
        str(out),
    ]


def environment() -> dict[str, str]:
    path = [str(ROOT / "src"), str(ROOT)]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}


def chunks(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    files = sorted((out / "work" / "verdicts").rglob("*.safetensors"))
    return {str(file.relative_to(out)): read_tensors(file)[0] for file in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same evaluation, uninterrupted, in this process."""
    out = tmp_path_factory.mktemp("whole")
    test = load_images("digits", limit_test=160).test
    evaluate(
        linear(),
        (test.images, test.labels),
        Threat("Linf", 0.06),
        ATTACKS.split(","),
        batch_size=16,
        folder=out / "work" / "verdicts" / "seed-0",
    )
    return out


def assert_same_chunks(one: Path, two: Path) -> None:
    first, second = chunks(one), chunks(two)
    assert first.keys() == second.keys()
    for name in first:
        for key in first[name]:
            assert torch.equal(first[name][key], second[name][key]), (name, key)


@pytest.mark.slow
def test_kill_9_at_random_moments_then_resume(whole: Path, tmp_path: Path) -> None:
    moments = random.Random(7)
    total = len(chunks(whole))
    command = [sys.executable, "-c", RUN, *arguments(tmp_path), "--resume"]
    for target in sorted(moments.sample(range(1, total - 4), 2)):
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)
        while (
            process.poll() is None
            and len(list((tmp_path / "work" / "verdicts").rglob("*.safetensors"))) < target
        ):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
        assert not (tmp_path / "summary.json").exists()
    done = len(chunks(tmp_path))
    assert 0 < done < total
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True)
    assert_same_chunks(whole, tmp_path)
    columns, _ = read_verdicts(tmp_path / "verdicts.safetensors")
    row = Summary.read(tmp_path / "summary.json").rows[0]
    for name, correct in columns.items():
        assert row[name]["value"] == pytest.approx(float(correct.double().mean()))


@pytest.mark.slow
def test_two_processes_by_torchrun_give_the_verdicts_of_one(whole: Path, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(RUN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, str(script), *arguments(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_chunks(whole, tmp_path)
    summary = Summary.read(tmp_path / "summary.json")
    assert summary.details["evaluation"]["processes"] == 2
    assert done.stdout.count("Each column is the worst case") == 1  # only one process speaks
