"""Saved defences: identical logits, weights that must match, code that must be trusted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from heirloom import InputError
from heirloom.defence.saved import DefendedModel
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import build_preprocessor

CLASSES = tuple("0123456789")


def _defended(source: str) -> DefendedModel:
    encoder = load_encoder(EncoderSettings(source))
    features = encoder(torch.zeros(1, 1, 8, 8)).shape[1]
    head = torch.nn.Linear(features, 10)
    preprocessor = build_preprocessor("mlp", (1, 8, 8), seed=2)
    return DefendedModel(
        preprocessor, encoder, head, image_shape=(1, 8, 8), classes=CLASSES, defence={"method": "cropd"}
    )


@pytest.fixture
def saved(foundation: Path, tmp_path: Path) -> tuple[DefendedModel, Path]:
    model = _defended(str(foundation))
    model.save_pretrained(tmp_path / "saved")
    return model, tmp_path / "saved"


def test_a_saved_model_gives_identical_logits(
    saved: tuple[DefendedModel, Path], generator: torch.Generator, tmp_path: Path
) -> None:
    model, folder = saved
    x = torch.rand(5, 1, 8, 8, generator=generator)
    again = DefendedModel.from_pretrained(folder)
    assert torch.equal(again(x), model(x))
    assert not again.training
    assert again.predict(x)[0].tolist() == model(x).argmax(1).tolist()
    again.save_pretrained(tmp_path / "twice")  # saving what was loaded
    assert torch.equal(DefendedModel.from_pretrained(tmp_path / "twice")(x), model(x))
    files = {
        "config.json",
        "model.safetensors",
        "README.md",
        "encoder",
        "preprocessor_config.json",
        "heirloom_hub.py",
    }
    assert {p.name for p in folder.iterdir()} == files
    assert ModelCard.load(folder / "README.md").data.library_name == "heirloom"
    assert callable(model.push_to_hub)


def test_a_factory_is_named_and_runs_only_when_trusted(generator: torch.Generator, tmp_path: Path) -> None:
    model = _defended("tests.models.test_encoder:build_module")
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "encoder").exists()
    with pytest.raises(InputError, match="trust_remote_code"):
        DefendedModel.from_pretrained(tmp_path)
    x = torch.rand(2, 1, 8, 8, generator=generator)
    assert torch.equal(DefendedModel.from_pretrained(tmp_path, trust_remote_code=True)(x), model(x))
    assert torch.equal(DefendedModel.from_pretrained(tmp_path, encoder=model.encoder)(x), model(x))


def test_another_foundation_model_is_refused(saved: tuple[DefendedModel, Path]) -> None:
    _, folder = saved
    weights = load_file(folder / "encoder" / "model.safetensors")
    name = next(name for name, weight in weights.items() if weight.is_floating_point())
    weights[name] = weights[name] + 1e-3
    save_file(weights, folder / "encoder" / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"foundation model must be the one.*got other weights"):
        DefendedModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", "{", "JSON"),
        ("config.json", '{"model_type": "resnet"}', "folder that heirloom saved"),
        ("model.safetensors", "garbage", "safetensors"),
        ("model.safetensors", None, "config.json|model.safetensors"),
        ("config.json", None, "config.json|model.safetensors"),
    ],
)
def test_damaged_folders_are_refused(
    saved: tuple[DefendedModel, Path], file: str, content: str | None, said: str
) -> None:
    _, folder = saved
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(InputError, match=said) as error:
        DefendedModel.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["preprocessor", "head"])
def test_one_changed_byte_is_seen(saved: tuple[DefendedModel, Path], part: str) -> None:
    _, folder = saved
    path = folder / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        name = next(name for name in file.keys() if name.startswith(part))  # noqa: SIM118
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    first, _ = json.loads(content[8 : 8 + header])[name]["data_offsets"]
    content[8 + header + first] ^= 1  # the lowest bit of the first weight
    path.write_bytes(content)
    with pytest.raises(InputError, match=part):
        DefendedModel.from_pretrained(folder)


def test_weights_that_do_not_fit_their_config_are_refused(saved: tuple[DefendedModel, Path]) -> None:
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    config["head"]["out_features"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="a head that does not"):
        DefendedModel.from_pretrained(folder)


def test_wrong_images_are_refused(saved: tuple[DefendedModel, Path]) -> None:
    with pytest.raises(InputError, match=r"images must be of shape \(N, 1, 8, 8\)"):
        saved[0].predict(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("part", ["preprocessor", "head"])
def test_one_bit_changed_is_seen(part: str, saved: tuple[DefendedModel, Path]) -> None:
    place = saved[1] / "model.safetensors"
    weights = load_file(place)
    name = next(name for name in weights if name.startswith(part))
    start = place.read_bytes().index(weights[name].numpy().tobytes())
    content = bytearray(place.read_bytes())
    content[start] ^= 1
    place.write_bytes(bytes(content))
    with pytest.raises(InputError, match=f"got a {part} that was changed since"):
        DefendedModel.from_pretrained(saved[1])


@pytest.mark.parametrize("factor", [255.0, -1.0])
def test_predict_takes_pixels_in_their_range_alone(saved: tuple[DefendedModel, Path], factor: float) -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for wrong in (factor * x, (255 * x).byte()):
        with pytest.raises(InputError, match="images must be"):
            saved[0].predict(wrong)


def test_predict_takes_pictures_and_arrays(saved: tuple[DefendedModel, Path], tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    expected = saved[0].predict(torch.from_numpy(array)[None, None] / 255)
    for several in ([array], [Image.fromarray(array)], [tmp_path / "a.png"], [str(tmp_path / "a.png")]):
        assert torch.equal(saved[0].predict(several)[1], expected[1])
