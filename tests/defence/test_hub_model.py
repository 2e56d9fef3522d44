"""A saved defence is a citizen of the hub: Transformers loads it, its card says what was measured."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from torch import nn

from heirloom.defence.card import model_card
from heirloom.defence.saved import DefendedModel
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.models.preprocessor import build_preprocessor
from tests.models.zoo import SIDE, ZOO, build

CLASSES = ("cat", "dog", "horse")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub")
    build(ZOO["vit"], place / "vit")
    (place / "vit" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# A ViT\n")
    encoder = load_encoder(EncoderSettings(str(place / "vit")))
    head = nn.Linear(16, 3)
    nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    model = DefendedModel(
        build_preprocessor("conv", (3, SIDE, SIDE)),
        encoder,
        head,
        image_shape=(3, SIDE, SIDE),
        classes=CLASSES,
        defence={"method": "cropd"},
    )
    model.save_pretrained(place / "saved")
    return place / "saved"


def _pictures(count: int) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


def test_transformers_loads_it(saved: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

    pictures = _pictures(4)
    own = DefendedModel.from_pretrained(saved)
    model = AutoModelForImageClassification.from_pretrained(saved)
    processor = AutoImageProcessor.from_pretrained(saved, backend="pil")
    x = processor(pictures, return_tensors="pt")["pixel_values"]
    stacked = np.ascontiguousarray(np.stack([np.asarray(p) for p in pictures]).transpose(0, 3, 1, 2))
    expected = torch.from_numpy(stacked).float() / 255
    assert torch.equal(x, expected)
    with torch.no_grad():
        assert torch.equal(model(x).logits, own(expected))
    assert model.config.id2label == dict(enumerate(CLASSES))
    told = pipeline("image-classification", model=str(saved))(pictures[0])
    _, probabilities = own.predict([pictures[0]])
    assert {one["label"]: one["score"] for one in told} == pytest.approx(
        dict(zip(CLASSES, probabilities[0].tolist(), strict=True)), abs=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("ahead", ["import transformers; import heirloom", ""])
def test_transformers_first_and_auto_map_alone(ahead: str, saved: Path) -> None:
    trust = "" if ahead else ", trust_remote_code=True"
    code = (
        f"{ahead}\nfrom transformers import AutoModelForImageClassification as A\n"
        f"print(type(A.from_pretrained({str(saved)!r}{trust})).__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "HeirloomForImageClassification", done.stderr[-500:]


def test_importing_heirloom_imports_nothing_heavy() -> None:
    code = "import heirloom, sys; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_card_has_the_copied_encoders_licence_and_the_figures(saved: Path) -> None:
    own = DefendedModel.from_pretrained(saved)
    assert own.config()["licence"] == "cc-by-nc-4.0"
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    summary = {
        "rows": [
            {"defence": "identity", "clean": share},
            {"defence": "cropd", "clean": share, "strong": share},
        ],
        "settings": {},
        "threat": {"norm": "Linf", "eps": 8 / 255},
        "data": {"name": "digits"},
        "command": "heirloom defend",
    }
    card = ModelCard(model_card(own.config(), summary))
    assert card.data.license == "cc-by-nc-4.0"
    assert card.data.eval_results is not None
    assert [r.metric_name for r in card.data.eval_results] == [
        "accuracy",
        "robust accuracy, strong, Linf 8/255",
    ]
    assert [r.metric_value for r in card.data.eval_results] == [0.5, 0.5]
