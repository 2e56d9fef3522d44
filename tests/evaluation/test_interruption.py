"""Killed at random moments or shared by processes, an evaluation ends with the verdicts of one run whole."""

import json
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
from heirloom.evaluation.store import Store
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


ONE_CHUNK = """
import sys, torch
from pathlib import Path
from heirloom import Threat
from heirloom.data.images import load_images
from heirloom.evaluation.verdicts import evaluate
from tests.evaluation.subjects import linear
test = load_images("digits", limit_test=40).test
model = linear(seconds=float(sys.argv[2]))
evaluate(model, (test.images, test.labels), Threat("Linf", 0.05), ["apgd-t"], folder=Path(sys.argv[1]), resume=True)
"""


@pytest.mark.slow
def test_kill_9_again_and_again_within_one_chunk_then_the_same_verdicts(tmp_path: Path) -> None:
    moments, killed, records = random.Random(5), 0, set[str]()
    command = [sys.executable, "-c", ONE_CHUNK, str(tmp_path / "killed"), "0.01"]
    chunk = tmp_path / "killed" / "1-apgd-t-0" / "00000.safetensors"
    while not chunk.exists():
        process = subprocess.Popen(command, cwd=ROOT, env=environment())
        began = {path.name for path in chunk.with_suffix(".under-way").rglob("*.safetensors")}
        while process.poll() is None and began == (
            records := {path.name for path in chunk.with_suffix(".under-way").rglob("*.safetensors")}
        ):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 1.5))
        if process.poll() is None and killed < 3:
            process.send_signal(signal.SIGKILL)
            killed += 1
            assert len(records) >= len(began), "what was kept is lost"
        process.wait()
    assert killed == 3
    assert not chunk.with_suffix(".under-way").exists()
    subprocess.run([*command[:-2], str(tmp_path / "whole"), "0"], cwd=ROOT, env=environment(), check=True)
    one, two = (read_tensors(tmp_path / name / "1-apgd-t-0" / chunk.name) for name in ("killed", "whole"))
    assert all(torch.equal(one[0][key], two[0][key]) for key in one[0])
    passes = [json.loads(metadata["facts"])["passes"] for _, metadata in (one, two)]
    assert passes[0] == passes[1]


def test_what_a_killed_process_left_is_cleaned_when_the_store_is_opened(tmp_path: Path) -> None:
    store, facts = Store(tmp_path), {"seed": 0}
    store.open(facts, resume=False)
    torn = tmp_path / "1-cascade-0" / ".00000.safetensors.77.part"
    torn.parent.mkdir()
    torn.write_bytes(b"half")
    done, going = (store.under_way("1-cascade-0", number) for number in (0, 1))
    for place in (done, going):
        assert place is not None
        place.mkdir()
        (place / ".00001.safetensors.77.part").write_bytes(b"half")
        (place / "00001.safetensors").write_bytes(b"whole")
    assert done is not None
    assert going is not None
    done.with_suffix(".safetensors").write_bytes(b"verdicts")
    Store(tmp_path).open(facts, resume=True)
    assert not list(tmp_path.rglob("*.part"))
    assert not done.exists()  # its chunk has its verdicts
    assert (going / "00001.safetensors").exists()


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
