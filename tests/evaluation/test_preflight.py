"""The plan that is told before work begins: its passes are the attacks' own, and nothing that is planned is touched."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heirloom.attacks.engine.passes import Passes
from heirloom.cli import app, common
from heirloom.cli.plan import lines
from heirloom.cli.progress import Lines, duration
from heirloom.evaluation import broken
from heirloom.evaluation.preflight import Cost, Plan, Stage, cost_of, measuring, passes_of
from heirloom.runtime.errors import InputError
from heirloom.threat import Threat

THREAT = Threat("Linf", 0.1)


@pytest.mark.parametrize(("name", "forward", "backward"), [("fgsm", 1, 1), ("pgd-10", 11, 10)])
def test_the_passes_of_an_attack_are_those_of_an_image_that_it_does_not_fool(
    name: str, forward: int, backward: int
) -> None:
    found = passes_of(name, 10, THREAT)
    assert abs(found.forward - forward) <= 1
    assert found.backward == backward


class _Remembers(nn.Module):
    """Counts its calls, which a run must not see changed by its plan."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.calls = nn.Linear(192, 7), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x.flatten(1)).relu()


def test_a_cost_is_measured_on_a_copy(generator: torch.Generator) -> None:
    model, state = _Remembers().train(), torch.get_rng_state()
    cost = cost_of(model, torch.rand(20, 3, 8, 8, generator=generator))
    assert model.calls == 0
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert cost.outputs == 7
    assert cost.weights == 4 * (192 * 7 + 7)
    assert cost.activations >= 4 * 7  # what relu keeps
    assert cost.gradient > cost.forward > 0


def test_a_model_that_differentiates_by_torch_func_has_a_cost(generator: torch.Generator) -> None:
    images = torch.rand(4, 1, 8, 8, generator=generator)
    assert cost_of(broken.latent_search(), images).activations >= images[0].numel() * 4


def test_a_plan_adds_up() -> None:
    cost = Cost(forward=1.0, gradient=3.0, weights=10, activations=5, outputs=10)
    (stage,) = measuring(cost, 4, ["pgd-10"], classes=10, threat=THREAT)
    assert stage.passes == Passes(4 * passes_of("pgd-10", 10, THREAT).forward, 40)
    assert stage.seconds == 3.0 * 40 + (stage.passes.forward - 40)
    assert cost.memory(8) == 2 * 10 + 8 * 5


def test_a_model_that_gives_no_numbers_is_refused_before_any_work(tmp_path: Path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * float("nan")

    with pytest.raises(InputError, match="finite numbers"):
        cost_of(Broken(), torch.rand(2, 1, 4, 4))


def test_without_a_terminal_lines_say_what_is_left() -> None:
    now, said = [0.0], list[str]()
    lines = Lines(clock=lambda: now[0], write=said.append)
    for done in range(1, 101):
        now[0] += 2.0
        lines.tell("train", done, 100, "loss 1")
    assert said[0] == "heirloom: train: 1 of 100; loss 1"
    assert said[1] == "heirloom: train: 16 of 100, about 3 min left; loss 1"
    assert said[-1] == "heirloom: train: 100 of 100; loss 1"
    assert len(said) == 1 + 6 + 1


@pytest.mark.parametrize("command", ["defend", "probe", "pretrain", "features build", "certify", "evaluate"])
def test_every_command_that_measures_tells_its_plan(
    command: str,
    foundation: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class StoppedError(Exception):
        pass

    def stopped(*_: object, **__: object) -> None:
        raise StoppedError

    monkeypatch.setattr("heirloom.runs.Run.__init__", stopped)
    factory = "tests.evaluation.subjects:linear"
    model = {"defend": "--model", "probe": "--encoder", "features build": "--encoder"}.get(command)
    words = [*command.split(), "--data", "digits", "--out", str(tmp_path / "out"), "--limit-test", "12"]
    if model is not None:
        words += [model, str(foundation)]
    elif command == "pretrain":
        words += ["--network", "resnet8", "--adversarial", "--validation", "0.2"]
    else:
        words += ["--model", factory]
    if command not in ("certify", "evaluate"):
        words += ["--limit", "60"]
    with pytest.raises(StoppedError):
        common.run(app, words)
    said = capsys.readouterr().err
    assert "heirloom: the plan: " in said
    assert not (tmp_path / "out").exists()


def test_a_plan_tells_what_is_likely_and_the_most() -> None:
    cost = Cost(forward=0.01, gradient=0.03, weights=0, activations=0, outputs=10)
    stages = measuring(cost, 1000, ["pgd-20", "cascade"], classes=10, threat=Threat("Linf", 8 / 255))
    head, train, first, second = lines(Plan((Stage("train", 600.0), *stages), 5_000_000))
    assert head.endswith("where no image falls; about 5 MB of memory beside the images")
    assert train == "  train    10 min"
    assert first == f"  pgd-20   {duration(0.65 * 610)}, at most {duration(610)}"
    most = stages[1].seconds
    assert second == f"  cascade  {duration(0.15 * most)}, at most {duration(most)}"
    alone = Plan((Stage("train", 600.0),), 5_000_000)
    assert lines(alone)[0] == "the plan: 10 min; about 5 MB of memory beside the images"
