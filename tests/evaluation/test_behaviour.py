"""A model is known by what it answers, not only by its weights and layers."""

from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import InputError, Threat
from heirloom.data import pixels, unit_images
from heirloom.data.images import load_images
from heirloom.evaluation import behaviour as behaviours
from heirloom.evaluation import broken, verdicts
from heirloom.evaluation import job as jobs
from heirloom.evaluation.behaviour import behaviour, model_facts
from heirloom.evaluation.job import evaluate_job
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.evaluation.verdicts import evaluate
from heirloom.runtime import identity

from .subjects import linear


class Scaled(nn.Module):
    """The same layers, weights and class for every ``factor``."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = linear(), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.clamp(0, self.factor))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return load_images("digits").test.images[:20]


def test_what_weights_do_not_tell_behaviour_does(images: torch.Tensor) -> None:
    one, other = model_facts(Scaled(1.0), images), model_facts(Scaled(0.5), images)
    assert {name for name in one if one[name] != other[name]} == {"behaviour"}


@pytest.mark.parametrize(
    "make", [broken.noise_injection, broken.call_parity, broken.fixed_seed_noise, linear]
)
def test_behaviour_is_the_same_every_time_and_leaves_no_trace(make, images: torch.Tensor) -> None:  # type: ignore[no-untyped-def]
    model, state = make(), torch.random.get_rng_state()
    first = behaviour(model, images)
    assert behaviour(model, images) == first
    assert getattr(model, "calls", 0) == 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_rounding_changes_nothing(images: torch.Tensor) -> None:
    model = linear()
    first = behaviour(model, images)
    model.layer.weight.mul_(1 + 1e-6)
    assert behaviour(model, images) == first


def test_verdicts_of_another_behaviour_are_refused(tmp_path: Path, images: torch.Tensor) -> None:
    labels, threat = load_images("digits").test.labels[:20], Threat("Linf", 0.05)
    evaluate(Scaled(1.0), (images, labels), threat, ["pgd-3"], folder=tmp_path)
    with pytest.raises(InputError, match=r"model\.behaviour"):
        evaluate(Scaled(0.5), (images, labels), threat, ["pgd-3"], folder=tmp_path, resume=True)


@pytest.mark.parametrize("kind", ["tensor", "batch by batch"])
def test_an_evaluation_hashes_its_images_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its facts, its verdict store, what it is compared with and its result all need their digest."""
    test = load_images("digits", limit_test=20).test

    def data() -> unit_images.Pair:
        images = (
            unit_images.UnitImages(pixels.InMemory(test.images)) if kind == "batch by batch" else test.images
        )
        return images, test.labels

    settings = EvaluationSettings("linear", "digits", Threat("Linf", 0.05), ("fgsm",), audit_examples=0)
    evaluate_job(linear(), data(), settings, tmp_path / "one")
    hashed: list[int] = []
    kept, whole = pixels._bytes, identity.digest
    monkeypatch.setattr(pixels, "_bytes", lambda x: hashed.append(x.numel()) or kept(x))  # type: ignore[func-returns-value]
    for place in (unit_images, behaviours, jobs, verdicts):
        monkeypatch.setattr(
            place, "digest", lambda *x: hashed.extend(t.numel() for t in x) or whole(*x), raising=False
        )
    evaluate_job(linear(), data(), settings, tmp_path / "two", against=tmp_path / "one")
    assert sum(count for count in hashed if count >= 64) == 20 * 64
