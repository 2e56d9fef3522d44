"""A model that refuses what attacks ask for is judged all the same, and the result says how it was asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import margin
from heirloom.data.images import load_images
from heirloom.evaluation.adaptive.sources import with_bpda
from heirloom.evaluation.askable import InMultiples, Undifferentiated, askable, remarks_on
from heirloom.evaluation.audit import audit, failed
from heirloom.evaluation.job import evaluate_job
from heirloom.evaluation.precision import in_dtype, type_of
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.evaluation.verdicts import evaluate
from tests.cli.factories import that_casts_for_itself

from .subjects import Linear, linear

IMAGES = load_images("digits").test.images[:7]


class _Refusing(nn.Module):
    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.asked = linear(), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.asked(self.inside, x)


def _only(holds: Callable[[int], bool]) -> Callable[[nn.Module, Tensor], Tensor]:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        if not holds(len(x)):
            raise ValueError(f"{len(x)} images")
        return model(x)  # type: ignore[no-any-return]

    return forward


class _WithoutDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no derivative is known")


@pytest.mark.parametrize(
    ("forward", "step", "most"),
    [
        (_only(lambda count: count % 2 == 0), 2, None),
        (_only(lambda count: count == 8), 8, 8),
        (_only(lambda count: count == 1), 1, 1),
        (lambda model, x: model(x).squeeze(), 2, None),
    ],
    ids=["pairs", "eight", "one", "squeeze"],
)
def test_refused_numbers_are_filled_up(
    forward: Callable[[nn.Module, Tensor], Tensor], step: int, most: int | None
) -> None:
    plain, model = linear(), askable(_Refusing(forward), IMAGES)
    assert isinstance(model, InMultiples)
    assert (model.step, model.most) == (step, most)
    labels = torch.zeros(7, dtype=torch.int64)
    for count in (1, 2, 3, 7):
        torch.testing.assert_close(model(IMAGES[:count]), plain(IMAGES[:count]))
        found, expected = (
            input_gradient(m, IMAGES[:count], labels[:count], margin)[0] for m in (model, plain)
        )
        torch.testing.assert_close(found, expected)


def test_a_model_that_takes_all_or_nothing_is_itself() -> None:
    for model in (Linear(), nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), _Refusing(lambda m, x: m(x)[:1])):
        assert askable(model, IMAGES) is model
        assert remarks_on(model) == ""


def test_an_evaluation_of_one_without_a_derivative_names_the_error(tmp_path: Path) -> None:
    def forward(inside: nn.Module, x: Tensor) -> Tensor:
        if len(x) % 2:
            raise ValueError("an odd number")
        return inside(_WithoutDerivative.apply(x))  # type: ignore[no-any-return]

    data, model = load_images("digits").test, askable(_Refusing(forward), IMAGES)
    assert isinstance(model, Undifferentiated)
    threat = Threat("Linf", 0.2)
    settings = EvaluationSettings("refusing", "digits", threat, ("fgsm",), audit_examples=21)
    summary, findings = evaluate_job(model, (data.images[:31], data.labels[:31]), settings, tmp_path / "out")
    assert summary.rows[0]["fgsm"]["value"] == summary.rows[0]["clean"]["value"]
    first = next(finding for finding in findings if finding.verdict == "fail")
    assert first.check == "gradients"
    assert "NotImplementedError: no derivative is known" in first.cause
    assert summary.details["evaluation"]["model"] == remarks_on(model)
    assert "multiples of 2" in (tmp_path / "out" / "report.html").read_text()


def test_python_asks_as_the_command_line_does() -> None:
    data = load_images("digits").test
    pair, threat = (data.images[:31], data.labels[:31]), Threat("Linf", 0.2)
    for forward, said in (
        (_only(lambda count: count % 2 == 0), "multiples of 2"),
        (lambda inside, x: inside(_WithoutDerivative.apply(x)), "no derivative is known"),
    ):
        model = _Refusing(forward).train()
        evaluation = evaluate(model, pair, threat, ["fgsm"])
        found = failed(audit(model, pair, threat, evaluation, examples=21))[0]
        assert said in evaluation.asked
        assert (found.check == "gradients") == ("derivative" in said)
        assert model.training
    assert evaluate(linear(), pair, threat, ["fgsm"]).asked == ""


class _Filtered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter, self.inside = _Refusing(lambda _, x: _WithoutDerivative.apply(x)), linear()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(self.filter(x)).squeeze()  # type: ignore[no-any-return]


def test_a_part_is_named_as_in_the_users_own_model() -> None:
    model = askable(_Filtered(), IMAGES)
    around = with_bpda(model, "filter", None)
    labels = torch.zeros(3, dtype=torch.int64)
    found, expected = (input_gradient(m, IMAGES[:3], labels, margin)[0] for m in (around, linear()))
    assert not input_gradient(model, IMAGES[:3], labels, margin)[0].any()
    torch.testing.assert_close(found, expected)


def test_a_model_that_casts_for_itself_keeps_its_types() -> None:
    model, plain = that_casts_for_itself(), linear().double()
    assert in_dtype(model, torch.float32, IMAGES) is model
    assert type_of(in_dtype(plain, torch.float32, IMAGES)) == torch.float32
    assert (
        type_of(in_dtype(model, torch.bfloat16, IMAGES)) == torch.bfloat16
    )  # asked for: refused later, in a sentence


def _slope(model: nn.Module, x: Tensor) -> Tensor:
    return torch.func.jvp(lambda z: model(z).logsumexp(1), (x.detach(),), (torch.ones_like(x),))[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "forward",
    [
        lambda model, x: model(x + 0 * _slope(model, x)[:, None, None, None]),
        lambda model, x: model(x + 0 * torch.func.grad(lambda z: model(z).sum())(x.detach())),
        lambda model, x: torch.func.vmap(lambda z: model(z[None])[0])(x),
        lambda model, x: (
            model(x) + 0 * torch.func.hessian(lambda z: model(z).logsumexp(1).sum())(x[:1]).mean()
        ),
        lambda model, x: model(x.to_sparse().to_dense()),
        lambda model, x: model(torch.fft.ifft2(torch.fft.fft2(x)).real),
        lambda model, x: model(torch.nested.nested_tensor(list(x)).to_padded_tensor(0)),
        lambda model, x: model(torch.quantize_per_tensor(x, 1 / 16, 0, torch.quint8).dequantize()),
    ],
    ids=["jvp", "grad", "vmap", "hessian", "sparse", "fft", "nested", "quantized"],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, on prototypes
def test_whatever_arithmetic_a_model_is_made_of(forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
    labels, threat = linear()(IMAGES).argmax(1), Threat("Linf", 0.3)
    found = evaluate(_Refusing(forward), (IMAGES, labels), threat, ["pgd-2", "square-20"])
    plain = evaluate(linear(), (IMAGES, labels), threat, ["pgd-2", "square-20"])
    assert torch.equal(found.correct["clean"], plain.correct["clean"])
    assert found.accuracy("square-20").value < 1
