"""The same figures on a GPU as on the CPU, half precision where it was asked for, and memory that halves the batch."""

import pytest
import torch
from torch import nn

from heirloom import Threat
from heirloom.data.images import load_images
from heirloom.evaluation.verdicts import evaluate
from heirloom.runtime.randomness import generator_of
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings, train
from heirloom.training.supervised import supervised_step

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
THREAT = Threat("Linf", 0.1)


def _classifier() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def _trained(device: str, precision: str = "no") -> tuple[nn.Module, list[dict[str, float]]]:
    model = _classifier()
    settings = TrainingSettings(
        epochs=2,
        batch_size=64,
        learning_rate=3e-3,
        device=device,
        mixed_precision=precision,  # type: ignore[arg-type]
    )
    step = supervised_step(None, THREAT, InnerAttack(3, random_start=False))
    return model.cpu(), train(model, load_images("digits").train.limit(512), step, settings)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training_gives_the_losses_of_the_cpu(precision: str) -> None:
    _, expected = _trained("cpu")
    _, found = _trained("cuda", precision)
    tolerance = 1e-3 if precision == "no" else 0.05
    assert [e["loss"] for e in found] == pytest.approx([e["loss"] for e in expected], rel=tolerance)


def test_verdicts_are_those_of_the_cpu_but_for_ties() -> None:
    model, _ = _trained("cpu")
    data = load_images("digits").test.limit(200).pair
    found = {device: evaluate(model, data, THREAT, ["fgsm"], device=device) for device in ("cpu", "cuda")}
    assert torch.equal(found["cpu"].correct["clean"], found["cuda"].correct["clean"])
    assert int((found["cpu"].correct["fgsm"] != found["cuda"].correct["fgsm"]).sum()) <= 2


def test_a_training_step_lets_the_gpu_run_on() -> None:
    """torch's own mode raises where the program waits for the device."""
    model = _classifier().cuda()
    x, y = torch.rand(8, 1, 8, 8, device="cuda"), torch.zeros(8, dtype=torch.long, device="cuda")
    step, generator = supervised_step(None, THREAT, InnerAttack(5)), generator_of(0, device="cuda")
    step(model, x, y, generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(model, x, y, generator)["loss"].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
