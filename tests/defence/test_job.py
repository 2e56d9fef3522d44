"""The main job end to end on small settings, and its resumption after a kill at any moment."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from heirloom import InputError, Summary, Threat
from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.cli import app, common
from heirloom.cli.defend import print_summary
from heirloom.data.labelled import ImageSource, LabelledImages, Unlabelled
from heirloom.defence.budget import steps_of
from heirloom.defence.choose import CANDIDATES, decided, shortened
from heirloom.defence.controls import controls_of
from heirloom.defence.job import DefendSettings, defend
from heirloom.defence.remarks import packed
from heirloom.defence.saved import DefendedModel
from heirloom.defence.train_preprocessor import (
    DistilSettings,
    PreprocessorSettings,
    fresh_preprocessor,
    train_preprocessor,
)
from heirloom.heads.linear import HeadSettings
from heirloom.heads.own import names_of, own_head
from heirloom.models.defended import Defended, OwnLogits
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.networks.classifier import load_head
from heirloom.objectives.defences import DEFENCES
from heirloom.report.pages import draw
from heirloom.results.statistics import proportion
from heirloom.runtime.choices import Pooling
from heirloom.runtime.files import write_tensors
from heirloom.training.loop import TrainingSettings
from tests.children import Child
from tests.models.zoo import ZOO, Animal, build

THREAT = Threat("Linf", 0.15)


def _settings(**changes: object) -> DefendSettings:
    training = TrainingSettings(epochs=2, batch_size=64, learning_rate=3e-3)
    return DefendSettings(
        threat=THREAT,
        defence=PreprocessorSettings(training=training),
        head=HeadSettings(epochs=3),
        attacks=("fgsm", "pgd-3"),
        audit_examples=8,
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def small(digits: ImageSource) -> ImageSource:
    return ImageSource("digits", digits.train.limit(256), digits.test.limit(40))


def test_the_whole_job(small: ImageSource, foundation: Path, tmp_path: Path) -> None:
    encoder = load_encoder(EncoderSettings(str(foundation)))
    before = encoder.fingerprint()
    model, summary = defend(encoder, small, _settings(compare=("identity", "noise")), tmp_path)
    assert encoder.fingerprint() == before  # frozen
    assert [row["defence"] for row in summary.rows] == ["identity", "noise", "cropd"]
    for row in summary.rows:
        values = [row[column]["value"] for column in ("clean", "fgsm", "pgd-3")]
        assert values == sorted(values, reverse=True)
        assert all(row[c]["low"] <= row[c]["value"] <= row[c]["high"] for c in ("clean", "fgsm", "pgd-3"))
        assert row["clean"]["n"] == 40
    loaded = DefendedModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(small.test.images), model(small.test.images))
    assert float(
        (loaded.predict(small.test.images)[0] == small.test.labels).double().mean()
    ) == pytest.approx(summary.rows[-1]["clean"]["value"])
    assert Summary.read(tmp_path / "summary.json") == summary
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained
    for word in (
        "Against the radius",
        "Class by class",
        "Can these figures be trusted?",
        summary.command[:20],
        "CRoPD",
        "seconds",
    ):
        assert word in page
    (tmp_path / "report.html").unlink()
    draw(Summary.read(tmp_path / "summary.json"), tmp_path)
    assert (tmp_path / "report.html").read_text() == page  # from the JSON alone
    curve = summary.details["defences"][-1]["curve"]
    values = [point["accuracy"]["value"] for point in curve]
    assert values == sorted(values, reverse=True)
    assert "| cropd |" in (tmp_path / "README.md").read_text()


def test_preprocessors_learn_from_images_from_elsewhere_and_from_nothing_else(
    small: ImageSource, digits: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    pictures = LabelledImages(1 - digits.train.images[:128], torch.zeros(128, dtype=torch.long), ("none",))
    elsewhere = replace(small, unlabelled=Unlabelled("negatives", pictures))
    settings = _settings(compare=(), curve_images=0)
    settings = replace(settings, defence=replace(settings.defence, method="vanilla"), audit_examples=0)
    model, summary = defend(load_encoder(EncoderSettings(str(foundation))), elsewhere, settings, tmp_path)
    alone, _ = train_preprocessor(pictures, THREAT, settings.defence)
    assert torch.equal(model.preprocessor(small.test.images), alone(small.test.images))
    assert summary.settings["unlabelled"] == "negatives, 128 images"
    assert summary.data is not None
    assert summary.data.digest != small.used().digest


def test_the_type_of_the_passes_is_measured_once_for_each_defence_and_kept(
    small: ImageSource, foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def measured(*what: object) -> dict[str, object]:
        asked.append(1)
        return {"chosen": ("bfloat16", "float32")[len(asked) % 2]}

    monkeypatch.setattr("heirloom.evaluation.pass_dtype.measured_dtype", measured)
    settings = _settings(compare=("identity",), attack_dtype="auto", curve_images=0)
    settings = replace(settings, audit_examples=0)
    encoder = load_encoder(EncoderSettings(str(foundation)))
    _, summary = defend(encoder, small, settings, tmp_path)
    kept = {"identity": {"chosen": "float32"}, "cropd": {"chosen": "bfloat16"}}
    assert summary.details["attack_dtype"] == kept
    _, resumed = defend(encoder, small, settings, tmp_path, resume=True)
    assert len(asked) == 2
    assert resumed.details["attack_dtype"] == kept


def test_distil_stands_beside_its_student_and_leaves_it_as_an_encoder(
    small: ImageSource, tmp_path: Path
) -> None:
    made = build_backbone(BackboneSettings("resnet8", 1, 8))  # as `heirloom pretrain` leaves it
    save_backbone(tmp_path / "made" / "encoder", made)
    write_tensors(tmp_path / "made" / "head.safetensors", torch.nn.Linear(64, 10).state_dict())
    encoder = load_encoder(EncoderSettings(str(tmp_path / "made" / "encoder")))
    settings = _settings(compare=("identity",))
    chosen = replace(settings.defence, method="distil", distil=DistilSettings(width=4))
    model, summary = defend(encoder, small, replace(settings, defence=chosen, audit_examples=0), tmp_path)
    assert [row["defence"] for row in summary.rows] == [
        "identity",
        "student alone",
        "original head",
        "distil",
    ]
    # trained for two epochs it earns nothing, and the result says so
    said = " ".join(found["warning"] for found in summary.details["remarks"])
    assert "does not beat the control 'student alone'" in said
    for shown in ((tmp_path / name).read_text() for name in ("report.html", "README.md")):
        told = " ".join(unescape(shown).split())
        assert "the robustness is the student's" in told
        assert "the paintings are textures" in told
        objective = DEFENCES["distil"]
        parts = (objective.access, objective.cost, objective.wins, objective.fails)
        assert all(part in told for part in parts)
    page = (tmp_path / "report.html").read_text()
    assert all(found["warning"].split("'")[0] in page for found in summary.details["remarks"])
    stand_in = load_encoder(EncoderSettings(str(tmp_path / "stand-in")))
    student = model.preprocessor.network.student  # type: ignore[union-attr]
    assert torch.equal(stand_in(small.test.images), student(small.test.images))
    assert stand_in(small.test.images[:1]).shape == encoder(small.test.images[:1]).shape


@pytest.mark.parametrize("kind", ["vit classifier", "clip classifier", "siglip classifier"])
def test_a_classifier_that_is_read_as_features_has_its_own_head_beside_it(
    kind: str, small: ImageSource, tmp_path: Path
) -> None:
    """Only where it knows the data's classes by their names."""
    settings = ZOO[kind].settings
    distil = PreprocessorSettings(method="distil", distil=DistilSettings(width=4))
    for names, knows in (([str(9 - n) for n in range(10)], True), ([f"thing {n}" for n in range(10)], False)):
        folder = tmp_path / names[0]
        told = {
            **settings,
            "id2label": dict(enumerate(names)),
            "label2id": {n: i for i, n in enumerate(names)},
        }
        build(Animal(**{**vars(ZOO[kind]), "settings": told}), folder)
        encoder = load_encoder(EncoderSettings(str(folder)))
        front = fresh_preprocessor(small.train, distil, encoder).eval()
        whole = Defended(front, encoder, torch.nn.Linear(16, 10))
        head = HeadSettings(epochs=1)
        found = controls_of(whole, None, None, (small.train, small.train), head)
        assert list(found) == ["student alone", *(["original head"] if knows else [])]
        if knows:
            logits = load_encoder(EncoderSettings(str(folder), pooling="logits"))
            x = small.test.images[:3]
            assert torch.equal(found["original head"](x), logits(front(x)).flip(1))
    assert list(controls_of(whole, None, OwnLogits(), (small.train, small.train), head)) == ["student alone"]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """An encoder with its head beside it, as `heirloom pretrain` leaves them."""
    save_backbone(tmp_path / "made" / "encoder", build_backbone(BackboneSettings("resnet8", 1, 8)))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        write_tensors(tmp_path / "made" / "head.safetensors", torch.nn.Linear(64, 10).state_dict())
    return tmp_path / "made" / "encoder"


def _distil(settings: DefendSettings, **own: object) -> DefendSettings:
    chosen = replace(settings.defence, method="distil", distil=DistilSettings(width=4, **own))  # type: ignore[arg-type]
    return replace(settings, defence=chosen, audit_examples=0, curve_images=0)


def test_an_encoder_in_the_models_place_survives_reload_and_takes_the_models_own_head(
    small: ImageSource, classifier: Path, tmp_path: Path
) -> None:
    encoder, out = load_encoder(EncoderSettings(str(classifier))), tmp_path / "out"
    settings = _distil(_settings(compare=("identity",)), paints=False)
    model, summary = defend(encoder, small, settings, out)
    assert [row["defence"] for row in summary.rows] == ["identity", "original head", "distil"]
    loaded = DefendedModel.from_pretrained(out)
    assert torch.equal(loaded(small.test.images), model(small.test.images))
    assert "in front of it" not in (out / "README.md").read_text()
    stand_in = load_encoder(EncoderSettings(str(out / "encoder")))
    assert torch.equal(stand_in(small.test.images), loaded.encoder(small.test.images))
    own = load_encoder(EncoderSettings(str(out / "encoder"), pooling="logits"))  # the model's head, unchanged
    head = load_head(classifier)
    assert head is not None
    assert torch.equal(own(small.test.images), head(stand_in(small.test.images)))
    right = own(small.test.images).argmax(1) == small.test.labels
    assert summary.rows[1]["clean"]["value"] == pytest.approx(float(right.double().mean()))


def _classifier_of_transformers(folder: Path, classes: tuple[str, ...], kind: str = "vit classifier") -> Path:
    animal = ZOO[kind]
    names = dict(enumerate(reversed(classes)))  # in an order of its own
    settings = {**animal.settings, "id2label": names, "label2id": {name: i for i, name in names.items()}}
    build(replace(animal, settings=settings), folder)
    return folder


@pytest.mark.parametrize(
    ("targets", "kind", "pooling"),
    [
        ("features", "vit classifier", "auto"),
        ("head", "vit classifier", "auto"),
        ("head", "dinov2 classifier", "classifier"),  # it reads the class token and the patches' mean
    ],
)
def test_the_classifier_of_a_transformers_checkpoint_goes_with_its_stand_in(
    targets: str, kind: str, pooling: Pooling, small: ImageSource, tmp_path: Path
) -> None:
    named = _classifier_of_transformers(tmp_path / "vit", small.test.classes, kind)
    encoder, out = load_encoder(EncoderSettings(str(named), pooling=pooling)), tmp_path / "out"
    settings = _distil(_settings(compare=()), paints=False, targets=targets)
    _, summary = defend(encoder, small, settings, out)
    assert [row["defence"] for row in summary.rows] == ["original head", "distil"]
    own = load_encoder(EncoderSettings(str(out / "encoder"), pooling="logits"))
    head = own_head(names_of(own) or (), small.test.classes)  # found by the names that the checkpoint knows
    right = head(own(small.test.images)).argmax(1) == small.test.labels
    assert summary.rows[0]["clean"]["value"] == pytest.approx(float(right.double().mean()))
    whole = load_encoder(EncoderSettings(str(named), pooling="logits"))
    assert names_of(own) == names_of(whole) == tuple(reversed(small.test.classes))


def test_a_classifier_of_other_classes_is_no_target(small: ImageSource, tmp_path: Path) -> None:
    build(ZOO["vit classifier"], tmp_path / "vit")  # LABEL_0 and LABEL_1
    encoder = load_encoder(EncoderSettings(str(tmp_path / "vit")))
    with pytest.raises(InputError, match="targets must be features for a model without a linear classifier"):
        defend(encoder, small, _distil(_settings(), targets="head"), tmp_path / "out")


def test_a_classifier_on_other_features_than_are_read_is_pointed_at(
    small: ImageSource, tmp_path: Path
) -> None:
    named = _classifier_of_transformers(tmp_path / "dino", small.test.classes, "dinov2 classifier")
    encoder = load_encoder(EncoderSettings(str(named)))
    with pytest.raises(InputError, match=r"on its features \(pooling classifier has one\), got head"):
        defend(encoder, small, _distil(_settings(), targets="head"), tmp_path / "out")


def test_what_a_classifier_says_is_learned_where_its_head_is_kept(
    small: ImageSource, classifier: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(EncoderSettings(str(classifier), pooling="logits"))
    settings = _distil(_settings(compare=("distil",)), targets="head")
    model, summary = defend(encoder, small, settings, tmp_path / "out", head=OwnLogits())
    assert [row["defence"] for row in summary.rows] == ["student alone", "distil"]
    said = load_encoder(EncoderSettings(str(tmp_path / "out" / "stand-in"), pooling="logits"))
    right = said(small.test.images).argmax(1) == small.test.labels
    assert summary.rows[0]["clean"]["value"] == pytest.approx(float(right.double().mean()))
    loaded = DefendedModel.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded(small.test.images), model(small.test.images))
    (classifier.parent / "head.safetensors").unlink()
    with pytest.raises(
        InputError,
        match=r"targets must be features for a model without a linear classifier of these classes, got head",
    ):
        defend(load_encoder(EncoderSettings(str(classifier))), small, settings, tmp_path / "no")
    with pytest.raises(
        InputError, match=r"model must be an encoder with its classifier \(head\.safetensors\)"
    ):
        load_encoder(EncoderSettings(str(classifier), pooling="logits"))


def test_distil_that_is_only_compared_has_its_student_beside_it(
    small: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    settings = _settings(compare=("distil",), curve_images=0)
    chosen = replace(settings.defence, method="noise", distil=DistilSettings(width=4))
    encoder = load_encoder(EncoderSettings(str(foundation)))
    _, summary = defend(encoder, small, replace(settings, defence=chosen, audit_examples=0), tmp_path)
    assert [row["defence"] for row in summary.rows] == ["student alone", "distil", "noise"]


def test_auto_chooses_on_validation_images_and_says_what_it_saw(
    small: ImageSource,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoder, settings = load_encoder(EncoderSettings(str(classifier))), _settings(compare=())
    chosen = replace(settings.defence, method="auto", distil=DistilSettings(width=4, targets="head"))
    settings = replace(settings, defence=chosen, audit_examples=0, curve_images=0)
    monkeypatch.setattr("heirloom.defence.choose.CANDIDATES", ("noise", "distil"))
    _, summary = defend(encoder, small, settings, tmp_path / "one")
    seen = summary.details["trials"]
    assert [trial["defence"] for trial in seen] == ["noise", "distil"]
    print_summary(summary, tmp_path / "one")
    printed, choice = capsys.readouterr().out, summary.details["choice"]
    assert "Trials, on validation images alone" in printed
    assert summary.rows[-1]["defence"] == choice["method"]
    page = (tmp_path / "one" / "report.html").read_text()
    assert "What the choice was made from" in page
    for said in (" ".join(printed.split()), unescape(page)):
        assert choice["why"] in said
    # other test images change nothing of it
    other = replace(small, test=small.train.select(torch.arange(40)))
    again = defend(encoder, other, settings, tmp_path / "two")[1].details["trials"]
    assert again == seen
    # a trial that an earlier version kept has no verdicts: it is judged again
    kept = next((tmp_path / "one").rglob("noise/trial.json"))
    kept.write_text(json.dumps({name: value for name, value in seen[0].items() if name != "right"}))
    assert defend(encoder, small, settings, tmp_path / "one", resume=True)[1].details["trials"] == seen


def _trial(name: str, attacked: list[int], clean: float = 0.9) -> dict[str, Any]:
    right = torch.tensor(attacked).bool()
    return {
        "defence": name,
        "clean": {"value": clean},
        FIRST_LOOK: proportion(right).model_dump(),
        "right": packed({FIRST_LOOK: right}),
    }


def test_what_short_trials_cannot_tell_apart_goes_to_what_is_recommended() -> None:
    none, half, most = [0] * 40, [1] * 20 + [0] * 20, [1] * 36 + [0] * 4
    tied = [_trial("adversarial-reconstruction", none, clean=0.95), _trial("distil", none, clean=0.5)]
    choice = decided(tied, "distil")  # every accuracy under attack is 0: the clean one must not decide
    assert choice["method"] == "distil"
    assert choice["difference"]["value"] == 0
    assert choice["difference"]["low"] < 0 < choice["difference"]["high"]
    assert "no trial is ahead of it beyond chance" in choice["why"]
    close = [_trial("cropd", [*half[:-1], 1]), _trial("stability", half)]  # by one image of 40
    assert decided(close, "stability")["method"] == "stability"
    ahead = decided([_trial("cropd", most), _trial("stability", half)], "stability")
    assert (ahead["method"], ahead["difference"]["value"]) == ("cropd", 0.4)
    assert "its trial is ahead of 'stability'" in ahead["why"]
    same = decided([_trial("cropd", half), _trial("stability", most)], "stability")
    assert (same["method"], same["difference"]) == ("stability", None)


def test_a_trial_is_a_part_of_what_was_asked_for_however_it_was_asked_for() -> None:
    # each has won on some data
    assert {"adversarial-reconstruction", "stability", "feature-stability", "distil"} <= set(CANDIDATES)
    budget = PreprocessorSettings("auto", minutes=8.0, training=TrainingSettings(epochs=40))
    short = shortened(budget, "cropd")
    assert (short.minutes, short.training.epochs, short.steps) == (2.0, 10, None)
    one, both = replace(budget, steps=(400,)), replace(budget, steps=(400, 40))
    assert [shortened(one, method).steps for method in ("stability", "distil")] == [(100,), (85, 15)]
    assert [shortened(both, method).steps for method in ("stability", "distil")] == [(100,), (100, 10)]
    assert steps_of(both, "distil") == (400, 40)


def test_a_folder_in_use_and_other_settings_are_refused(
    small: ImageSource, foundation: Path, tmp_path: Path
) -> None:
    encoder = load_encoder(EncoderSettings(str(foundation)))
    settings = replace(_settings(compare=(), curve_images=0), audit_examples=0)
    defend(encoder, small, settings, tmp_path)
    with pytest.raises(InputError, match="out must be a new folder unless resume is given"):
        defend(encoder, small, settings, tmp_path)
    with pytest.raises(InputError, match="resume must be of the run"):
        defend(encoder, small, replace(settings, compare=("noise",)), tmp_path, resume=True)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As children have it, so that sums are of one order everywhere."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_the_numbers_are_the_same(
    foundation: Path, tmp_path: Path, one_thread: None
) -> None:
    words = (
        f"defend --model {foundation} --data digits --eps 0.15 --method cropd --compare identity --epochs 30 "
    )
    words += (
        "--batch-size 64 --head-epochs 3 --limit 400 --limit-test 40 --attacks pgd-10 --audit-examples 0 "
    )
    words += "--checkpoint-seconds 0.05 --resume --out"
    whole, cut, moments = tmp_path / "whole", tmp_path / "cut", random.Random(0)
    assert common.run(app, [*words.split(), str(whole)]) == 0
    # somewhere in training, and somewhere between the end of training and the page
    for sign in ("work/cropd/checkpoint.safetensors", "work/cropd/model.safetensors"):
        child = Child(lambda say: common.run(app, [*words.split(), str(cut)]))
        while not (cut / sign).exists():
            assert child.runs()
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        assert child.is_killed()
        for part in cut.rglob("*.json"):
            json.loads(part.read_text())  # whole or absent
        assert not (cut / "report.html").exists()
    command = [sys.executable, "-m", "heirloom", *words.split(), str(cut)]  # that knows of nothing
    subprocess.run(command, check=True, capture_output=True)
    one, other = (Summary.read(folder / "summary.json") for folder in (whole, cut))
    assert one.rows == other.rows
    for detail in ("defences", "classes"):
        assert one.details[detail] == other.details[detail]
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(DefendedModel.from_pretrained(whole)(x), DefendedModel.from_pretrained(cut)(x))
