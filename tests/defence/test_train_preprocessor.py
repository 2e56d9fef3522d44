"""Preprocessors: what they read, that interruptions and copies change nothing, and time for training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from heirloom import InputError, Threat
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence import train_preprocessor as train_module
from heirloom.defence.budget import seconds_each, steps_in
from heirloom.defence.choose import CANDIDATES, head_weight_decay_for, recommended
from heirloom.defence.controls import student_of
from heirloom.defence.distil_steps import attacked_share
from heirloom.defence.inner import strongest_nearby
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.models.preprocessor import Preprocessor
from heirloom.objectives.defences import DEFENCES
from heirloom.runtime.identity import module_facts
from heirloom.training.loop import History, TrainingSettings, train

THREAT = Threat("Linf", 0.15)
ROOT = Path(__file__).parents[2]
TRAINING = TrainingSettings(epochs=4, batch_size=64, learning_rate=3e-3)
DISTIL = PreprocessorSettings(method="distil", distil=DistilSettings(width=8), training=TRAINING)


@pytest.fixture(scope="module")
def small(digits: ImageSource) -> LabelledImages:
    return digits.train.limit(192)


@pytest.fixture
def encoder(foundation: Path) -> FrozenEncoder:
    return load_encoder(EncoderSettings(str(foundation)))


class _CutOffError(Exception):
    pass


@pytest.mark.parametrize("method", list(DEFENCES))
def test_labels_are_never_read_and_the_model_never_changes(
    method: str, small: LabelledImages, encoder: FrozenEncoder
) -> None:
    settings = replace(DISTIL, method=method)
    before = encoder.fingerprint()
    network, history = train_preprocessor(small, THREAT, settings, encoder=encoder)
    blind = replace(small, labels=small.labels.flip(0))
    again, same = train_preprocessor(blind, THREAT, settings, encoder=encoder)
    assert history == same
    assert torch.equal(network(small.images), again(small.images))
    assert encoder.fingerprint() == before
    first = [entry for entry in history if entry.get("phase", 0) == 0]
    assert first[-1]["loss"] < first[0]["loss"]
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize("method", [name for name, o in DEFENCES.items() if o.needs_model])
def test_methods_that_read_the_model_say_so(method: str, small: LabelledImages) -> None:
    with pytest.raises(InputError, match=f"encoder must be the frozen model, which {method} reads"):
        train_preprocessor(small, THREAT, replace(DISTIL, method=method))
    if method == "distil":
        told = replace(DISTIL, distil=DistilSettings(width=8, targets="head"))
        with pytest.raises(
            InputError, match="head must be the frozen model's own classifier for targets head"
        ):
            train_preprocessor(small, THREAT, told, encoder=torch.nn.Flatten())


@pytest.mark.parametrize("after", [3, 10])  # in the student's training, and in the painter's
def test_distil_cut_off_and_resumed_is_the_uninterrupted_one(
    after: int, small: LabelledImages, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    distil = replace(DISTIL.distil, delay=0.25, thumbnail=4, fidelity=0.5)  # all that a step can depend on
    settings = replace(
        DISTIL, distil=distil, steps=(8, 5), training=replace(TRAINING, checkpoint_seconds=0.0)
    )
    whole, history = train_preprocessor(small, THREAT, settings, encoder=encoder)
    calls = []

    def cut(done: int, total: int, losses: dict[str, float]) -> None:
        calls.append(done)
        if len(calls) > after:
            raise _CutOffError

    place = tmp_path / "checkpoint.safetensors"
    with pytest.raises(_CutOffError):
        train_preprocessor(small, THREAT, settings, encoder=encoder, checkpoint=place, report=cut)
    resumed, same = train_preprocessor(
        small, THREAT, settings, encoder=encoder, checkpoint=place, resume=True, report=None
    )
    assert same == history
    assert torch.equal(resumed(small.images), whole(small.images))
    with pytest.raises(
        InputError, match=r"resume must be of the run in .*, got another model or other images"
    ):
        train_preprocessor(
            small.select(torch.arange(100)), THREAT, settings, encoder=encoder, checkpoint=place, resume=True
        )


@pytest.mark.parametrize(
    ("done", "delay", "share"),
    [(0, 0, 1), (0.9, 0, 1), (0, 0.2, 0), (0.2, 0.2, 0), (0.3, 0.2, 0.5), (0.4, 0.2, 1), (0.99, 0.5, 0.98)],
)
def test_a_delayed_attack_grows_to_its_radius(done: float, delay: float, share: float) -> None:
    assert attacked_share(done, delay) == pytest.approx(share)


def test_what_is_never_attacked_trains_as_without_an_attack(
    small: LabelledImages, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(function, x, reference, each, threat, steps, generator):  # type: ignore[no-untyped-def]
        asked.append(threat.eps)
        return strongest_nearby(function, x, reference, each, threat, steps, generator)

    monkeypatch.setattr("heirloom.defence.distil_steps.strongest_nearby", counted)
    settings = replace(DISTIL, radius=1.0, distil=replace(DISTIL.distil, delay=0.25), steps=(8, 1))
    train_preprocessor(small, THREAT, settings, encoder=encoder)
    assert asked == pytest.approx([0.5 * THREAT.eps, *[THREAT.eps] * 4])  # steps 3 to 7 of 8


def test_a_painter_for_a_student_that_is_there_leaves_the_student_as_it_is(
    small: LabelledImages, encoder: FrozenEncoder
) -> None:
    first, _ = train_preprocessor(small, THREAT, replace(DISTIL, steps=(4, 1)), encoder=encoder)
    student = student_of(first)
    wanted = replace(DISTIL, distil=replace(DISTIL.distil, thumbnail=4, fidelity=1.0), steps=(4, 20))
    made, history = train_preprocessor(small, THREAT, wanted, encoder=encoder, student=student)
    assert {entry["phase"] for entry in history} == {1}
    assert history[-1]["likeness"] < history[0]["likeness"]
    painted = student_of(made)
    assert student is not None and painted is not None  # noqa: PT018
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), painted.parameters(), strict=True))


def test_training_goes_on_from_a_preprocessor_that_is_left_as_it_was(
    small: LabelledImages, encoder: FrozenEncoder, tmp_path: Path
) -> None:
    first, _ = train_preprocessor(small, THREAT, replace(DISTIL, steps=(4, 1)), encoder=encoder)
    assert isinstance(first, Preprocessor)
    before, tuning = module_facts(first), replace(DISTIL, method="feature-stability", steps=(3,))
    place = tmp_path / "checkpoint.safetensors"
    made, history = train_preprocessor(small, THREAT, tuning, encoder=encoder, start=first, checkpoint=place)
    assert module_facts(first) == before
    assert student_of(made) is not None and len(history) >= 1  # noqa: PT018
    assert module_facts(made)["weights"] != before["weights"]
    with pytest.raises(InputError):  # another start is another run
        train_preprocessor(small, THREAT, tuning, encoder=encoder, start=made, checkpoint=place, resume=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="start must be None for distil, which has student, got one"):
        train_preprocessor(small, THREAT, DISTIL, encoder=encoder, start=first)


def test_minutes_become_steps_once(small: LabelledImages, tmp_path: Path) -> None:
    settings = PreprocessorSettings(method="noise", training=TRAINING, minutes=0.005)
    place = tmp_path / "checkpoint.safetensors"
    _, history = train_preprocessor(small, THREAT, settings, checkpoint=place)
    kept = (tmp_path / "steps.json").read_text()
    _, same = train_preprocessor(small, THREAT, settings, checkpoint=place, resume=True)
    assert same == history
    assert (tmp_path / "steps.json").read_text() == kept
    # as many steps by count give the same training
    count = steps_in(1, torch.nn.Flatten(), TRAINING, lambda *_: None, tmp_path / "steps.json")
    exactly = replace(settings, minutes=None, steps=(count,))
    assert train_preprocessor(small, THREAT, exactly)[1] == history


def test_time_bought_is_time_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock where every run costs 3 seconds and every step a half: start-up is not counted as a step's."""
    now = [0.0]
    monkeypatch.setattr("heirloom.defence.budget.time.perf_counter", lambda: now[0])

    def run(model: torch.nn.Module, settings: TrainingSettings) -> None:
        assert settings.steps is not None
        now[0] += 3 + 0.5 * settings.steps

    assert steps_in(1, torch.nn.Flatten(), TRAINING, run, None) == 120
    assert seconds_each(2.0, 0.3, 40) == pytest.approx(
        0.0015
    )  # the first run was the longer one: no step takes nothing


def test_the_recommended_method_goes_by_size_and_colour() -> None:
    """The candidate that a record on held-out training images has ahead; on the digits the two that are cost 3 to 1."""
    assert recommended((1, 8, 8)) == "stability"
    assert recommended((3, 32, 32)) == "distil"
    rows = json.loads((ROOT / "results" / "cropd" / "default-grey.json").read_text())["rows"]
    for name in ("mnist", "fashion"):
        judged = [row for row in rows if row["data"] == name and row["method"] in CANDIDATES]
        best = max(judged, key=lambda row: row["cascade"]["value"])["method"]
        assert recommended((1, 28, 28)) == best
    rows = json.loads((ROOT / "results" / "cropd" / "default-cifar10.json").read_text())["rows"]
    judged = [row for row in rows if row["method"] in CANDIDATES]
    assert recommended((3, 32, 32)) == max(judged, key=lambda row: row["cascade"]["value"])["method"]


def test_heads_are_shorter_where_a_student_is_recommended() -> None:
    assert head_weight_decay_for((1, 8, 8)) == 0.01
    assert head_weight_decay_for((1, 28, 28)) == head_weight_decay_for((3, 32, 32)) == 1


def test_half_precision_reaches_the_attack_inside_a_step(
    small: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes round the forward that Accelerate wraps."""
    seen: set[torch.dtype] = set()
    attack = train_module.strongest_nearby

    def watched(function, x, reference, each, *given):  # type: ignore[no-untyped-def]
        def noted(z_adv, z):  # type: ignore[no-untyped-def]
            seen.add((x.flatten(1)[:, :1] @ torch.ones(1, 1)).dtype)
            return each(z_adv, z)

        return attack(function, x, reference, noted, *given)

    monkeypatch.setattr(train_module, "strongest_nearby", watched)
    for precision, expected in (("no", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        training = replace(TRAINING, epochs=1, mixed_precision=precision)
        train_preprocessor(small, THREAT, PreprocessorSettings(method="cropd", training=training))
        assert seen == {expected}


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_convolutions_in_the_faster_layout_resume_as_they_would_have_gone_on(
    precision: Literal["no", "bf16"],
    small: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts = []

    def watched(model: nn.Module, *given: Any, **options: Any) -> History:
        weight = model.get_submodule("preprocessor.network.encoder.2")[0].weight
        layouts.append(weight.is_contiguous(memory_format=torch.channels_last))
        return train(model, *given, **options)

    def cut(done: int, total: int, losses: dict[str, float]) -> None:
        if done == 2:
            raise _CutOffError

    monkeypatch.setattr(train_module, "train", watched)
    training = replace(TRAINING, steps=4, mixed_precision=precision, checkpoint_seconds=0.0)
    settings = PreprocessorSettings(
        method="adversarial-reconstruction", architecture="conv", training=training
    )
    whole, history = train_preprocessor(small, THREAT, settings)
    place = tmp_path / "checkpoint.safetensors"
    with pytest.raises(_CutOffError):
        train_preprocessor(small, THREAT, settings, checkpoint=place, report=cut)
    resumed, same = train_preprocessor(small, THREAT, settings, checkpoint=place, resume=True)
    assert layouts == 3 * [precision == "no"]
    assert same == history
    assert all(parameter.is_contiguous() for parameter in whole.parameters())
    assert torch.equal(resumed(small.images), whole(small.images))
