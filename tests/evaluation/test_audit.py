"""Every planted defence is caught with its cause; sound models raise no alarm."""

import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from heirloom import InputError, Threat
from heirloom.attacks.named import Attack
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.audit import (
    CHECKS,
    MECHANISMS,
    Finding,
    audit,
    audit_details,
    failed,
    fresh_copy,
    trusted,
)
from heirloom.evaluation.audit.watch import watched
from heirloom.evaluation.broken.base import fit, seeded_modules
from heirloom.evaluation.verdicts import Evaluation, evaluate

from .subjects import linear

Data = tuple[torch.Tensor, torch.Tensor]
EXAMPLES = 40  # of the planted defences: their signs are coarse


@pytest.fixture(scope="module")
def data() -> Data:
    test = load_images("digits").test
    return test.images[:160], test.labels[:160]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize("planted", broken.DEFENCES, ids=lambda planted: planted.name)
def test_planted_defences_are_caught_with_the_right_cause(planted: broken.Planted, data: Data) -> None:
    findings = audit(planted.make(), data, broken.THREAT, examples=EXAMPLES)
    assert [finding.check for finding in findings] == list(CHECKS)
    found = by_name(findings)[planted.check]
    assert found.verdict == "fail"
    assert planted.says in found.cause
    assert found.remedy
    mechanisms = {finding.check for finding in failed(findings) if finding.check in MECHANISMS}
    assert mechanisms - {planted.check} <= set(planted.also)  # the cause named is the one that was planted
    assert failed(findings)[0].check == planted.check


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("make", broken.SOUND, ids=lambda make: make.__name__)
def test_no_false_alarm_on_sound_models(make, norm: str, data: Data) -> None:  # type: ignore[no-untyped-def]
    threat = {"Linf": broken.THREAT, "L2": Threat("L2", 0.7), "L1": Threat("L1", 4.0)}[norm]
    model = make()
    attacks = ["apgd-ce", "apgd-t"] if norm == "L1" else ["pgd-10", "cascade"]
    findings = audit(model, data, threat, evaluate(model, data, threat, attacks))
    assert failed(findings) == []
    assert trusted(findings)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("eps", [0.05, 0.25])
def test_no_false_alarm_at_other_seeds_and_eps(seed: int, eps: float, data: Data) -> None:
    threat = Threat("Linf", eps)
    for make in (broken.clean_net, broken.linear_net):
        model = make(seed)
        evaluation = evaluate(model, data, threat, ["strong"], seed=seed)
        assert failed(audit(model, data, threat, evaluation, seed=seed)) == []


def test_sound_linear_model_written_elsewhere(data: Data) -> None:
    for model in (linear(), torch.jit.trace(linear(), data[0][:2])):  # type: ignore[no-untyped-call]
        assert trusted(audit(model, data, Threat("Linf", 0.1), examples=32))


def test_audit_is_repeatable_and_leaves_everything_as_it_was(data: Data) -> None:
    model = broken.noise_injection()
    state, mode = torch.random.get_rng_state(), model.training
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (audit(model, data, broken.THREAT, examples=32) for _ in range(2))
    assert first == second
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert python_state == random.getstate()
    assert model.training == mode
    assert sys.getprofile() is None
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_clock_that_others_read_is_no_randomness(data: Data) -> None:
    class Talks(torch.nn.Module):
        """Deterministic; logs at every call, and leaves garbage whose finaliser reads the clock."""

        def __init__(self) -> None:
            super().__init__()
            self.net = broken.clean_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logging.getLogger("silent").debug("forward of %d", len(x))
            logging.getLogger("silent").makeRecord("silent", 10, "", 0, "called", (), None)
            left = Left()
            left.itself = left
            return self.net(x)

    class Left:
        itself: object = None

        def __del__(self) -> None:
            time.time()

    class Draws(Talks):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0 * time.time()

    assert watched(Talks().eval(), data[0][:4]).random == {}
    assert set(watched(Draws().eval(), data[0][:4]).random) == {"the operating system"}


def test_what_an_import_draws_is_no_randomness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "drawing_when_imported.py").write_text("import random\nrandom.Random().random()\n")
    monkeypatch.syspath_prepend(tmp_path)

    class Imports(nn.Flatten):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            import drawing_when_imported  # type: ignore[import-not-found]

            return super().forward(x + 0 * len(drawing_when_imported.__name__))

    class Draws(Imports):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + random.random()

    assert watched(Imports(), torch.rand(2, 1, 2, 2)).random == {}
    assert set(watched(Draws(), torch.rand(2, 1, 2, 2)).random) == {"Python's random"}


def test_modules_that_eval_does_not_reach_are_left_as_they_were(data: Data) -> None:
    dropout, network = nn.Dropout(0.3), broken.clean_net()

    class Closure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return network(dropout(x))  # type: ignore[no-any-return]

    found = by_name(audit(Closure().eval(), data, broken.THREAT, examples=32))["eval-mode"]
    assert "(Dropout)" in found.cause
    assert dropout.training
    assert not dropout._forward_pre_hooks


def test_cost_is_bounded_and_counted(data: Data) -> None:
    cost = audit(broken.pixel_quantiser(), data, broken.THREAT, examples=32)[-1].evidence["cost"]
    assert 0 < cost["forward"] <= 700 * 32
    assert 0 < cost["backward"] <= 500 * 32


def test_details_are_json_and_name_the_mechanism_first(data: Data) -> None:
    import json

    details = audit_details(audit(broken.pixel_quantiser(), data, broken.THREAT, examples=32))
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["failed"][0] == "quantisation"
    assert details["trusted"] is False
    assert {"check", "verdict", "cause", "remedy", "evidence"} == set(details["findings"][0])


def weak(threat: Threat) -> Attack:
    """Returns the clean image: an attack that does nothing."""
    return Attack("nothing", (lambda model, x, y, threat, generator: x,))


def test_a_weak_attack_is_reported(data: Data) -> None:
    model = broken.adversarial_net()
    evaluation = evaluate(model, data, broken.THREAT, [weak(broken.THREAT)])
    found = by_name(audit(model, data, broken.THREAT, evaluation))["steps"]
    assert found.verdict == "fail"
    assert "left standing" in found.cause


def test_an_attack_that_leaves_the_threat_set_is_reported(data: Data) -> None:
    model = broken.clean_net()
    outside = Attack("outside", (lambda model, x, y, threat, generator: 1 - x,))
    evaluation = evaluate(model, data, broken.THREAT, [outside])
    assert by_name(audit(model, data, broken.THREAT, evaluation))["attack-output"].verdict == "fail"


def test_transfer_from_a_surrogate_beats_a_masked_gradient(data: Data) -> None:
    findings = audit(broken.detached_smoothing(), data, broken.THREAT, surrogate=broken.clean_net())
    assert by_name(findings)["transfer"].verdict == "fail"
    sound = audit(broken.adversarial_net(), data, broken.THREAT, surrogate=broken.clean_net())
    assert by_name(sound)["transfer"].verdict == "pass"


def test_selected_examples_are_reported(data: Data) -> None:
    images, labels = data
    model = broken.linear_net()

    def said(chosen: torch.Tensor) -> Finding:
        part = (images[chosen], labels[chosen])
        evaluation = evaluate(model, part, broken.THREAT, ["fgsm"])
        return by_name(audit(model, part, broken.THREAT, evaluation, examples=8))["selection"]

    everything = torch.arange(len(labels))
    assert said(everything).verdict == "pass"
    right = model(images).argmax(1) == labels
    assert "errors seem to have been left out" in said(everything[right]).cause
    assert "classes occur" in said(everything[labels < 3]).cause
    assert "copies" in said(everything[:50].repeat(3)).cause


class _Straight(nn.Module):
    """Rounds to 16 levels, gradient straight through: quantised, but honestly attackable."""

    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x + ((x * 16).round() / 16 - x).detach())


def test_quantisation_with_a_straight_through_gradient_is_not_a_missing_gradient(data: Data) -> None:
    found = by_name(audit(_Straight(), data, broken.THREAT))
    assert found["quantisation"].verdict == "pass"
    assert found["quantisation"].evidence["unchanged"] > 0.9
    assert found["gradients"].verdict == "pass"


def test_ramps_between_the_limits_of_an_activation_are_no_shattered_loss(data: Data) -> None:
    said = failed(audit(broken.steep_codes(), data, Threat("Linf", 0.3), examples=EXAMPLES))
    assert said[0].check == "saturation"
    assert "`tanh` lie at its limits, and the loss moves in ramps" in said[0].cause


def test_one_step_beating_many_is_reported(data: Data) -> None:
    found = by_name(audit(broken.noise_injection(), data, broken.THREAT))
    assert found["one-step"].verdict == "fail"
    assert found["one-step"].evidence["fgsm_only"] > 2


def test_square_beating_white_box_in_the_evaluation_is_reported(data: Data) -> None:
    threat = broken.THREAT
    for model, verdict in ((broken.pixel_quantiser(), "fail"), (broken.adversarial_net(), "pass")):
        evaluation = evaluate(model, data, threat, ["apgd-margin", "square-200"])
        found = by_name(audit(model, data, threat, evaluation))["black-box"]
        assert found.verdict == verdict
        assert (found.evidence["fooled_by_square_in_evaluation"] > 2) == (verdict == "fail")


def test_evaluation_type_and_wrong_inputs(data: Data) -> None:
    images, labels = data
    with pytest.raises(InputError, match="examples must be at least 1"):
        audit(broken.clean_net(), data, broken.THREAT, examples=0)
    with pytest.raises(InputError, match="labels must be as many as images"):
        audit(broken.clean_net(), (images, labels[:5]), broken.THREAT)
    assert isinstance(evaluate(broken.clean_net(), (images[:9], labels[:9]), broken.THREAT, []), Evaluation)


def test_verdicts_are_judged_again_on_a_copy_that_was_never_called(data: Data) -> None:
    model = broken.test_time_statistics()
    pristine = fresh_copy(model)
    evaluation = evaluate(model, data, broken.THREAT, ["pgd-10"])
    found = by_name(audit(model, data, broken.THREAT, evaluation, examples=32, pristine=pristine))["state"]
    assert found.verdict == "fail"
    assert found.evidence["verdicts_changed"] > 2
    assert found.evidence["figure"] == pytest.approx(evaluation.accuracy("pgd-10").value)
    assert f"{100 * found.evidence['figure_corrected']:.0f} instead of" in found.cause
    sound = broken.linear_net()
    kept = evaluate(sound, data, broken.THREAT, ["pgd-10"])
    again = by_name(audit(sound, data, broken.THREAT, kept, examples=32))["state"].evidence
    assert again["verdicts_changed"] == 0
    assert again["figure_corrected"] == again["figure"]


def test_gradients_that_are_no_numbers_are_counted_before_they_are_zeroed(data: Data) -> None:
    found = by_name(audit(broken.nan_gradients(), data, broken.THREAT, examples=32))
    assert found["not-finite"].evidence["gradients"] == 1.0
    assert "Sqrt" in found["not-finite"].cause
    assert found["gradients"].verdict == "skipped"
    assert by_name(audit(broken.linear_net(), data, broken.THREAT))["not-finite"].evidence["gradients"] == 0.0


def test_too_few_images_is_a_finding_of_its_own(data: Data) -> None:
    few = (data[0][:12], data[1][:12])
    findings = audit(broken.linear_net(), few, broken.THREAT)
    assert [finding.check for finding in failed(findings)] == ["too-few"]
    assert not trusted(findings)
    assert by_name(audit(broken.linear_net(), data, broken.THREAT))["too-few"].verdict == "pass"


def _network(activation: type[nn.Module], norm: type[nn.Module]) -> nn.Module:
    def block(before: int, after: int, stride: int) -> list[nn.Module]:
        layer = norm(4, after) if norm is nn.GroupNorm else norm(after)
        return [nn.Conv2d(before, after, 3, stride, padding=1), layer, activation()]

    return nn.Sequential(*block(1, 16, 1), *block(16, 32, 2), nn.Flatten(), nn.Linear(512, 10))


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(1, 32, 2, 2), nn.Linear(32, 10)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, activation="gelu", batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "build",
    [
        lambda: _network(nn.ReLU, nn.BatchNorm2d),
        lambda: _network(nn.GELU, nn.Identity),
        lambda: _network(nn.SiLU, nn.GroupNorm),
        _Transformer,
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Dropout(0.2), nn.Linear(64, 10)),
    ],
    ids=["batch-norm", "gelu", "group-norm-silu", "transformer", "tanh-dropout"],
)
def test_no_mechanism_is_named_on_sound_networks_of_other_kinds(build, data: Data) -> None:  # type: ignore[no-untyped-def]
    model = fit(seeded_modules(build, 5), seed=5, epochs=12)
    assert failed(audit(model, data, broken.THREAT, examples=40)) == []


class _Search(nn.Module):
    """Takes the most confident of eight noisy images, always the same noise: an optimisation without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(8, 1, *x.shape[1:], generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            tried = torch.stack([x + 0.1 * one for one in noise])
            sure = torch.stack([self.net(images).softmax(1).amax(1) for images in tried])
        return self.net(tried[sure.argmax(0), torch.arange(len(x))])  # type: ignore[no-any-return]


class _Drawn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(gradient)


class _DrawnBackward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(_Drawn.apply(x))  # type: ignore[no-any-return]


class _Stepped(nn.Module):
    """Features in steps: clipped on the way, as most activations in levels are."""

    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = self.net.encoder(x)  # type: ignore[operator]
        return self.net.head(torch.floor(features.clamp(0, 2) * 8) / 8)  # type: ignore[operator, no-any-return]


class _ForwardMode(nn.Module):
    """Walks downhill by a derivative of forward mode, which calls no gradient function of autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ahead = torch.ones_like(x)
        _, slope = torch.func.jvp(lambda z: self.net(z).logsumexp(1), (x.detach(),), (ahead,))
        return self.net(x - 1e-3 * slope[:, None, None, None])  # type: ignore[no-any-return]


class _HalfPrecisionHead(nn.Module):
    """Features times 3000, weights by 3000, in float16: the logits are right, their gradients underflow."""

    def __init__(self) -> None:
        super().__init__()
        self.net = broken.clean_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = (3000 * self.net.encoder(x)).half()  # type: ignore[operator]
        weight = (self.net.head.weight / 3000).half()  # type: ignore[union-attr, operator]
        return (features @ weight.T).float()


@pytest.mark.parametrize(
    ("model", "check", "says"),
    [
        (_Search, "inner-optimisation", "without gradients"),
        (_DrawnBackward, "backward", "its gradient is random"),
        (_Stepped, "quantisation", "(`floor`)"),
        (_HalfPrecisionHead, "saturation", "underflows"),
        (_ForwardMode, "inner-optimisation", "computes gradients itself"),
    ],
)
def test_causes_that_need_more_than_one_look(model: type, check: str, says: str, data: Data) -> None:
    first = failed(audit(model(), data, broken.THREAT, examples=32))[0]
    assert first.check == check
    assert says in first.cause


def test_an_audit_that_was_killed_goes_on_check_by_check(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heirloom.evaluation.audit import symptoms

    def audited(folder: Path | None) -> list[Finding]:
        return audit(broken.random_logit_scale(), data, broken.THREAT, examples=16, folder=folder)

    whole, asked = audited(None), []

    def killed(*what: Any) -> Finding:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(symptoms, "eps", killed)
        with pytest.raises(KeyboardInterrupt):
            audited(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert {"randomness.json", "gradients.json", "attack-white-box.json"} <= set(kept)
    (tmp_path / "one-step.json").write_text("[]")  # damaged: made again
    once = symptoms.black_box
    monkeypatch.setattr(symptoms, "black_box", lambda *what: asked.append(1) or once(*what))
    again = audited(tmp_path)
    assert asked == []
    for findings in (whole, again):
        assert findings[-1].evidence.pop("cost")["forward"] > 0  # what is asked twice counts twice
    assert audit_details(whole) == audit_details(again)
