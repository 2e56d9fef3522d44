"""LoRA on a frozen base: the outputs are peft's, and a LoRA folder in the model's place says what it is."""

from pathlib import Path

import pytest
import torch

from heirloom import InputError
from heirloom.models.encoder import EncoderSettings, load_encoder
from tests.models.zoo import SIDE, ZOO, build

peft = pytest.importorskip("peft")


def test_an_adapter_is_merged(tmp_path: Path, generator: torch.Generator) -> None:
    from transformers import ViTModel

    build(ZOO["vit"], tmp_path / "base")
    base = ViTModel.from_pretrained(tmp_path / "base")
    names = {name.rpartition(".")[2] for name, m in base.named_modules() if isinstance(m, torch.nn.Linear)}
    lora = peft.LoraConfig(r=2, target_modules=sorted(names - {"dense"})[:2], init_lora_weights=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(base, lora).eval()
    model.save_pretrained(tmp_path / "lora")
    plain = load_encoder(EncoderSettings(str(tmp_path / "base"), normalisation="none"))
    adapted = load_encoder(
        EncoderSettings(str(tmp_path / "base"), normalisation="none", adapter=str(tmp_path / "lora"))
    )
    x = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    with torch.no_grad():
        assert torch.allclose(adapted(x), model(x).pooler_output, atol=1e-5)
    assert not torch.allclose(adapted(x), plain(x), atol=1e-3)
    assert adapted.fingerprint() != plain.fingerprint()
    adapted.save(tmp_path / "saved")
    assert torch.equal(
        load_encoder(EncoderSettings(str(tmp_path / "saved"), normalisation="none"))(x), adapted(x)
    )
    with pytest.raises(InputError, match="LoRA folder as its adapter"):
        load_encoder(EncoderSettings(str(tmp_path / "lora")))
    build(ZOO["resnet"], tmp_path / "other")
    with pytest.raises(InputError, match="adapter must be one made for this model"):
        load_encoder(EncoderSettings(str(tmp_path / "other"), adapter=str(tmp_path / "lora")))
    with pytest.raises(InputError, match="adapter must be a folder that peft saved"):
        load_encoder(EncoderSettings(str(tmp_path / "base"), adapter=str(tmp_path / "base")))


def test_an_adapter_of_the_classifier_is_one_of_the_model_inside_it(
    tmp_path: Path, generator: torch.Generator
) -> None:
    """Or the other way round: never are weights merged that nobody trained."""
    from transformers import ViTForImageClassification, ViTModel

    build(ZOO["vit classifier"], tmp_path / "base")
    x = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    for kind, pooling in ((ViTForImageClassification, "cls"), (ViTModel, "logits")):
        base = kind.from_pretrained(tmp_path / "base")
        lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = peft.get_peft_model(base, lora).eval()
        model.save_pretrained(tmp_path / pooling)
        reading = EncoderSettings(
            str(tmp_path / "base"), pooling=pooling, normalisation="none", adapter=str(tmp_path / pooling)
        )
        with torch.no_grad():
            inner = model.base_model.model
            tokens = getattr(inner, "vit", inner)(x).last_hidden_state[:, 0]
            head = ViTForImageClassification.from_pretrained(tmp_path / "base").classifier
            expected = tokens if pooling == "cls" else head(tokens)
            assert torch.allclose(load_encoder(reading)(x), expected, atol=1e-5)
    build(ZOO["dinov2"], tmp_path / "other")  # layers of other names
    with pytest.raises(InputError, match="adapter must be one made for this model"):
        load_encoder(EncoderSettings(str(tmp_path / "other"), adapter=str(tmp_path / "cls")))
