"""The loop: resume is exact, a checkpoint of another run is refused, a diverging loss stops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError
from heirloom.data.labelled import LabelledImages
from heirloom.runtime.errors import TrainingError
from heirloom.runtime.files import read_tensors
from heirloom.training.loop import TrainingSettings, train
from heirloom.training.schedules import divided_at, warmup_cosine

SETTINGS = TrainingSettings(epochs=3, batch_size=8, learning_rate=1e-2, seed=5, checkpoint_seconds=0.0)


def _data() -> LabelledImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(40, 1, 4, 4, generator=generator)
    return LabelledImages(pixels, (pixels.mean((1, 2, 3)) > 0.5).long(), ("dark", "light"))


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def _noisy_step(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    noise = 0.1 * torch.rand(x.shape, generator=generator)
    return {"loss": nn.functional.cross_entropy(model(x + noise), y)}


class _CutOffError(Exception):
    pass


@pytest.mark.parametrize("cut", [1, 5, 7, 14])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(cut: int, tmp_path: Path) -> None:
    whole = _model()
    history = train(whole, _data(), _noisy_step, SETTINGS)

    def cut_off(done: int, total: int, losses: dict[str, float]) -> None:
        if done == cut + 1:
            raise _CutOffError

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(_CutOffError):
        train(_model(), _data(), _noisy_step, SETTINGS, checkpoint=checkpoint, report=cut_off)
    resumed = _model()
    resumed_history = train(resumed, _data(), _noisy_step, SETTINGS, checkpoint=checkpoint, resume=True)
    assert resumed_history == history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_lowers_the_loss_and_leaves_global_randomness_alone() -> None:
    before = torch.random.get_rng_state()
    model = _model()
    before = torch.random.get_rng_state()
    history = train(
        model, _data(), _noisy_step, TrainingSettings(epochs=30, batch_size=8, learning_rate=1e-2)
    )
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert torch.equal(before, torch.random.get_rng_state())
    assert not model.training


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"facts": {"weight": 2}}, "another weight"),
        ({"data": "other pixels"}, "another data.pixels"),
        ({"data": "other labels"}, "another data.labels"),
        (
            {"settings": replace(SETTINGS, learning_rate=0.02, seed=6)},
            "training.learning_rate, training.seed",
        ),
        ({"model": nn.Linear(4, 3)}, "another model"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    checkpoint, data = tmp_path / "checkpoint.safetensors", _data()
    train(_model(), data, _noisy_step, SETTINGS, checkpoint=checkpoint, facts={"weight": 1})
    if change.get("data") == "other pixels":
        data = replace(data, pixels=data.stored().flip(0))
    if change.get("data") == "other labels":
        data = replace(data, labels=data.labels.flip(0).contiguous())
    with pytest.raises(InputError, match=f"resume must be of the run in .*{named}"):
        train(
            change.get("model", _model()),
            data,
            _noisy_step,
            change.get("settings", SETTINGS),
            checkpoint=checkpoint,
            resume=True,
            facts=change.get("facts", {"weight": 1}),
        )


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    steps = iter(range(100))

    def diverging(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        loss = _noisy_step(model, x, y, generator)["loss"]
        return {"loss": loss * float("nan") if next(steps) == 6 else loss}

    with pytest.raises(TrainingError, match="The loss became nan at step 7 of 15"):
        train(_model(), _data(), diverging, SETTINGS, checkpoint=checkpoint)
    history = train(_model(), _data(), _noisy_step, SETTINGS, checkpoint=checkpoint, resume=True)
    assert len(history) == 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda loss: loss * 1e6, "The loss became .* at step 7 of 15"),
        # a finite loss with an infinite gradient: the root's slope at 0
        (
            lambda loss: loss + (loss - loss.detach()).abs().sqrt(),
            "A gradient became infinite or NaN at step 7",
        ),
    ],
)
def test_what_diverges_never_reaches_the_checkpoint(spoil: Any, said: str, tmp_path: Path) -> None:
    checkpoint, steps = tmp_path / "checkpoint.safetensors", iter(range(100))

    def diverging(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        loss = _noisy_step(model, x, y, generator)["loss"]
        return {"loss": spoil(loss) if next(steps) == 6 else loss}

    with pytest.raises(TrainingError, match=said):
        train(_model(), _data(), diverging, SETTINGS, checkpoint=checkpoint)
    tensors, metadata = read_tensors(checkpoint)
    assert '"step": 6' in metadata["state"]
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_schedules_start_and_end_where_they_should() -> None:
    cosine, steps = warmup_cosine(0.1), divided_at([0.5, 0.75])
    assert cosine(0.05) == pytest.approx(0.5)
    assert cosine(0.1) == pytest.approx(1)
    assert cosine(0.55) == pytest.approx(0.5)
    assert cosine(1.0) == pytest.approx(0, abs=1e-12)
    assert [round(steps(done), 4) for done in (0.5, 0.6, 0.8)] == [1, 0.1, 0.01]


def test_settings_reject_what_cannot_train() -> None:
    with pytest.raises(InputError, match="epochs must be at least 1, got 0"):
        TrainingSettings(epochs=0)
    with pytest.raises(InputError, match="device must be one of auto, cpu"):
        train(_model(), _data(), _noisy_step, TrainingSettings(epochs=1, device="cuda:77"))
