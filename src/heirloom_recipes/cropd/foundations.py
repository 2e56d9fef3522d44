"""The frozen models of CRoPD's tables, each trained or fine-tuned once and kept in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.defence.controls import pretrained_head
from heirloom.evaluation.columns import words
from heirloom.models.defended import check_whole
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.runs import Progress, Run
from heirloom.runtime.errors import renamed
from heirloom.runtime.files import write_json
from heirloom_recipes.cropd.lora import fine_tuned
from heirloom_recipes.cropd.paper import ADVERSARIAL, ENCODER_ONLY, TUNED, TUNED_ROCL, Cell
from heirloom_recipes.cropd.scales import Scale
from heirloom_recipes.cropd.spent import counted, spent


@dataclass(frozen=True)
class Foundations:
    """Those of one scale. ``data(name)``: the images called ``name``. ``trust_remote_code``: of a given one."""

    scale: Scale
    run: Run
    data: Callable[[str], ImageSource]
    seed: int
    progress: Progress
    trust_remote_code: bool = False

    def of(self, cell: Cell) -> FrozenEncoder:
        """The frozen model of a row: the scale's, or one trained on the row's images, fine-tuned where the row says.

        RoCL's is always trained here: no given model was pre-trained so; and so is the encoder without a foundation.
        """
        if self.is_tuned(cell):
            return self._tuned(cell)
        if self.scale.foundation is not None and cell.foundation not in ("rocl", ENCODER_ONLY):
            return self._given(cell)
        s = self.scale
        chosen = replace(s.contrastive if cell.foundation == "rocl" else s.supervised, network=s.network)
        if cell.foundation == "frozen":
            chosen = replace(chosen, adversarial_epochs=0)
        folder = self._pretrained(self.name_of(cell), cell, chosen)
        return load_encoder(EncoderSettings(str(folder)))

    def _given(self, cell: Cell) -> FrozenEncoder:
        """The model that ``--data foundation=`` names, once it is known to take the row's images."""
        with renamed(model="foundation"):
            given = EncoderSettings(str(self.scale.foundation))
            encoder = load_encoder(given, trust_remote_code=self.trust_remote_code)
            check_whole(encoder, self.data(cell.data).train.select(torch.arange(2)).images)
        return encoder

    def name_of(self, cell: Cell) -> str:
        """The name of a row's foundation in the folder; one that met an attack is of the radius that the row names."""
        radius = f"-eps-{cell.eps:g}" if cell.eps and cell.foundation not in ("frozen", "lora", TUNED) else ""
        same = cell.foundation == ENCODER_ONLY and self.scale.foundation is None  # then both are trained here
        return f"{cell.data}-{ADVERSARIAL if same else cell.foundation}{radius}".replace(" ", "-")

    @property
    def another_network(self) -> str:
        """The architecture of :meth:`another`."""
        return "resnet10-6x6-w16" if self.scale.network == "resnet8" else "resnet8"

    def another(self, data: str) -> tuple[FrozenEncoder, nn.Linear]:
        """A frozen model of another architecture and another seed, trained cleanly on the images called ``data``, and
        its own head.
        """
        own = self.scale.supervised
        training = replace(own.training, seed=self.seed + 1)
        chosen = replace(own, training=training, network=self.another_network, adversarial_epochs=0)
        folder = self._pretrained(f"{data}-another", Cell(data, "identity"), chosen)
        encoder = load_encoder(EncoderSettings(str(folder)))
        head = pretrained_head(encoder)
        assert head is not None  # heirloom pretrain leaves one
        return encoder, head

    def _pretrained(self, name: str, cell: Cell, chosen: PretrainSettings) -> Path:
        """The folder of an encoder that ``heirloom pretrain`` made, once."""
        folder = self.run.folder / "foundations" / name
        if not (folder / "finished.json").exists():
            started = time.perf_counter()
            with counted(self.run.path("spent", f"{name}.json"), folder):
                pretrain(
                    self.data(cell.data).train,
                    self.scale.threat(cell),
                    chosen,
                    folder,
                    resume=True,
                    report=lambda phase, done, total, losses: self.progress(
                        f"{name}: {phase} phase", done, total, words(losses)
                    ),
                )
            write_json(folder / "finished.json", {"seconds": round(time.perf_counter() - started, 2)})
        return folder / "encoder"

    def is_tuned(self, cell: Cell) -> bool:
        """Whether the row's foundation is another, fine-tuned: a given model that meets attacks is, too."""
        given = self.scale.foundation is not None
        by_name = cell.foundation.startswith(("lora", TUNED, TUNED_ROCL))
        return by_name or (given and cell.foundation == ADVERSARIAL)

    def _before(self, cell: Cell) -> Cell:
        """A row on the foundation that this row's was fine-tuned from."""
        return replace(cell, foundation="rocl" if cell.foundation.startswith(TUNED_ROCL) else "frozen")

    def _tuned(self, cell: Cell) -> FrozenEncoder:
        """The frozen model of a row's images, fine-tuned with labels: by low-rank adapters, or all of its weights."""
        front = self.scale.front(cell.data, self.data(cell.data).train.shape).training
        name, table_7 = self.name_of(cell), self.scale.tuning
        low_rank = cell.foundation.startswith("lora")
        training = replace(front, epochs=max(1, front.epochs // 3), learning_rate=1e-3 if low_rank else 1e-4)
        is_attacked = "under attack" in cell.foundation or cell.foundation == ADVERSARIAL
        frozen, checkpoint = self.of(self._before(cell)), self.run.path("tuned", f"{name}.safetensors")
        with counted(self.run.path("spent", f"{name}.json"), checkpoint):
            return fine_tuned(
                frozen,
                self.data(cell.data).train,
                training,
                low_rank=low_rank,
                threat=self.scale.threat(cell) if is_attacked else None,
                table_7=None if low_rank else table_7,
                checkpoint=checkpoint,
                report=lambda done, total, losses: self.progress(
                    f"{name}: train", done, total, words(losses)
                ),
            )

    def spent(self, cell: Cell) -> dict[str, float | None]:
        """Processor seconds of a row's foundation, its pre-training and its fine-tuning; None: not made here, or by a
        version that did not count."""
        tuned = self.is_tuned(cell)
        trained = self._before(cell) if tuned else cell
        kept = {"foundation": trained, "fine-tuning": cell if tuned else None}
        return {
            name: None if of is None else spent(self.run.path("spent", f"{self.name_of(of)}.json"))
            for name, of in kept.items()
        }
