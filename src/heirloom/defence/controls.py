"""The rows that ``distil`` must stand beside: its student alone, and the frozen classifier's own head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import LabelledImages
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import Preprocessor
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.networks.student_painter import Student, StudentPainter
from heirloom.runtime.files import read_tensors

STAND_IN = "stand-in"


def student_of(preprocessor: nn.Module) -> Student | None:
    """The student inside a preprocessor that ``distil`` made, None where there is none."""
    network = preprocessor.network if isinstance(preprocessor, Preprocessor) else None
    return network.student if isinstance(network, StudentPainter) else None


def student_alone(
    student: Student,
    train: LabelledImages,
    validation: LabelledImages,
    settings: HeadSettings,
    *,
    batch_size: int = 256,
    device: str = "cpu",
) -> Defended:
    """The student with a head of its own, trained as every other head is, and no foundation model."""
    student.to(device).eval()
    features, held_out = (
        extract_features(student, part, batch_size=batch_size, device=device) for part in (train, validation)
    )
    classes = len(train.classes)
    head = train_head(features, train.labels, classes, settings, validation=(held_out, validation.labels))
    return Defended(nn.Identity(), student.cpu(), head.cpu()).eval()


def pretrained_head(encoder: FrozenEncoder) -> nn.Linear | None:
    """The linear classifier that ``heirloom pretrain`` saved beside the encoder, None where there is none."""
    place = Path(encoder.settings.source).parent / "head.safetensors"
    if not encoder.settings.is_local or not place.is_file():
        return None
    tensors, _ = read_tensors(place)
    classes, features = tensors["weight"].shape
    head: nn.Linear = nn.utils.skip_init(nn.Linear, features, classes)
    head.load_state_dict(tensors)
    return head.requires_grad_(False).eval()


def save_stand_in(preprocessor: nn.Module, folder: Path, notes: dict[str, Any]) -> bool:
    """Save the student as what it honestly is: a robust encoder in the foundation's own feature space, on which
    heads and text embeddings made for the foundation work unchanged (``--model FOLDER``). False where there is
    none.
    """
    student = student_of(preprocessor)
    if student is None:
        return False
    network: Any = preprocessor.network
    s = network.settings
    own = BackboneSettings(
        f"student-{s.student}", s.channels, s.image_size, features=s.features, width=s.width
    )
    backbone = build_backbone(own)
    backbone.body.load_state_dict(student.state_dict())
    save_backbone(folder, backbone, notes)
    return True
