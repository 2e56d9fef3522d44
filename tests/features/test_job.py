"""The builder from encoder to data set: read by others, one sentence for what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from heirloom import EncoderSettings, InputError, Threat, load_encoder, load_images
from heirloom.cli import main
from heirloom.data.labelled import ImageSource
from heirloom.features.job import build_features
from heirloom.features.saved import read_split
from heirloom.features.settings import BuildSettings
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.memory import at_most

ROOT = Path(__file__).parents[2]
SETTINGS = BuildSettings(steps=20, batch_size=16)


@pytest.fixture(scope="module")
def encoder() -> FrozenEncoder:
    return load_encoder(EncoderSettings("tests.features.encoders:convolutional"))


@pytest.fixture(scope="module")
def source() -> ImageSource:
    return load_images("digits", limit=40, limit_test=20)


@pytest.fixture(scope="module")
def built(encoder: FrozenEncoder, source: ImageSource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "smooth"
    build_features(encoder, "smooth", source, SETTINGS, out)
    return out


def pixels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_datasets_and_our_own_reader_see_the_stored_pixels(
    built: Path, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    loaded = datasets.load_dataset(str(built), cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 40, "test": 20}
    assert loaded["train"].features["label"].names == list(source.train.classes)
    ours = load_images(str(built))
    for split, images in (("train", ours.train), ("test", ours.test)):
        stored = read_split(built, split)
        theirs = np.stack([np.asarray(picture)[None] for picture in loaded[split]["image"]])
        assert np.array_equal(theirs, stored.pixels.numpy())
        assert torch.equal(images.stored(), stored.pixels)
        assert torch.equal(images.labels, torch.tensor(loaded[split]["label"]))
    assert torch.equal(ours.train.labels, source.train.labels)


def test_the_stored_measures_are_those_of_the_stored_pixels(
    built: Path, encoder: FrozenEncoder, source: ImageSource
) -> None:
    stored = read_split(built, "test")
    original = source.test.images[stored.columns["original"]]
    start = source.test.images[stored.columns["start"]]
    x = stored.pixels.float() / 255
    for images, name in ((x, "relative_error"), (start, "start_error")):
        error = (encoder(images) - encoder(original)).norm(dim=1) / encoder(original).norm(dim=1)
        torch.testing.assert_close(stored.columns[name], error)
    torch.testing.assert_close(stored.columns["distance"], (x - start).flatten(1).norm(dim=1))
    assert (stored.columns["relative_error"] < 0.5 * stored.columns["start_error"]).all()
    assert torch.equal(stored.columns["start_label"], source.test.labels[stored.columns["start"]])
    row = json.loads((built / "summary.json").read_text())["rows"][1]
    assert row["relative_error"]["value"] == pytest.approx(
        float(stored.columns["relative_error"].mean()), rel=1e-5
    )


def test_no_more_images_go_through_than_fit(
    encoder: FrozenEncoder, source: ImageSource, tmp_path: Path
) -> None:
    seen: set[int] = set()
    hook = encoder.register_forward_pre_hook(lambda module, x: seen.add(len(x[0])))
    with at_most(3):
        build_features(encoder, "few", source, replace(SETTINGS, steps=1), tmp_path / "few")
    hook.remove()
    assert max(seen) == 3


def test_page_and_card_tell_what_was_built(built: Path, encoder: FrozenEncoder, source: ImageSource) -> None:
    card = (built / "README.md").read_text()
    assert "path: data/test-*.parquet" in card
    assert "tests.features.encoders:convolutional" in card
    out = built.parent / "rough"
    build_features(encoder, "rough", source, replace(SETTINGS, steps=1), out, beside=built)
    page = (out / "report.html").read_text()
    for heading in ("original", "start", "rough", "smooth"):
        assert f'<th scope="col">{heading}</th>' in page
    assert page.count("data:image/png") == 4 * 12
    with pytest.raises(InputError, match="beside must be a build of the same data, variant, start and seed"):
        build_features(encoder, "x", source, replace(SETTINGS, seed=1), built.parent / "x", beside=built)


def test_targets_stay_inside_the_threat_set(
    encoder: FrozenEncoder, source: ImageSource, tmp_path: Path
) -> None:
    """Whole grey levels of eps and of the start: rounding leaves nothing outside."""
    threat = Threat("Linf", 16 / 255)
    build_features(
        encoder, "t", source, replace(SETTINGS, variant="next-target"), tmp_path / "t", threat=threat
    )
    stored = read_split(tmp_path / "t", "train")
    start = (source.train.images[stored.columns["start"]] * 255).round() / 255
    assert float((stored.pixels.float() / 255 - start).abs().max()) <= 17 / 255
    following = (source.train.labels[stored.columns["start"]] + 1) % 10
    assert torch.equal(stored.columns["label"], following)


def changed(encoder: FrozenEncoder, source: ImageSource) -> list[tuple[str, tuple[Any, ...]]]:
    """What decides the pixels, each changed alone: (its name in the sentence, the arguments)."""
    other = load_encoder(EncoderSettings("tests.features.encoders:convolutional"))
    with torch.no_grad():
        next(iter(other.parameters())).add_(1e-3)
    fewer = replace(source, test=source.test.limit(19))
    relabelled = replace(source, train=replace(source.train, labels=source.train.labels.roll(1)))
    return [
        ("encoder", (other, "smooth", source, SETTINGS)),
        ("data.test", (encoder, "smooth", fewer, SETTINGS)),
        ("data.train.labels", (encoder, "smooth", relabelled, SETTINGS)),
        *(
            (name, (encoder, "smooth", source, replace(SETTINGS, **{name: value})))
            for name, value in (
                ("steps", 21),
                ("seed", 3),
                ("start", "grey"),
                ("step_size", 0.2),
                ("batch_size", 8),
            )
        ),
    ]


def test_another_build_is_refused_by_the_name_of_what_differs(
    built: Path, encoder: FrozenEncoder, source: ImageSource
) -> None:
    before = pixels(built)
    for name, arguments in changed(encoder, source):
        with pytest.raises(InputError, match=f"resume must be of the run in .*{name}"):
            build_features(*arguments, built, resume=True)
    with pytest.raises(InputError, match="out must be a new folder"):
        build_features(encoder, "smooth", source, SETTINGS, built)
    again = build_features(encoder, "smooth", source, SETTINGS, built, resume=True)
    assert again.rows == json.loads((built / "summary.json").read_text())["rows"]
    assert pixels(built) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "--steps must be at least 1"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--start", "black"], "black"),
        (["--variant", "next-target", "--eps", "-1"], "--eps must be a number above 0"),
        (["--beside", "nowhere"], "--beside must be an existing file or folder, got nowhere"),
        (["--encoder", "nowhere:encoder"], "nowhere"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
        (["--limit", "1", "--start", "next-class"], "images of at least two classes"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = ["features", "build", "--encoder", "tests.features.encoders:convolutional", "--data", "digits"]
    with pytest.raises(SystemExit) as stopped:
        main([*given, "--out", "out", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
