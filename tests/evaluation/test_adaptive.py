"""The adaptive attack gets around what the audit names, and random models are scored over draws."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import margin
from heirloom.cli import app
from heirloom.cli.common import run as run_command
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.adaptive.attack import Draws
from heirloom.evaluation.adaptive.job import _differs
from heirloom.evaluation.adaptive.rewriting import Rewritten
from heirloom.evaluation.adaptive.sources import AsJudged, sources, with_bpda
from heirloom.results.schema import Summary


def few() -> tuple[torch.Tensor, torch.Tensor]:
    test = load_images("digits").test
    return test.images[:16], test.labels[:16]


@pytest.mark.parametrize(
    "make",
    [
        broken.pixel_quantiser,
        broken.nan_gradients,
        broken.reversed_gradient,
        broken.argmax_logits,
        broken.straight_through_with_stops,
    ],
    ids=lambda make: make.__name__,
)
def test_rewriting_keeps_the_values_and_gives_a_gradient_that_rises(make) -> None:  # type: ignore[no-untyped-def]
    (x, y), model = few(), make()
    rewritten = Rewritten(model)
    assert torch.equal(rewritten(x), model(x))
    gradient = input_gradient(rewritten, x, y, margin)[0]
    assert bool((gradient.flatten(1).abs().sum(1) > 0).all())
    undefended = broken.clean_net()
    along = (x + 0.1 * gradient.sign()).clamp(0, 1)
    risen = margin(undefended(along), y) - margin(undefended(x), y)
    assert float((risen > 0).double().mean()) > 0.8


def test_rewriting_leaves_torch_as_it_was() -> None:
    before = torch.autograd.Function.__dict__["apply"]
    asked = torch.is_grad_enabled
    Rewritten(broken.reversed_gradient())(few()[0])
    AsJudged(broken.gradient_mode_switch())(few()[0])
    assert torch.autograd.Function.__dict__["apply"] is before
    assert torch.is_grad_enabled is asked


def test_the_branch_that_is_judged_is_shown() -> None:
    (x, _), model = few(), broken.gradient_mode_switch()
    shown = AsJudged(model)(x.clone().requires_grad_())
    assert torch.equal(shown, model(x))
    assert shown.requires_grad


def test_blinded_inner_optimisation_is_the_model_without_it() -> None:
    x, _ = few()
    model = broken.optimising_purifier()
    assert torch.allclose(Rewritten(model, inner="blinded")(x), broken.clean_net()(x), atol=1e-5)
    unrolled = Rewritten(model, inner="unrolled")(x.clone().requires_grad_())
    assert torch.allclose(unrolled, model(x), atol=1e-5)
    assert unrolled.requires_grad


def test_bpda_by_name_and_its_errors() -> None:
    (x, y), model = few(), broken.pixel_quantiser()
    straight = with_bpda(model, "preprocessor", None)
    assert torch.equal(straight(x), model(x))
    assert bool((input_gradient(straight, x, y, margin)[0] != 0).any())
    with pytest.raises(InputError, match="bpda must be the name of a part"):
        with_bpda(model, "nowhere", None)


def test_sources_follow_the_findings() -> None:
    x, _ = few()
    named = [s.name for s in sources(broken.noise_injection(), {"randomness"}, x, random=True, draws=3)]
    assert all("3 draws (EOT)" in name for name in named)
    assert len(sources(broken.linear_net(), set(), x)) == 1
    wrapped = sources(broken.saturated_logits(), {"saturation"}, x)
    assert any("undefended part `0`" in source.name for source in wrapped)


def test_scores_over_draws() -> None:
    right = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]]).bool()
    draws = Draws(right)
    assert draws.mean().value == pytest.approx(7 / 12)
    assert draws.majority().value == 0.75
    assert draws.worst().value == 0.25
    assert draws.mean().low < draws.mean().value < draws.mean().high


def run(tmp_path: Path, make: str, *more: str) -> Summary:
    arguments = [
        "evaluate",
        "--model",
        f"heirloom.evaluation.broken:{make}",
        "--data",
        "digits",
        "--eps",
        "0.15",
    ]
    arguments += [
        "--limit",
        "30",
        "--attacks",
        "pgd-10",
        "--audit-examples",
        "20",
        "--out",
        str(tmp_path / make),
    ]
    assert run_command(app, [*arguments, *more]) == 0
    return Summary.read(tmp_path / make / "summary.json")


def test_adaptive_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = run(tmp_path, "detached_smoothing", "--adaptive", "--bpda", "preprocessor").rows[0]
    assert row["adaptive"]["value"] < row["pgd-10"]["value"] - 0.3
    said = capsys.readouterr().out
    assert "preprocessor straight through (BPDA)" in said
    again = run(tmp_path, "detached_smoothing", "--adaptive", "--bpda", "preprocessor", "--resume").rows[0]
    assert again["adaptive"] == row["adaptive"]


def test_a_random_model_is_scored_over_draws_and_its_columns_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run(tmp_path, "noise_injection", "--draws", "10")
    found = summary.details["draws"]
    assert found["draws"] == 10
    assert found["worst"]["value"] <= found["mean"]["value"]
    assert "PGD-10 (one draw)" in capsys.readouterr().out
    assert "one draw" in (tmp_path / "noise_injection" / "report.html").read_text()


def test_options_that_need_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["evaluate", "--model", "heirloom.evaluation.broken:linear_net", "--data", "digits"]
    start += ["--out", str(tmp_path)]
    for arguments, said in (
        (["--adaptive", "--no-audit"], "--adaptive must be used with the audit"),
        (["--adaptive", "--bpda", "1"], "--bpda must be of the part's output shape"),
        (["--bpda", "preprocessor"], "--bpda must be used with --adaptive"),
        (["--draws", "1"], "--draws must be at least 2"),
    ):
        assert run_command(app, [*start, *arguments]) == 2
        assert said in capsys.readouterr().err


def test_a_model_that_draws_in_one_call_of_ten_is_seen_to_be_random() -> None:
    class Rarely(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + (torch.rand(()) < 0.1)

    x = torch.zeros(2, 10)
    torch.manual_seed(0)
    seen = sum(_differs(Rarely(), x) for _ in range(100))
    assert seen >= 98  # 64 calls like the first: .9 x .9^64 + .1 x .1^64, about one in a thousand
    assert not _differs(torch.nn.Identity(), x)
