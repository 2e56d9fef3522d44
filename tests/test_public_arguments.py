"""Every argument of every public function, given what it is not: one sentence, or a figure, never a traceback."""

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import heirloom
from heirloom import InputError, Threat, audit, evaluate, load_encoder, load_images, paired_difference
from heirloom.data.labelled import ImageSource
from tests.defence.test_saved import _defended

WRONG: list[Any] = [
    None, "nonsense", "pgd-2", Path("nonsense"), b"nonsense", -1, 0, 1, 1.5, float("nan"), True, 1j, object(), [], (),
    [None], {"a": 1}, (1, 2), (1, 2, 3), ["nonsense"], np.int64(-1), np.zeros(3), np.array(["a"]), torch.zeros(2, 3),
    torch.zeros(0), torch.float32, torch.int8, nn.Identity(), nn.Identity, Threat("L2", 1), print,
]  # fmt: skip
ARGUMENTS = [
    (name, argument)
    for name, function in ((name, getattr(heirloom, name)) for name in heirloom.__all__)
    if not isinstance(function, type)
    for argument in signature(function).parameters
    if name != "defend"  # its settings are looked at in tests/runtime/test_kinds.py
]


def _fine(name: str, tmp_path: Path) -> dict[str, Any]:
    images, labels = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2
    judged = {
        "model": nn.Sequential(nn.Flatten(), nn.Linear(16, 2)),
        "data": (images, labels),
        "threat": Threat("Linf", 0.1),
    }
    return {
        "evaluate": {**judged, "attacks": ("pgd-2",), "folder": tmp_path / "verdicts"},
        "audit": {**judged, "examples": 2, "folder": tmp_path / "audit"},
        "paired_difference": {"first": [True, False], "second": np.array([1, 1])},
        "load_images": {"source": "digits", "limit": 20},
        "load_encoder": {"settings": heirloom.EncoderSettings(str(tmp_path / "nowhere"))},
    }[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_what_an_argument_is_not(name: str, argument: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    function: Callable[..., Any] = getattr(heirloom, name)
    wrongs = [
        wrong for wrong in WRONG if argument != "report" or not callable(wrong)
    ]  # any function may be one
    for number, wrong in enumerate(wrongs):
        fine = _fine(name, tmp_path / str(number))
        with suppress(InputError):
            function(**{**fine, argument: wrong})


def test_arrays_and_labelled_images_are_judged_as_tensors_are(digits: ImageSource, tmp_path: Path) -> None:
    model, threat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), Threat("Linf", 0.05)
    few = digits.test.select(torch.arange(20))
    images, labels = few.images, few.labels
    whole = evaluate(model, (images, labels), threat, ["pgd-2"], folder=str(tmp_path / "a"))
    arrays = (images.double().numpy()[::-1][::-1], labels.numpy().astype(np.uint8))
    for data in (arrays, [images.double(), labels.int()], few):
        found = evaluate(model, data, threat, ["pgd-2"], seed=np.int64(0), folder=tmp_path / "a", resume=True)
        assert torch.equal(found.correct["pgd-2"], whole.correct["pgd-2"])
    assert audit(model, few, threat, whole, examples=np.int64(4), folder=str(tmp_path / "b"))  # type: ignore[arg-type]
    right = whole.correct["pgd-2"]
    assert paired_difference(right, right.numpy()) == paired_difference(right.tolist(), right.int())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"attacks": "pgd-2"}, "attacks must be a list of texts or Attacks, got 'pgd-2'."),
        ({"batch_size": 2.5}, "batch_size must be a whole number, got 2.5."),
        ({"threat": "Linf"}, "threat must be a Threat, got 'Linf'."),
        ({"model": print}, "model must be an nn.Module, got builtin_function_or_method."),
        ({"attack_dtype": "bfloat16"}, "attack_dtype must be a torch.dtype, got 'bfloat16'."),
        ({"device": "cudax"}, "device must be one of auto, cpu"),
        ({"folder": 3}, "folder must be a text or a Path, got 3."),
        ({"report": 3}, "report must be a function, got 3."),
        ({"data": 3}, "data must be images and labels, two tensors or arrays, or LabelledImages"),
    ],
)
def test_the_sentence_names_the_argument(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        evaluate(**{**_fine("evaluate", tmp_path), **wrong})
    assert str(raised.value).startswith(said)


def test_images_come_from_a_path_as_from_its_text(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((10, 4, 4)), np.arange(10) % 2
    np.savez(tmp_path / "images.npz", images=x, labels=y)
    one, other = load_images(tmp_path / "images.npz"), load_images(str(tmp_path / "images.npz"))
    assert one.facts() == other.facts()


def test_an_encoder_is_named_by_its_settings_or_their_source(foundation: Path) -> None:
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = load_encoder(heirloom.EncoderSettings(str(foundation)))(x)
    for named in (foundation, str(foundation)):
        assert torch.equal(load_encoder(named)(x), expected)
    with pytest.raises(InputError, match="settings must be an EncoderSettings or a text or a Path, got 3"):
        load_encoder(3)  # type: ignore[arg-type]


def test_images_of_predict_in_every_form(tmp_path: Path, foundation: Path) -> None:
    """One image, however it is handed over, has one answer; what is no image is one sentence."""
    model = _defended(str(foundation))
    stored = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png")
    x = torch.from_numpy(stored)[None, None].float() / 255
    expected = model.predict(x)[1]
    place, picture = tmp_path / "a.png", Image.fromarray(stored)
    one = (place, str(place), place.read_bytes(), picture)
    many = (
        [place],
        (picture,),
        [stored],
        stored[None],
        [x[0]],
        [x[0, 0]],
        x.double(),
        x.numpy(),
        [x[0].numpy()],
    )
    for images in (*one, *many):
        assert torch.equal(model.predict(images)[1], expected), type(images)
    assert torch.allclose(model.predict(x.half())[1], expected, atol=0.01)
    for wrong in (
        *(each for each in WRONG if each is not print),
        x * 2,
        x.long(),
        x[0],
        [x[0], None],
        stored,
    ):
        with pytest.raises(InputError):
            model.predict(wrong)
    for wrong in (None, 3, [], b"x", object()):
        with pytest.raises(InputError, match="pretrained_model_name_or_path must be a text or a Path"):
            heirloom.DefendedModel.from_pretrained(wrong)
