"""Zero-shot heads: class names as text embeddings of a CLIP-like model (Radford et al., ICML 2021, section 3.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heirloom.models.encoder import FrozenEncoder
from heirloom.runtime.errors import InputError, reject, require
from heirloom.runtime.files import read_tensors

TEXT_EMBEDDINGS = "text_embeddings"  # (classes, D), in a safetensors file
PADDED = ("siglip", "siglip2")  # trained on texts padded to full length


def zero_shot_head(
    encoder: FrozenEncoder,
    classes: Sequence[str],
    *,
    template: str = "a photo of a {}",
    embeddings: Path | None = None,
) -> nn.Linear:
    """The linear layer whose logits are the whole model's: scaled cosines with the classes' texts, plus its bias.

    Args:
        encoder: loaded with pooling ``image-text``, so that its features have length 1.
        classes: names, put into ``template`` at ``{}``.
        embeddings: a safetensors file with ``text_embeddings`` (classes, D) made elsewhere, used in place of the
            model's own text side.

    Raises:
        InputError: a model without a text side, a template without ``{}``, embeddings of another shape.
    """
    require(
        encoder.reading.kind == "image-text",
        "head",
        "zero-shot only for a model that compares images with texts (CLIP, SigLIP), read by pooling image-text",
        f"{encoder.settings.source}, read as {encoder.reading.kind}",
    )
    require("{}" in template, "template", "a text with {} for the class", template)
    if embeddings is not None:
        texts = _from_file(embeddings, len(classes))
    else:
        texts = text_embeddings(encoder, [template.replace("{}", name) for name in classes])
    _check_apart(texts, classes, "head" if embeddings is None else "text_embeddings")
    return _head(encoder.backbone, functional.normalize(texts.float()))


def _check_apart(texts: Tensor, classes: Sequence[str], argument: str) -> None:
    """Where a folder has no tokenizer Transformers takes one that knows no word: all texts are the same then."""
    found, names = len(texts.unique(dim=0)), len(set(classes))
    wanted = {
        "head": "zero-shot only for a model whose tokenizer and text side tell the class names apart",
        "text_embeddings": "different for each class",
    }[argument]
    require(found >= names, argument, wanted, f"{found} embeddings for {names} names")


@torch.no_grad()
def text_embeddings(encoder: FrozenEncoder, texts: Sequence[str]) -> Tensor:
    """(texts, D) of the model's own text side and tokenizer."""
    from transformers import AutoTokenizer

    backbone: Any = encoder.backbone
    source = encoder.settings.source
    try:
        options = {"revision": encoder.settings.revision} if encoder.settings.revision else {}
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except Exception as error:  # no tokenizer, or one that needs what is absent
        raise InputError(
            "head",
            "zero-shot only for a model with a tokenizer, or with text_embeddings given",
            f"{source}: {error}",
        ) from None
    padding = "max_length" if backbone.config.model_type in PADDED else True
    length = int(getattr(backbone.config.text_config, "max_position_embeddings", 77))
    tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=length, return_tensors="pt")
    known = {k: v.to(next(backbone.parameters()).device) for k, v in tokens.items() if k != "token_type_ids"}
    found = backbone.get_text_features(**known)
    return (found if isinstance(found, Tensor) else found.pooler_output).cpu()


def _from_file(path: Path, classes: int) -> Tensor:
    tensors, _ = read_tensors(path)
    if TEXT_EMBEDDINGS not in tensors:
        reject("text_embeddings", f"a safetensors file with {TEXT_EMBEDDINGS}", ", ".join(tensors))
    found = tensors[TEXT_EMBEDDINGS]
    holds = found.ndim == 2 and len(found) == classes and bool(found.float().isfinite().all())
    require(holds, "text_embeddings", f"finite, of shape ({classes}, D)", tuple(found.shape))
    return found


def _head(backbone: Any, texts: Tensor) -> nn.Linear:
    scale = getattr(backbone, "logit_scale", None)
    bias = getattr(backbone, "logit_bias", None)
    head: nn.Linear = nn.utils.skip_init(nn.Linear, texts.shape[1], len(texts))
    with torch.no_grad():
        factor = 1.0 if scale is None else float(scale.detach().exp())
        head.weight.copy_(texts * factor)
        head.bias.fill_(0.0 if bias is None else float(bias.detach()))
    return head.requires_grad_(False)
