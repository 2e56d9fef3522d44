"""What ``heirloom evaluate`` measures: a saved defence, a ``package.module:factory``, a Transformers classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heirloom.runtime.errors import InputError, reject, renamed

if TYPE_CHECKING:
    from torch import nn

    from heirloom.data.labelled import LabelledImages
    from heirloom.features.measure import Checkpoint
    from heirloom.threat import Threat


@dataclass(frozen=True)
class Target:
    """A model, its name in tables, and what its folder says of data and threat (None where it says nothing)."""

    model: nn.Module
    name: str
    image_size: int | None = None
    data: str | None = None
    threat: Threat | None = None
    names: tuple[str, ...] | None = None

    def on(self, images: LabelledImages, named: Path | None = None) -> nn.Module:
        """The model's logits of the classes of ``images``, found by name where the model knows names of its own or
        the file ``named`` has them.
        """
        if self.names is None and named is None:
            return self.model
        from torch import nn

        from heirloom.heads.own import own_classes, own_head
        from heirloom.models.defended import Defended

        outputs = None if named is None else self._outputs(images)
        names = self.names if outputs is None else own_classes(self.names, outputs, named)
        return Defended(nn.Identity(), self.model, own_head(names or (), images.classes))

    def _outputs(self, images: LabelledImages) -> int:
        """How many logits the model has; its copy is asked."""
        from heirloom.evaluation.apart import on_a_copy
        from heirloom.evaluation.askable import askable
        from heirloom.models.defended import check_whole

        few = images.images[:2]
        with on_a_copy(self.model) as copied:
            shown = (self.model if copied is None else copied).eval()
            return check_whole(askable(shown, few), few)


def resolve_target(saved: str | None, factory: str | None, *, trust_remote_code: bool = False) -> Target:
    """The model of ``heirloom evaluate SAVED`` or ``heirloom evaluate --model FACTORY``.

    Args:
        saved: a folder that ``heirloom defend`` wrote, or such a folder's id on the hub.
        factory: ``package.module:factory``, called without arguments; or a hub id or folder of Transformers, read
            as an ``AutoModelForImageClassification``.
    """
    if (saved is None) == (factory is None):
        got = "neither" if saved is None else "both"
        raise InputError("model", "given, or a saved defence, and not both", got)
    if factory is not None:
        from heirloom.models.factory import module_from_factory

        if ":" in factory:
            return Target(module_from_factory(factory), factory)
        return _classifier(factory, trust_remote_code)
    assert saved is not None
    with renamed(model="saved"):
        return _saved(saved, trust_remote_code)


def checkpoints_of(model: str, trust_remote_code: bool) -> list[Checkpoint]:
    """What ``heirloom features measure`` measures: of a pretrain run all epochs that it kept and its end, else one."""
    from heirloom.features.measure import Checkpoint
    from heirloom.networks.classifier import load_classifier
    from heirloom.pretraining.kept import kept_epochs

    folder = Path(model)
    if (folder / "encoder").is_dir() and not (folder / "config.json").exists():
        kept = kept_epochs(folder)
        along = [
            Checkpoint(model, load_classifier(epoch.folder / "encoder"), epoch.phase, epoch.epoch, step)
            for step, epoch in enumerate(kept, 1)
        ]
        return [*along, Checkpoint(model, load_classifier(folder / "encoder"), "end" if kept else "")]
    saved = (model, None) if _is_saved_defence(folder) else (None, model)
    return [Checkpoint(model, resolve_target(*saved, trust_remote_code=trust_remote_code).model)]


def _is_saved_defence(folder: Path) -> bool:
    from heirloom.runtime.files import read_json

    path = folder / "config.json"
    return path.is_file() and read_json(path).get("library_name") == "heirloom"


def _classifier(source: str, trust_remote_code: bool) -> Target:
    """A classifier of Transformers with the names behind its logits; or an encoder of ``heirloom pretrain`` with
    the head that lies beside it, and a stand-in for one: they note the names of their logits.
    """
    from heirloom.heads.own import names_of
    from heirloom.models.encoder import EncoderSettings, load_encoder

    if Path(source).is_file():
        what = "package.module:factory, a hub id or a folder of Transformers"
        reject(
            "model",
            what,
            f"the file {source}: a factory may read it (an ONNX file has no gradients to attack by)",
        )
    encoder = load_encoder(EncoderSettings(source, pooling="logits"), trust_remote_code=trust_remote_code)
    size = encoder.processing.size
    return Target(encoder, source, size[0] if size and size[0] == size[1] else None, names=names_of(encoder))


def _saved(place: str, trust_remote_code: bool) -> Target:
    from heirloom.defence.saved import DefendedModel
    from heirloom.results.schema import Summary
    from heirloom.threat import Threat

    model = DefendedModel.from_pretrained(place, trust_remote_code=trust_remote_code)
    threat = Threat(**model.defence["threat"]) if "threat" in model.defence else None
    data = None
    if (Path(place) / "summary.json").exists():
        used = Summary.read(Path(place) / "summary.json").data
        data = None if used is None else used.name
    return Target(model, str(model.defence.get("method", place)), model.image_shape[1], data, threat)
