"""A compiled model answers as the model does, for any number of images; compaction every few steps finds the same."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat, evaluate
from heirloom.attacks import apgd, misclassified, pgd
from heirloom.attacks.engine import for_the_passes
from heirloom.attacks.engine.compaction import compacted_every
from heirloom.attacks.engine.compiled import Compiled, compiled
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import cross_entropy
from tests.attacks.small import digits
from tests.attacks.test_peers import network

THREAT = Threat("Linf", 0.1)


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_outputs_and_gradients_are_the_models_and_few_graphs_serve_all_sizes() -> None:
    from torch._dynamo.utils import counters

    model, (x, y) = network("convolutional"), digits()
    counters.clear()
    found = compiled(model, x[:3], "aot_eager")
    assert isinstance(found, Compiled)
    made = counters["stats"]["unique_graphs"]
    for count in (9, 8, 5, 2, 1):
        ours, theirs = (input_gradient(m, x[:count], y[:count], cross_entropy) for m in (found, model))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.allclose(one, other, atol=1e-5)
    assert 1 <= made == counters["stats"]["unique_graphs"]
    assert all(p.requires_grad for p in model.parameters())


def test_what_cannot_be_compiled_is_attacked_as_it_is_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneSize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10] * (2.0 if len(x) == 3 else 1.0)

    class Quirk(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :10] * (2.0 if torch.compiler.is_compiling() else 1.0)

    x = digits()[0][:3]
    for model, reason in ((OneSize(), "batch|dynamic|specializ|Constraint"), (Quirk(), "answers otherwise")):
        with pytest.warns(RuntimeWarning, match=reason):
            assert compiled(model, x, "aot_eager") is model

    def without_compiler(*_: object, **__: object) -> None:
        raise RuntimeError(
            "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx"
        )

    monkeypatch.setattr(torch, "compile", without_compiler)
    with pytest.warns(RuntimeWarning, match=r"needs a C\+\+ compiler"):
        assert compiled(model, x) is model


def test_verdicts_of_an_evaluation_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(for_the_passes, "compiled", partial(compiled, backend="aot_eager"))
    model, (x, y) = network("convolutional"), digits()
    data = x[1500:1540], y[1500:1540]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours, plain = (evaluate(model, data, THREAT, ("pgd-10",), compile=c) for c in (True, False))
    assert (ours.compiled, plain.compiled) == (True, None)
    assert torch.equal(ours.correct["pgd-10"], plain.correct["pgd-10"])
    assert 0 < int(plain.correct["pgd-10"].sum()) < 40
    assert ours.passes["pgd-10"].forward > plain.passes["pgd-10"].forward  # who is done stays for a few steps


@pytest.mark.parametrize("attack", [pgd, apgd], ids=["pgd", "apgd"])
def test_compaction_finds_the_same_with_fewer_looks_and_sizes(attack: object) -> None:
    model, (x, y) = network("perceptron"), digits()
    x, y = x[1500:1540], y[1500:1540]
    found, sizes = [], []
    for every in (1, 5):
        seen: list[int] = []
        hook = model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(len(given[0])))
        with compacted_every(every):
            generator = torch.Generator().manual_seed(0)
            point = attack(model, x, y, THREAT, steps=12, until=misclassified, generator=generator)  # type: ignore[operator]
        hook.remove()
        found.append(point)
        sizes.append(len(set(seen)))
    assert torch.allclose(*found, atol=1e-6)
    assert sizes[1] < sizes[0]
