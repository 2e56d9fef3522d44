"""Streamed and in memory, cut off by kill -9 or not: the same weights; and how often a step stops for a number."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from heirloom.data.images import load_images
from heirloom.runtime.files import read_tensors
from heirloom.training import readings
from heirloom.training.loop import TrainingSettings, train

SETTINGS = TrainingSettings(epochs=3, batch_size=4, learning_rate=1e-2, seed=5, checkpoint_seconds=0.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            noise = generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


def small_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 8), nn.ReLU(), nn.Linear(8, 2))


def noisy_step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    noise = 0.1 * torch.rand(x.shape, generator=generator)
    return {"loss": nn.functional.cross_entropy(model(x + noise), y)}


CHILD = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    import heirloom.data.batches
    heirloom.data.batches.decoding_workers = lambda: 2
    from heirloom.data.images import load_images
    from heirloom.training.loop import train
    from tests.training.test_feed import SETTINGS, noisy_step, small_model
    data = load_images(sys.argv[2], image_size=8, stream=True).train
    train(small_model(), data, noisy_step, SETTINGS, checkpoint=Path(sys.argv[3]), resume=True,
          report=lambda done, total, losses: print(done, flush=True))
"""


def test_a_streamed_run_killed_in_mid_epoch_ends_as_one_in_memory(photos: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "cut.safetensors"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", textwrap.dedent(CHILD), root, str(photos), str(checkpoint)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "6":  # of 12 steps, 4 an epoch
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(timeout=60) == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    assert done[-1] == "12"
    assert int(done[0]) >= 6
    data = load_images(str(photos), image_size=8, stream=False).train
    whole = tmp_path / "whole.safetensors"
    train(small_model(), data, noisy_step, SETTINGS, checkpoint=whole)
    (found, _), (expected, _) = read_tensors(checkpoint), read_tensors(whole)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=1e-6), name  # threads of the BLAS differ, nothing else


@pytest.mark.parametrize(("stride", "most"), [(1, 12), (25, 3)])
def test_on_an_accelerator_losses_are_read_together(
    photos: Path, stride: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps of 3 epochs: read at every step (the CPU), or at the end of each epoch alone; alike in all they tell."""
    data = load_images(str(photos), image_size=8, stream=False).train
    expected = train(small_model(), data, noisy_step, SETTINGS)
    init = readings.Readings.__init__

    def as_accelerator(self, *given):  # type: ignore[no-untyped-def]
        init(self, *given)
        self.stride = stride

    monkeypatch.setattr(readings.Readings, "__init__", as_accelerator)
    reads: list[int] = []
    read = readings.Readings.read
    monkeypatch.setattr(
        readings.Readings, "read", lambda self: reads.append(len(self._waiting)) or read(self)
    )
    assert train(small_model(), data, noisy_step, SETTINGS) == expected
    assert sum(count > 0 for count in reads) == most
