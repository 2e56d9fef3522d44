"""Heads that need no training: a model's own classifier, and texts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from heirloom import InputError
from heirloom.data.labelled import LabelledImages
from heirloom.data.pixels import InMemory
from heirloom.defence.saved import DefendedModel
from heirloom.heads.own import in_order_of, logit_names, names_of, own_classes, own_head
from heirloom.heads.ready import ready_head
from heirloom.heads.zero_shot import zero_shot_head
from heirloom.models.defended import Defended, OwnLogits, check_whole
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from tests.models.zoo import SIDE, ZOO, build

CLASSES = ("tench", "chain saw", "church")


def _own(tmp_path: Path) -> tuple[Any, FrozenEncoder]:
    names = {0: "goldfish", 1: "church, church building", 2: "tench, Tinca tinca", 3: "chain_saw"}
    animal = ZOO["vit classifier"]
    settings = {**animal.settings, "id2label": names, "label2id": {v: k for k, v in names.items()}}
    model, _ = build(type(animal)(**{**animal.__dict__, "settings": settings}), tmp_path)
    return model, load_encoder(EncoderSettings(str(tmp_path), pooling="logits"))


def test_a_models_own_classifier_is_kept(tmp_path: Path, generator: torch.Generator) -> None:
    model, encoder = _own(tmp_path / "hub")
    x = torch.rand(4, 3, SIDE, SIDE, generator=generator)
    expected = model((x - encoder.mean) / encoder.std).logits
    assert torch.allclose(encoder(x), expected, atol=1e-6)
    names = own_classes(names_of(encoder), 4)
    head = own_head(names, CLASSES)
    whole = Defended(nn.Identity(), encoder, head)
    assert torch.equal(whole(x), encoder(x)[:, [2, 3, 1]])
    assert own_head(names, names).columns is None
    with pytest.raises(InputError, match=r"calls the model's 4 logits as the data does.*otter"):
        own_head(names, ("tench", "otter"))
    saved = DefendedModel(
        nn.Identity(),
        encoder,
        head,
        image_shape=(3, SIDE, SIDE),
        classes=CLASSES,
        defence={"method": "identity"},
    )
    saved.save_pretrained(tmp_path / "saved")
    assert torch.equal(DefendedModel.from_pretrained(tmp_path / "saved")(x), whole(x))


def test_texts_that_do_not_fit_the_model_are_told_by_their_name(tmp_path: Path) -> None:
    build(ZOO["clip"], tmp_path / "clip")
    build(ZOO["clip vision"], tmp_path / "vision")
    save_file({"text_embeddings": torch.eye(3, 7)}, tmp_path / "texts.safetensors")
    images = LabelledImages(InMemory(torch.rand(3, 3, SIDE, SIDE)), torch.arange(3), CLASSES)

    def made(encoder: FrozenEncoder) -> Any:
        return ready_head("zero-shot", encoder, images, text_embeddings=tmp_path / "texts.safetensors")

    with pytest.raises(InputError, match=r"text_embeddings must be of shape \(3, \d+\), .*got \(3, 7\)"):
        made(load_encoder(EncoderSettings(str(tmp_path / "clip"), pooling="image-text")))
    with pytest.raises(
        InputError, match=r"model must be one that compares images with texts.*CLIPVisionModel"
    ):
        made(load_encoder(EncoderSettings(str(tmp_path / "vision"), pooling="image-text")))
    with pytest.raises(InputError, match=r"head must be zero-shot only for a model .* a:b, read as tensor"):
        made(FrozenEncoder(nn.Flatten(), EncoderSettings("a:b", pooling="image-text")))


def test_numbers_are_names_where_both_sides_have_the_same() -> None:
    columns = own_head(("1", "2", "0"), ("0", "1", "2")).columns
    assert columns is not None
    assert columns.tolist() == [2, 0, 1]
    for names, classes in ((("0", "1"), ("cat", "dog")), (("LABEL_0", "LABEL_1"), ("1", "0"))):
        assert own_head(names, classes).columns is None  # in order: nothing else is known


def test_what_takes_a_models_place_keeps_the_names_of_its_logits(tmp_path: Path) -> None:
    _, encoder = _own(tmp_path)
    found = own_head(own_classes(names_of(encoder), 4), CLASSES)
    assert logit_names(encoder, 4, found, CLASSES) == own_classes(names_of(encoder), 4)
    factory = FrozenEncoder(nn.Linear(2, 3), EncoderSettings("a.module:factory", pooling="logits"))
    assert logit_names(factory, 3, OwnLogits([2, 0]), ("cat", "dog")) == (
        "dog",
        "1",
        "cat",
    )  # of --classes FILE
    assert logit_names(factory, 3, None, ("cat", "dog")) is None


def test_a_head_that_knows_its_classes_is_put_in_the_datas_order() -> None:
    head, features = nn.Linear(4, 3), torch.rand(2, 4)
    turned = in_order_of(head, ("a", "b", "c"), ("c", "a", "b"))
    assert turned is not None
    assert torch.equal(turned(features), head(features)[:, [2, 0, 1]])
    assert in_order_of(head, ("a", "b", "c"), ("c", "a", "d")) is None
    assert in_order_of(head, None, ("c", "a", "b")) is head
    assert in_order_of(head, None, ("c", "a")) is None


def test_a_classifier_without_its_weights_is_refused(tmp_path: Path) -> None:
    build(ZOO["vit"], tmp_path)
    with pytest.raises(InputError, match=r"all weights that logits needs.*classifier"):
        load_encoder(EncoderSettings(str(tmp_path), pooling="logits"))


def _tokenizer(folder: Path, words: list[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)


def test_texts_that_are_all_one_are_refused(tmp_path: Path) -> None:
    """A folder without a tokenizer: Transformers makes one up that knows no word."""
    build(ZOO["clip"], tmp_path)
    encoder = load_encoder(EncoderSettings(str(tmp_path), pooling="image-text"))
    with pytest.raises(InputError, match="head must be zero-shot only"):
        zero_shot_head(encoder, CLASSES)
    place = tmp_path / "texts.safetensors"
    save_file({"text_embeddings": torch.ones(len(CLASSES), 16)}, place)
    with pytest.raises(InputError, match=f"different for each class, got 1 embeddings for {len(CLASSES)}"):
        zero_shot_head(encoder, CLASSES, embeddings=place)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_zero_shot_is_the_whole_models(kind: str, tmp_path: Path, generator: torch.Generator) -> None:
    from transformers import AutoTokenizer

    model, _ = build(ZOO[kind], tmp_path)
    _tokenizer(tmp_path, ["a", "photo", "of", "tench", "church", "chain", "saw"])
    encoder = load_encoder(EncoderSettings(str(tmp_path), pooling="image-text"))
    head = zero_shot_head(encoder, CLASSES)
    x = torch.rand(64, 3, SIDE, SIDE, generator=generator)
    padding = "max_length" if kind == "siglip" else True
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        [f"a photo of a {name}" for name in CLASSES], padding=padding, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model(pixel_values=(x - encoder.mean) / encoder.std, **tokens).logits_per_image
        logits = head(encoder(x))
    assert torch.equal(logits.argmax(1), expected.argmax(1))
    assert torch.allclose(logits, expected, atol=1e-3)
    assert logits.argmax(1).unique().numel() > 1

    other = zero_shot_head(encoder, CLASSES, template="{} church")
    assert not torch.equal(other.weight, head.weight)
    place = tmp_path / "texts.safetensors"
    save_file({"text_embeddings": 7 * head.weight.contiguous()}, place)
    assert torch.allclose(zero_shot_head(encoder, CLASSES, embeddings=place).weight, head.weight, atol=1e-5)
    with pytest.raises(InputError, match=r"text_embeddings must be finite, of shape \(2, D\)"):
        zero_shot_head(encoder, CLASSES[:2], embeddings=place)
    with pytest.raises(InputError, match=r"template must be a text with \{\}"):
        zero_shot_head(encoder, CLASSES, template="a photo")


class _Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> Any:
        logits = x.flatten(1)[:, :3]
        if self.kind == "raises":
            raise KeyError("of its own")
        return {
            "nan": logits * float("nan"),
            "tuple": (logits, logits),
            "whole": logits.long(),
            "scalar": logits.sum(),
            "fine": logits,
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan", "finite numbers, got NaN"),
        ("tuple", "a tensor, got tuple"),
        ("whole", "floating numbers, got torch.int64"),
        ("scalar", r"\(N, D\)"),
        ("raises", r"KeyError in test_ready.py, line \d+: 'of its own'"),
    ],
)
def test_odd_modules_are_one_sentence(kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        check_whole(_Odd(kind), torch.zeros(2, 1, 2, 2))
    assert "\n" not in str(error.value)
    assert check_whole(_Odd("fine"), torch.zeros(2, 1, 2, 2)) == 3
