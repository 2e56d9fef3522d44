"""Encoders that heirloom saved: how their output is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from heirloom.models.pooling import Reading
from heirloom.networks.backbones import Backbone, load_backbone
from heirloom.networks.classifier import Classifier, load_classifier
from heirloom.runtime.choices import Pooling
from heirloom.runtime.errors import require


def load_own(folder: str | Path, pooling: Pooling) -> tuple[Backbone | Classifier, Reading]:
    """The network saved in ``folder`` and how it is read.

    Its features; with ``logits`` those of the classifier that it was trained with. A stand-in for another model
    (:func:`stand_in_notes`) says what that model was asked for, logits or embeddings that go with texts, and is
    read as that model was.
    """
    own = load_backbone(folder)
    notes = own.notes
    reads = {"auto", "logits", notes.get("pooling")}
    wanted = "auto or logits for an encoder of heirloom's, which has one kind of features"
    require(pooling in reads, "pooling", wanted, pooling)
    if pooling != "logits" or notes.get("pooling") == "logits":
        for name, value in notes.get(
            "with_texts", {}
        ).items():  # CLIP's factor and SigLIP's bias of the cosines
            own.register_buffer(name, torch.tensor(value), persistent=False)
        return own, Reading("image-text" if notes.get("pooling") == "image-text" else "tensor")
    return load_classifier(folder), Reading("tensor")


def stand_in_notes(teacher: Any, classes: Sequence[str] | None = None) -> dict[str, Any]:
    """What the encoder that stands in for ``teacher``, a FrozenEncoder, must know to be read as it is.

    Args:
        classes: names behind the teacher's logits, where they are known.
    """
    found = {name: getattr(teacher.backbone, name, None) for name in ("logit_scale", "logit_bias")}
    texts = {name: float(value) for name, value in found.items() if value is not None}
    kind = teacher.settings.pooling if teacher.settings.pooling == "logits" else teacher.reading.kind
    named = {} if classes is None else {"classes": list(classes)}
    return {"teacher": teacher.settings.source, "pooling": kind, "with_texts": texts, **named}
