"""Copies of a model share nothing that a call changes, wherever it lies."""

import gc
import os
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import Summary
from heirloom.cli import app, common
from heirloom.data.images import load_images
from heirloom.evaluation.apart import connections, fresh_copy, noticed, separate
from heirloom.evaluation.askable import askable
from heirloom.evaluation.behaviour import behaviour
from heirloom.evaluation.broken import beyond
from heirloom.evaluation.broken.inconsistent import Around
from heirloom.evaluation.fingerprint import fingerprint
from heirloom.evaluation.pass_dtype import measured_dtype
from heirloom.evaluation.preflight import cost_of


class _Environment(Around):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.environ["PLANTED"] = str(int(os.environ.get("PLANTED", "0")) + 1)
        return self.network(x) * int(os.environ["PLANTED"])  # type: ignore[no-any-return]


class _InALibrary(Around):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.PLANTED.append(0)  # type: ignore[attr-defined]
        return self.network(x) * len(torch.PLANTED)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    "make",
    [beyond.late_class_cache, _Environment, _InALibrary],
    ids=lambda make: make.__name__,
)
def test_copies_have_what_a_call_changes_for_themselves(make, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PLANTED", "0")
    monkeypatch.setattr(torch, "PLANTED", [], raising=False)
    x = load_images("digits").test.images[:4]
    beside = torch.where(
        x % 0.5 == 0.25, x, torch.where(x > 0.5, x - 0.01, x + 0.01)
    )  # rounded to the same key
    model = make()
    pristine = fresh_copy(model)
    assert pristine is not None
    with torch.no_grad():
        truth = model.network(beside)
        model(x)
        slots = noticed(pristine, x)
        assert slots
        held = {name: slot.get() for name, slot in slots.items()}
        one, other = separate(pristine, slots), separate(pristine, slots)
        assert torch.equal(one(beside), truth)
        assert not torch.equal(one(x), model.network(x))  # it remembers, in its own place
        assert torch.equal(other(beside), truth)
        assert {name: slot.get() for name, slot in slots.items()} == held  # and the model's is as it was
        assert not torch.equal(model(beside), truth)


SERVED = {"calls": 0}


class _WarmedUp(nn.Module):
    """Its first three calls, counted for the whole process, can be differentiated; later ones cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        SERVED["calls"] += 1
        with torch.set_grad_enabled(torch.is_grad_enabled() and SERVED["calls"] <= 3):
            return self.layer(x.flatten(1)) + 0.5 * (SERVED["calls"] > 3)  # type: ignore[no-any-return]


TRIED = {
    "how it can be asked": lambda model, images, labels: askable(model, images),
    "what it costs": lambda model, images, labels: cost_of(model, images),
    "how it behaves": lambda model, images, labels: behaviour(model, images),
    "its fastest type": lambda model, images, labels: measured_dtype(model, (images, labels), "cpu", 8),
}


@pytest.mark.parametrize("tried", TRIED)
def test_what_is_tried_before_a_run_leaves_nothing_behind(
    tried: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVED, "calls", 1)
    data = load_images("digits").test
    TRIED[tried](_WarmedUp().eval(), data.images[:8], data.labels[:8])
    assert SERVED == {"calls": 1}


def test_first_calls_that_are_otherwise_are_told_by_the_audit_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVED, "calls", 0)
    words = ["evaluate", "--model", f"{__name__}:_WarmedUp", "--data", "digits", "--limit", "30", "-q"]
    words += ["--eps", "0.3", "--attacks", "pgd-2", "--audit-examples", "16", "--out", str(tmp_path)]
    assert common.run(app, words) == 0
    found = Summary.read(tmp_path / "summary.json").details["audit"]["failed"]
    assert found[0] == "state"


def test_a_model_with_what_cannot_be_copied_is_copied_around_it() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock, self.inner = threading.Lock(), nn.Linear(2, 2)
            self.kept = {"lock": threading.Lock(), "seen": [0]}
            self.result = self.inner(torch.ones(1, 2))  # not a leaf of its graph

    model = Held()
    copied = fresh_copy(model)
    assert isinstance(copied, Held)
    assert copied.lock is model.lock
    assert copied.kept["lock"] is model.kept["lock"]
    assert copied.kept["seen"] is not model.kept["seen"]
    assert copied.inner.weight is not model.inner.weight
    assert not copied.result.requires_grad


class _Asking(Around):
    """Asks another end of a pipe at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.held = {"ends": Pipe()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one, other = self.held["ends"]
        one.send(2)
        return self.network(x) * other.recv()  # type: ignore[no-any-return]


def test_a_copy_that_goes_leaves_the_connections_of_the_model_open() -> None:
    model, x = _Asking(), load_images("digits").test.images[:2]
    copied = fresh_copy(model)
    assert copied is not None
    assert connections(model) == ["Connection", "Connection"]
    assert copied.held["ends"] == model.held["ends"]  # type: ignore[index]
    del copied
    gc.collect()
    assert torch.equal(model(x), 2 * model.network(x))


def test_what_is_the_same_has_one_fingerprint_in_any_order_and_if_it_is_no_number() -> None:
    """Else an audit asks a thousand passes more of every model whose code reaches math.nan, or a set of names."""
    assert list({0, 8}) != list({8, 0})
    for value, other in (({0, 8}, {8, 0}), (float("nan"), float("nan")), ([{8, 0}], [{0, 8}])):
        assert fingerprint(value) == fingerprint(other)
    for value, other in (({0, 8}, {0, 9}), ({0}, {0, 8}), (float("nan"), 0.0), ({0}, [0])):
        assert fingerprint(value) != fingerprint(other)
