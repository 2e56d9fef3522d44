"""The commands of the main job, as a user runs them."""

import resource
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import Summary
from heirloom.cli import app, common
from heirloom.cli.defend import targets_for
from heirloom.defence.saved import DefendedModel
from heirloom.heads.own import names_of, own_classes, own_head
from heirloom.heads.zero_shot import zero_shot_head
from heirloom.models.defended import OwnLogits
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.runtime.choices import AnyTargets, HeadKind
from heirloom.runtime.files import write_tensors
from heirloom.threat import Threat


def test_help_is_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "heirloom", "--help"], capture_output=True, text=True, check=True
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
    assert seconds < 0.5
    assert "defend" in done.stdout


def test_defend_predict_report(foundation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = [
        "defend",
        "--model",
        str(foundation),
        "--data",
        "digits",
        "--eps",
        "0.1",
        "--epochs",
        "2",
        "--limit",
        "200",
        "--limit-test",
        "30",
        "--attacks",
        "fgsm",
        "--head-epochs",
        "3",
        "--out",
        str(out),
    ]
    assert common.run(app, words) == 0
    printed = capsys.readouterr().out
    assert "identity" in printed
    assert "stability" in printed.replace("\n", "")  # recommended for grey images
    summary = Summary.read(out / "summary.json")
    assert summary.threat == Threat("Linf", 0.1)
    Image.new("L", (20, 20), 90).save(tmp_path / "a.png")
    assert common.run(app, ["predict", str(out), str(tmp_path / "a.png"), "--top", "2"]) == 0
    name, *told = capsys.readouterr().out.strip().split("\t")
    assert name.endswith("a.png")
    assert len(told) == 2
    page = (out / "report.html").read_bytes()
    (out / "report.html").unlink()
    assert common.run(app, ["report", str(out)]) == 0
    assert (out / "report.html").read_bytes() == page
    # again, with --resume: at once, from what is saved
    assert common.run(app, [*words, "--resume"]) == 0
    assert Summary.read(out / "summary.json").rows == summary.rows


def test_a_classifiers_own_head_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.models.zoo import ZOO, Animal, build

    names = {number: f"digit {number}" for number in range(12)}
    known = ZOO["vit classifier"]
    animal = Animal(**{**vars(known), "settings": {**known.settings, "id2label": names}})
    build(animal, tmp_path / "hub")
    draw = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        for digit in (7, 3):
            place = tmp_path / "data" / split / f"Digit-{digit}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    shared = ["--data", str(tmp_path / "data"), "--attacks", "pgd-2", "--eps", "1/255"]
    arguments = ["defend", "--model", str(tmp_path / "hub"), "--out", str(tmp_path / "out"), "--head", "own"]
    code = common.run(
        app, [*arguments, *shared, "--epochs", "1", "--validation", "0.34", "--audit-examples", "0"]
    )
    assert code == 0, capsys.readouterr().err
    model = DefendedModel.from_pretrained(tmp_path / "out")
    assert model.classes == ("Digit-3", "Digit-7")
    assert model.head.columns.tolist() == [3, 7]
    assert "the model's own classifier, kept as it was" in (tmp_path / "out" / "README.md").read_text()
    arguments = ["evaluate", "--model", str(tmp_path / "hub"), "--out", str(tmp_path / "eval"), "--no-audit"]
    assert common.run(app, [*arguments, *shared]) == 0, capsys.readouterr().err
    rows = Summary.read(tmp_path / "out" / "summary.json").rows
    measured = Summary.read(tmp_path / "eval" / "summary.json").rows[0]
    assert measured["clean"] == rows[0]["clean"]  # "identity" in front of the same classifier
    stand_in = load_encoder(EncoderSettings(str(tmp_path / "out" / "stand-in"), pooling="logits"))
    kept = own_head(
        own_classes(names_of(stand_in), 12), model.classes
    )  # the student says the same classes in the same places
    assert isinstance(kept, OwnLogits)
    assert kept.columns is not None
    assert kept.columns.tolist() == [3, 7]


def test_a_kept_classifier_is_what_distil_learns_unless_told() -> None:
    chosen = {
        (asked, head): targets_for(asked, head)
        for asked in get_args(AnyTargets)
        for head in get_args(HeadKind)
    }
    by_itself = {pair: target for pair, target in chosen.items() if pair[0] == "auto"}
    assert {head for (_, head), target in by_itself.items() if target == "head"} == {"own"}
    assert all(target == asked for (asked, _), target in chosen.items() if asked != "auto")


def test_a_stand_in_takes_whatever_was_made_for_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``defend --as encoder``, then evaluate, predict, probe, the model's own head, and texts."""
    save_backbone(tmp_path / "made" / "encoder", build_backbone(BackboneSettings("resnet8", 1, 8)))
    write_tensors(tmp_path / "made" / "head.safetensors", torch.nn.Linear(64, 10).state_dict())
    out, data = tmp_path / "out", ["--data", "digits", "--limit", "60", "--eps", "0.1", "--attacks", "fgsm"]
    test = ["--limit-test", "12"]

    def run(*words: str) -> None:
        assert common.run(app, list(words)) == 0, capsys.readouterr().err

    distil = ["--method", "distil", "--as", "encoder", "--targets", "head", "--student-width", "4"]
    few = ["--steps", "2", "--head-epochs", "1", "--compare", "", "--audit-examples", "0"]
    made = str(tmp_path / "made" / "encoder")
    run("defend", "--model", made, "--out", str(out), *data, *test, *distil, *few)
    stand_in = str(out / "encoder")
    measured = Summary.read(out / "summary.json").rows
    assert [row["defence"] for row in measured] == ["original head", "distil"]
    only = ["--data", "digits", "--eps", "0.1", "--attacks", "fgsm", "--no-audit", *test]
    run("evaluate", str(out), "--out", str(tmp_path / "again"), *only)
    assert Summary.read(tmp_path / "again" / "summary.json").rows[0]["clean"] == measured[1]["clean"]
    run(
        "certify",
        str(out),
        "--out",
        str(tmp_path / "certified"),
        "--n",
        "20",
        "--n0",
        "2",
        *only[:2],
        "--limit-test",
        "2",
    )
    run("leaderboard", str(out), str(tmp_path / "again"), "--out", str(tmp_path / "board"))
    caveat = "the robustness is the student's"
    printed = " ".join(capsys.readouterr().out.split())
    for place in (out, tmp_path / "again", tmp_path / "certified", tmp_path / "board"):
        assert caveat in unescape((place / "report.html").read_text())
        assert caveat in printed
        if place.name != "board":
            assert caveat in " ".join(Summary.read(place / "summary.json").details["caveats"])
    run("evaluate", "--model", stand_in, "--out", str(tmp_path / "own"), *only)
    assert Summary.read(tmp_path / "own" / "summary.json").rows[0]["clean"] == measured[0]["clean"]
    Image.new("L", (8, 8), 90).save(tmp_path / "a.png")
    run("predict", str(out), str(tmp_path / "a.png"))
    run(
        "probe",
        "--encoder",
        stand_in,
        "--out",
        str(tmp_path / "probe"),
        *data,
        *test,
        "--epochs",
        "1",
        "--validation",
        "0.2",
    )
    noise = ["--method", "noise", *few[:2], *few[4:], "--head", "own"]  # no head is trained
    run("defend", "--model", stand_in, "--out", str(tmp_path / "kept"), *data, *test, *noise)


def test_a_stand_in_for_a_model_of_texts_is_compared_with_texts(tmp_path: Path) -> None:
    notes = {"pooling": "image-text", "with_texts": {"logit_scale": 2.0}}
    save_backbone(tmp_path, build_backbone(BackboneSettings("resnet8", 1, 8)), notes)
    encoder = load_encoder(EncoderSettings(str(tmp_path), pooling="image-text"))
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(encoder(x).norm(dim=1), torch.ones(3))
    texts = torch.eye(64)[:2]
    write_tensors(tmp_path / "texts.safetensors", {"text_embeddings": texts})
    head = zero_shot_head(encoder, ("a", "b"), embeddings=tmp_path / "texts.safetensors")
    assert torch.allclose(head.weight, texts * torch.tensor(2.0).exp())
    encoder.save(tmp_path / "copied")  # as a saved defence keeps it
    again = load_encoder(EncoderSettings(str(tmp_path / "copied"), pooling="image-text"))
    assert torch.equal(again(x), encoder(x))


@pytest.mark.parametrize(("words", "decay"), [([], 1), (["--head-weight-decay", "3"], 3)])
def test_the_weight_decay_of_heads_goes_by_the_images_unless_it_is_said(
    words: list[str], decay: float, foundation: Path, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (60, 16, 16), dtype=np.uint8)
    labels = np.arange(60) % 2
    grey = {"x_train": images, "y_train": labels, "x_test": images[:6], "y_test": labels[:6]}
    np.savez(tmp_path / "16-pixels.npz", **grey)
    few = ["--method", "identity", "--compare", "", "--head-epochs", "1", "--attacks", "fgsm", "--no-curve"]
    few += ["--audit-examples", "0"]
    found = {}
    for name, data in {"8": "digits", "16": str(tmp_path / "16-pixels.npz")}.items():
        limit = ["--limit", "60", "--limit-test", "5", "--out", str(tmp_path / name)]
        line = ["defend", "--model", str(foundation), "--data", data, *few, *limit, *words]
        assert common.run(app, line) == 0
        found[name] = Summary.read(tmp_path / name / "summary.json").settings["head weight decay"]
    assert found == {"8": decay if words else 0.01, "16": decay}
