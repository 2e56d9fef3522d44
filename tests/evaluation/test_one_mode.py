"""Models that refuse train() and eval(), or have no truth value, are evaluated and audited like any other."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.apart import copy_or_itself
from heirloom.evaluation.askable import inside
from heirloom.evaluation.audit import audit, failed
from heirloom.evaluation.one_mode import OneMode, with_modes
from heirloom.evaluation.verdicts import check_evaluable, evaluate


def exported() -> nn.Module:
    sizes = ({0: torch.export.Dim("images", min=1, max=4096)},)
    program = torch.export.export(
        deepcopy(broken.clean_net()), (torch.rand(2, 1, 8, 8),), dynamic_shapes=sizes
    )
    return program.module()


def frozen() -> nn.Module:
    net = broken.clean_net()
    scripted = torch.jit.script(nn.Sequential(net.encoder, net.head).eval())
    return torch.jit.freeze(scripted)  # type: ignore[no-any-return]


def compiled() -> nn.Module:
    return torch.compile(deepcopy(broken.clean_net()), backend="eager")  # type: ignore[return-value]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [exported, frozen, compiled], ids=lambda make: make.__name__)
@pytest.mark.parametrize("inner", [False, True])
def test_such_models_are_judged_as_the_net_that_they_are(make: Callable[[], nn.Module], inner: bool) -> None:
    test = load_images("digits").test
    data = test.images[:40], test.labels[:40]
    model = nn.Sequential(nn.Identity(), make()) if inner else make()
    check_evaluable(model, data)
    found = evaluate(model, data, broken.THREAT, ["pgd-5"])
    plain = evaluate(broken.clean_net(), data, broken.THREAT, ["pgd-5"])
    assert torch.equal(found.correct["pgd-5"], plain.correct["pgd-5"])
    copy_or_itself(model)
    if not inner:
        findings = audit(model, data, broken.THREAT, examples=24)
        assert [f.check for f in failed(findings)] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_that_know_modes_are_switched() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert with_modes(plain) is plain
    dropout = nn.Dropout(0.5)
    model = with_modes(nn.Sequential(dropout, frozen()))
    assert isinstance(model, OneMode)
    for switched in (model, model.eval(), model.train()):
        assert switched.training == dropout.training
    assert model.training
    assert not model.eval().training
    assert with_modes(model) is model
    assert inside(model) is model.model
