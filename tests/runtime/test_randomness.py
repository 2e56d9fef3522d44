"""Draws of processes that share a batch are the slices of one process's draws, exactly."""

import pytest
import torch

from heirloom import InputError, Threat
from heirloom.data.augmentation import CROP_AND_FLIP, Augmentation, augment
from heirloom.data.images import load_images
from heirloom.runtime.randomness import generator_of, integers, normal, shared_generator_of, uniform
from heirloom.training.loop import TrainingSettings, train

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("draw", [uniform, normal])
def test_ranks_draw_their_share(draw: object, count: int) -> None:
    whole = draw((6, 2, 5), generator_of(1), CPU)  # type: ignore[operator]
    for rank in range(count):
        share = draw((6 // count, 2, 5), shared_generator_of(1, rank=rank, count=count), CPU)  # type: ignore[operator]
        assert torch.equal(share, whole[rank::count])


def test_ranks_draw_their_integers() -> None:
    whole = integers(-4, 5, (8,), generator_of(1), CPU)
    assert whole.min() >= -4
    assert whole.max() < 5
    assert torch.equal(integers(-4, 5, (4,), shared_generator_of(1, rank=1, count=2), CPU), whole[1::2])


@pytest.mark.parametrize("settings", [Augmentation(), CROP_AND_FLIP])
def test_augmentation_is_that_of_the_whole_batch(settings: Augmentation) -> None:
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = augment(x, settings, generator_of("step", 3))
    for rank in range(2):
        share = augment(x[rank::2], settings, shared_generator_of("step", 3, rank=rank, count=2))
        assert torch.allclose(share, whole[rank::2], atol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_random_starts_are_those_of_the_whole_batch(norm: str) -> None:
    x = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    threat = Threat(norm, 0.3)  # type: ignore[arg-type]
    whole = threat.random_start(x, generator_of("start"))
    for rank in range(3):
        share = threat.random_start(x[rank::3], shared_generator_of("start", rank=rank, count=3))
        assert torch.equal(share, whole[rank::3])


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 2))
    with pytest.raises(InputError, match="multiple of the 2 processes"):
        train(
            torch.nn.Linear(1, 1),
            load_images("digits", limit=20).train,
            lambda *given: {},
            TrainingSettings(batch_size=5),
        )
