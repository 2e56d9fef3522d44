"""A backbone with the linear classifier that it was trained with, as one network of logits."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from heirloom.networks.backbones import Backbone, load_backbone, save_backbone
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors, write_tensors

HEAD = "head.safetensors"


class Classifier(nn.Module):
    """[0, 1] pixels (N, C, H, W) -> logits (N, classes)."""

    def __init__(self, backbone: Backbone, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.settings, self.feature_size = backbone.settings, head.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))

    def save_pretrained(self, folder: str | Path) -> None:
        """The encoder's two files, and ``head.safetensors`` among them."""
        save_backbone(Path(folder), self.backbone)
        write_tensors(Path(folder) / HEAD, self.head.state_dict())


def load_classifier(folder: str | Path) -> Classifier:
    """The encoder in ``folder`` with the head that lies there (:meth:`Classifier.save_pretrained`) or beside the
    folder (``heirloom pretrain``); :class:`InputError` where there is neither.
    """
    head = load_head(folder)
    if head is None:
        raise InputError(
            "model", f"an encoder with its classifier ({HEAD}), whose logits are read", str(folder)
        )
    return Classifier(load_backbone(folder), head).eval()


def load_head(folder: str | Path) -> nn.Linear | None:
    """The frozen linear classifier of the encoder in ``folder``, None where it has none."""
    places = [place / HEAD for place in (Path(folder), Path(folder).parent)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return None
    tensors, _ = read_tensors(found)
    classes, features = tensors["weight"].shape
    head: nn.Linear = nn.utils.skip_init(nn.Linear, features, classes)
    head.load_state_dict(tensors)
    return head.requires_grad_(False).eval()
