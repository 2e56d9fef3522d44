"""Which head stands behind a foundation model when none is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from heirloom.data.labelled import LabelledImages
from heirloom.heads.own import names_of, own_classes, own_head, read_classes
from heirloom.heads.zero_shot import zero_shot_head
from heirloom.models.defended import check_whole
from heirloom.models.encoder import FrozenEncoder
from heirloom.runtime.choices import HeadKind, Pooling
from heirloom.runtime.errors import reject, require

POOLING_OF: dict[HeadKind, Pooling] = {"own": "logits", "zero-shot": "image-text"}
TEMPLATE = "a photo of a {}"


def pooling_for(kind: HeadKind, pooling: Pooling) -> Pooling:
    """What the encoder must hand to this kind of head; what the user asked for where a head is trained."""
    if kind == "linear":
        return pooling
    require(pooling in ("auto", POOLING_OF[kind]), "pooling", f"left out for head {kind}", pooling)
    return POOLING_OF[kind]


def ready_head(
    kind: HeadKind,
    encoder: FrozenEncoder,
    images: LabelledImages,
    *,
    classes: Path | None = None,
    template: str | None = None,
    text_embeddings: Path | None = None,
) -> nn.Module | None:
    """The head that is kept as it is, None where one is to be trained (``linear``). No label is read.

    Args:
        classes: a file of names, one a line: of the model's logits (``own``), or said in the texts in place of the
            data's names (``zero-shot``).

    Raises:
        InputError: settings of another kind of head, classes that do not fit.
    """
    if kind != "zero-shot":
        for name, value in (("template", template), ("text_embeddings", text_embeddings)):
            require(value is None, name, "left out unless head is zero-shot", value)
    if kind == "linear":
        require(classes is None, "classes", "left out for a head that is trained", classes)
        return None
    names = images.classes
    outputs = check_whole(encoder, images.select(torch.arange(min(2, len(images)))).images)
    if kind == "own":
        return own_head(own_classes(names_of(encoder), outputs, classes), names)
    said = read_classes(classes) if classes is not None else names
    if len(said) != len(names):
        reject("classes", f"{len(names)} names, one for each class of the data", len(said))
    head = zero_shot_head(encoder, said, template=template or TEMPLATE, embeddings=text_embeddings)
    shape = (len(names), head.in_features)
    wanted = f"of shape ({len(names)}, {outputs}), as the model's embeddings of images"
    require(head.in_features == outputs, "text_embeddings", wanted, shape)
    return head
