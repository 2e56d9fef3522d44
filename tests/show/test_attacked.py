"""What the app computes, without the app: the adversarial picture, both models' words, the static twin."""

import base64
import io
import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from heirloom import (
    DefendedModel,
    DefendSettings,
    EncoderSettings,
    InputError,
    PreprocessorSettings,
    Threat,
    TrainingSettings,
    defend,
    load_encoder,
)
from heirloom.cli import app, common
from heirloom.data.labelled import ImageSource
from heirloom.defence.settings import DistilSettings
from heirloom.heads.linear import HeadSettings
from heirloom.report.tables import accuracy_table
from heirloom.show.app import OUT_OF_REACH, attacked
from heirloom.show.attacked import ATTACKS, TARGETS, Asked, attack_sample, towards_clean, verdict
from heirloom.show.opened import Opened, Sample, as_array, eight_bit, open_folders, sample_of, samples
from heirloom.show.twin import write_twin


@pytest.fixture(scope="module")
def opened(saved: list[Path]) -> list[Opened]:
    return open_folders(saved)


@pytest.fixture(scope="module")
def pictures(opened: list[Opened]) -> list[Sample]:
    return samples(opened[0])


def test_pictures_to_pick_come_from_the_folder_itself(opened: list[Opened], pictures: list[Sample]) -> None:
    assert len(pictures) == 6
    assert {sample.label for sample in pictures} <= set(opened[0].model.classes)
    more = samples(opened[0], "digits")
    assert len(more) == 24
    assert more[0].pixels.shape == pictures[0].pixels.shape == (1, 8, 8)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_picture_that_is_shown_is_the_one_that_was_judged(
    attack: str, opened: list[Opened], pictures: list[Sample]
) -> None:
    found = opened[0]
    outcome = attack_sample(found, pictures[1], Asked(attack, 0.1, 3))
    content = io.BytesIO()
    Image.fromarray(as_array(outcome.after)).save(content, "PNG")
    again = sample_of(Image.open(io.BytesIO(content.getvalue())), found.model.image_shape)
    assert torch.equal(again, outcome.after)
    assert float((again - pictures[1].pixels).abs().max()) <= 0.1 + 1e-6
    assert outcome.size <= 0.1 + 1e-6
    probabilities = found.model.predict(again[None])[1][0]
    assert torch.allclose(probabilities, outcome.probabilities["with"][1], atol=1e-6)
    bare = found.bare(again[None]).softmax(1)[0]
    assert torch.allclose(bare, outcome.probabilities["without"][1], atol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_eight_bits_never_leave_the_ball(norm: str, generator: torch.Generator) -> None:
    x = eight_bit(torch.rand(8, 3, 6, 6, generator=generator))
    threat = Threat(norm, {"Linf": 0.05, "L2": 0.8, "L1": 6.0}[norm])  # type: ignore[arg-type]
    x_adv = threat.random_start(x, generator)
    rounded = towards_clean(x_adv, x)
    order = {"Linf": float("inf"), "L2": 2.0, "L1": 1.0}[norm]
    sizes = torch.linalg.vector_norm((rounded - x).flatten(1), ord=order, dim=1)
    assert (sizes <= threat.eps + 1e-5).all()
    assert torch.equal(eight_bit(rounded), rounded)
    whole = (x * 255 + torch.randint(-5, 6, x.shape, generator=generator)).round().clamp(0, 255) / 255
    assert torch.equal(towards_clean(whole, x), whole)  # what 8 bits hold already stays as it is


def test_the_attack_goes_on_after_its_first_success(opened: list[Opened], pictures: list[Sample]) -> None:
    found = opened[0]
    right = next(s for s in pictures if _is_right(found, s))
    losses = [
        -float(outcome.probabilities["with"][1][outcome.reference].log())
        for outcome in (attack_sample(found, right, Asked("PGD", eps, 20)) for eps in (0.0, 0.1, 0.4))
    ]
    assert losses[0] < losses[1] < losses[2]
    wide = attack_sample(found, right, Asked("PGD", 0.4, 20))
    assert wide.size > 0.39  # an attack that had stopped at its first success would have stayed near
    assert "it is fooled" in verdict(found, wide)
    assert "it holds" in verdict(found, attack_sample(found, right, Asked("PGD", 0.0, 1)))


def _is_right(found: Opened, sample: Sample) -> bool:
    index = int(found.model.predict(sample.pixels[None])[0])
    return found.model.classes[index] == sample.label


def test_the_bare_model_is_the_one_that_was_measured(opened: list[Opened], saved: list[Path]) -> None:
    from heirloom import DefendedModel

    found = opened[0]
    measured = DefendedModel.from_pretrained(saved[0] / "work" / "identity", encoder=found.model.encoder)
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert found.bare_head == "its own"
    assert torch.equal(found.bare(x), measured(x))
    assert not torch.equal(found.bare(x), found.model(x))


def test_an_upload_of_no_known_class_is_led_away_from_what_is_said_of_it(opened: list[Opened]) -> None:
    picture = Image.fromarray(np.full((20, 30, 3), 90, dtype=np.uint8))
    sample = Sample("own", sample_of(picture, opened[0].model.image_shape), None)
    outcome = attack_sample(opened[0], sample, Asked("PGD", 0.0001, 2))
    words = verdict(opened[0], outcome)
    assert "The true class is not known" in words
    assert "An 8-bit picture holds no smaller change" in words
    assert outcome.reference == int(outcome.probabilities["with"][0].argmax())


def test_the_twin_is_one_file_of_the_same_outcomes(
    saved: list[Path],
    opened: list[Opened],
    pictures: list[Sample],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "twin.html"
    assert common.run(app, ["show", *map(str, saved), "--html", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [str(path)]}
    page = path.read_text()
    assert not re.search(r'(?:src|href)="(?!data:)|https?://(?!www.w3.org)|@import|url\(', page)
    scenes = json.loads(page.partition('id="scenes">')[2].partition("</script>")[0])
    assert [scene["name"] for scene in scenes] == ["one", "two"]
    shown = scenes[1]["shown"][0][2]
    outcome = attack_sample(opened[1], pictures[0], Asked("PGD", 0.1, 20))
    assert shown["verdict"] == verdict(opened[1], outcome)
    uri = shown["pictures"]["after: the adversarial picture"]
    content = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert np.array_equal(np.asarray(content), as_array(outcome.after))
    assert opened[0].summary is not None
    for cell in accuracy_table(opened[0].summary.rows)[1][-1]:
        assert cell in page


def test_one_picture_says_what_the_defence_does(saved: list[Path], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        assert common.run(app, ["show", str(saved[0]), "--picture", str(path), "-q"]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert Image.open(paths[0]).size[0] > 1000


def test_pictures_of_another_kind_are_read_as_an_upload_is(opened: list[Opened], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 10, 10, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", images=pixels, labels=np.arange(20) % 2)
    found = samples(opened[0], str(tmp_path / "colour.npz"))
    assert found
    for sample in found:
        assert sample.pixels.shape == opened[0].model.image_shape
        as_array(sample.pixels)  # of values that 8 bits hold
    assert attack_sample(opened[0], found[0], Asked("PGD", 0.1, 2)).after.shape == found[0].pixels.shape


def test_folders_of_one_name_are_told_apart_and_norms_are_not_mixed(
    saved: list[Path], tmp_path: Path
) -> None:
    for place in ("a", "b"):
        shutil.copytree(saved[0], tmp_path / place / "defended")
    places = [tmp_path / place / "defended" for place in ("a", "b")]
    assert [found.name for found in open_folders(places)] == ["a/defended", "b/defended"]
    config = json.loads((places[1] / "config.json").read_text())
    config["defence"]["threat"] = {"norm": "L2", "eps": 0.5}
    (places[1] / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="folders must be of the same norm, got defended"):
        open_folders(places)


def test_wrong_folders_are_one_sentence(
    saved: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        ([str(tmp_path / "none"), "--html", "x.html"], "which does not exist"),
        (
            [str(tmp_path), "--html", "x.html"],
            "must be a folder that heirloom saved, got one without config.json",
        ),
        ([str(saved[0]), str(saved[0]), "--html", "x.html"], "of different names"),
        ([str(saved[0]), "--data", "./nowhere", "--html", "x.html"], "--data must be an existing folder"),
    ]
    for words, said in cases:
        assert common.run(app, ["show", *words]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="multiples of 1/255"):
        as_array(torch.full((1, 2, 2), 0.3001))


def test_a_stand_in_is_shown_beside_the_model_it_stands_in_for(
    digits: ImageSource, foundation: Path, tmp_path: Path, pictures: list[Sample]
) -> None:
    """``--as encoder``: the bare model is the frozen one; where that is gone, nothing is said of it."""
    teacher = tmp_path / "teacher"
    shutil.copytree(foundation, teacher)
    method = PreprocessorSettings(
        method="distil", distil=DistilSettings(paints=False, width=8), training=TrainingSettings(epochs=1)
    )
    settings = DefendSettings(
        Threat("Linf", 0.1),
        method,
        head=HeadSettings(epochs=1),
        attacks=("fgsm",),
        audit_examples=0,
        curve_images=0,
    )
    small = ImageSource("digits", digits.train.limit(60), digits.test.limit(6))
    defend(load_encoder(EncoderSettings(str(teacher))), small, settings, tmp_path / "out")
    (found,) = open_folders([tmp_path / "out"])
    frozen = DefendedModel.from_pretrained(
        tmp_path / "out" / "work" / "identity", encoder=load_encoder(EncoderSettings(str(teacher)))
    )
    outcome = attack_sample(found, pictures[0], Asked("PGD", 0.1, 2, whole=False))
    expected = frozen(pictures[0].pixels[None]).softmax(1)[0]
    assert torch.allclose(outcome.probabilities["without"][0], expected, atol=1e-6)
    shutil.rmtree(teacher)
    (alone,) = open_folders([tmp_path / "out"])
    _alone(alone, pictures, str(teacher), tmp_path / "twin.html")


def _alone(alone: Opened, pictures: list[Sample], teacher: str, page: Path) -> None:
    outcome = attack_sample(alone, pictures[0], Asked("PGD", 0.1, 2))
    assert f"not within reach: {teacher}." in verdict(alone, outcome)
    with pytest.raises(InputError, match="got a frozen model that is not within reach"):
        attack_sample(alone, pictures[0], Asked("PGD", 0.1, 2, whole=False))
    given = ([alone], pictures, alone.name, pictures[0].name, None, "PGD", 0.1, 2)
    words, *shown = attacked(*given, TARGETS[0])
    assert "not within reach" in words
    assert [value is None for value in shown] == 7 * [False] + 2 * [True]
    words, *shown = attacked(*given, TARGETS[1])
    assert words == OUT_OF_REACH
    assert {value is None for value in shown} == {True}
    page.write_text("an earlier page, which is written anew")
    write_twin([alone], pictures[:1], page)
    assert "not within reach" in page.read_text()


def test_a_picture_is_a_png_and_a_page_is_written_anew(saved: list[Path], tmp_path: Path) -> None:
    place = tmp_path / "page.html"
    place.write_text("old")
    assert common.run(app, ["show", str(saved[0]), "--html", str(place), "-q"]) == 0
    assert place.read_text() != "old"
    assert common.run(app, ["show", str(saved[0]), "--picture", str(tmp_path / "p.jpg")]) == 2


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert common.run(app, ["show", str(tmp_path), "--port", port]) == 2
    assert f"--port must be a free one, got {port}" in capsys.readouterr().err
