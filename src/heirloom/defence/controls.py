"""The rows that ``distil`` must stand beside: its student alone, and the frozen classifier's own head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import LabelledImages
from heirloom.defence.settings import AUTO, PreprocessorSettings
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.heads.own import in_order_of, knows, logit_names, names_of
from heirloom.heads.own import own_head as own_head_of
from heirloom.models.defended import Defended, OwnLogits
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.models.own_encoder import stand_in_notes
from heirloom.models.preprocessor import Preprocessor
from heirloom.models.transformers.classifier import linear_classifier
from heirloom.networks.backbones import BackboneSettings, build_backbone, save_backbone
from heirloom.networks.classifier import HEAD, load_head
from heirloom.networks.student_painter import Student, StudentPainter
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import write_tensors

STAND_IN = "stand-in"
STUDENT_ALONE = "student alone"


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
    device: str = "cpu",
) -> Defended:
    """The student with a head of its own, trained as every other head is, and no foundation model."""
    student.to(device).eval()
    features, held_out = (extract_features(student, part, device=device) for part in (train, validation))
    classes = len(train.classes)
    head = train_head(features, train.labels, classes, settings, validation=(held_out, validation.labels))
    return Defended(nn.Identity(), student.cpu(), head.cpu()).eval()


def controls_of(
    model: Defended,
    own: nn.Module | None,
    kept: nn.Module | None,
    images: tuple[LabelledImages, LabelledImages],
    settings: HeadSettings,
    *,
    device: str = "cpu",
) -> dict[str, nn.Module]:
    """What a ``distil`` ``model`` must stand beside, by the name of its row: the student alone where it paints, and the
    frozen model's ``own`` head where another was trained.

    Args:
        kept: the head that was not trained, for the student as well. images: training and validation.
    """
    student, found = student_of(model.preprocessor), dict[str, nn.Module]()
    if student is not None and kept is not None:
        found[STUDENT_ALONE] = Defended(nn.Identity(), student, kept).eval()
    elif student is not None:
        found[STUDENT_ALONE] = student_alone(student, *images, settings, device=device)
    if own is not None and kept is None:
        found["original head"] = Defended(model.preprocessor, model.encoder, own).eval()
    elif student is not None and kept is None:
        said = own_classifier(model.encoder, images[0].classes)
        found |= {} if said is None else {"original head": Defended(model.preprocessor, *said).eval()}
    return found


def own_classifier(encoder: nn.Module, classes: Sequence[str]) -> tuple[FrozenEncoder, OwnLogits] | None:
    """A classifier of Transformers that is read as its features, read as its logits of ``classes`` instead; None where
    the checkpoint has no classifier, or one that does not know all of them by their names.
    """
    if not isinstance(encoder, FrozenEncoder) or encoder.is_sharded or encoder.settings.pooling == "logits":
        return None
    if not hasattr(encoder.backbone, "config"):  # a user's module, or one of ours, whose head lies beside it
        return None
    names = (
        names_of(encoder) or ()
    )  # of its configuration, which says them whether a classifier is there or not
    if not knows(names, classes):
        return None
    try:
        found = load_encoder(
            replace(encoder.settings, pooling="logits"), trust_remote_code=encoder.trusts_remote_code
        )
        return found, own_head_of(names, classes)
    except InputError:
        return None


def pretrained_head(encoder: FrozenEncoder) -> nn.Linear | None:
    """The linear classifier on the encoder's features that it was trained with: that of a checkpoint of Transformers,
    or what ``heirloom pretrain`` saved beside it. None where there is none, or where the encoder is read as its logits
    already.
    """
    if encoder.settings.pooling == "logits":
        return None
    found = linear_classifier(encoder)
    return load_head(encoder.settings.source) if found is None and encoder.settings.is_local else found


def own_head(encoder: FrozenEncoder, kept: nn.Module | None, classes: Sequence[str]) -> nn.Module | None:
    """The frozen model's classifier of the ``classes`` of the data: the head that is ``kept``, or the one saved beside
    the encoder; None where there is none, or where that one tells other classes apart.
    """
    found = None if kept is not None else pretrained_head(encoder)
    if found is None:
        return kept
    names, is_of_transformers = names_of(encoder), hasattr(encoder.backbone, "config")
    if is_of_transformers and not knows(names or (), classes):  # LABEL_0 may mean anything
        return None
    return in_order_of(found, names, classes)


def target_head(
    settings: PreprocessorSettings, encoder: FrozenEncoder, kept: nn.Module | None, classes: Sequence[str]
) -> nn.Module | None:
    """The frozen model's classifier where its classes are what is learned, else None: to find one may mean to load the
    model again.
    """
    learns = settings.method in ("distil", AUTO) and settings.distil.targets == "head"
    return own_head(encoder, kept, classes) if learns else None


def save_stand_in(
    preprocessor: nn.Module,
    folder: Path,
    encoder: FrozenEncoder,
    head: nn.Module | None = None,
    classes: Sequence[str] = (),
) -> bool:
    """Save the student as what it honestly is: a robust encoder in the own feature space of ``encoder``, on which
    heads and text embeddings made for that work unchanged (``--model FOLDER``). The classifier that ``heirloom
    pretrain`` left, or that a checkpoint of Transformers has, is copied. False where there is no student.

    Args:
        head: that is kept, and the ``classes`` of the data: a stand-in for logits keeps their names.
    """
    student = student_of(preprocessor)
    if student is None:
        return False
    network: Any = preprocessor.network
    s = network.settings
    own = BackboneSettings(
        f"student-{s.student}",
        s.channels,
        s.image_size,
        features=s.features,
        width=s.width,
        activation=s.activation,
    )
    backbone = build_backbone(own)
    backbone.body.load_state_dict(student.state_dict())
    names = logit_names(encoder, s.features, head, classes)
    if keep_head(encoder, folder) and names is None:
        names = names_of(encoder)
    save_backbone(folder, backbone, stand_in_notes(encoder, names))
    return True


def keep_head(encoder: FrozenEncoder, folder: Path) -> bool:
    """Put the classifier that ``encoder`` was trained with into the stand-in's ``folder``; False without one."""
    head = pretrained_head(encoder)
    if head is not None:
        write_tensors(folder / HEAD, head.state_dict())
    return head is not None


def in_its_place(folder: Path) -> FrozenEncoder:
    """The stand-in saved in ``folder``, frozen, read as the model that it stands in for."""
    return load_encoder(EncoderSettings(str(folder)))
