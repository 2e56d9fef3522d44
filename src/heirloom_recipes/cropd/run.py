"""One body for all of CRoPD's tables: foundation, preprocessor, head, verdicts, each made once and kept.

Everything lies under one folder, so the tables share foundations (``foundations/``), preprocessors (``preprocessors/``)
and rows (``work/stages/``), and a command that was cut off goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.remarks import packed
from heirloom.defence.settings import PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.columns import words
from heirloom.evaluation.pass_dtype import AUTO, passes_in
from heirloom.evaluation.verdicts import Evaluation
from heirloom.heads.adversarial import train_adversarial_head
from heirloom.heads.linear import extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import parameter_count, vae_preprocessor
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.files import read_json
from heirloom.runtime.identity import check_same, deciding, module_facts
from heirloom.threat import Threat
from heirloom_recipes.catalogue import until
from heirloom_recipes.cropd.foundations import Foundations
from heirloom_recipes.cropd.given import check_names, data_sets, digests_of, named_data_sets
from heirloom_recipes.cropd.images import SUBSETS, images_of
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.scales import scale_settings
from heirloom_recipes.cropd.spent import counted, spent
from heirloom_recipes.judging import judged
from heirloom_recipes.same_images import same_images

STUDENT_SECONDS = "student.json"


class Runner:
    """Makes the parts and rows of one scale in one folder, each once."""

    def __init__(
        self,
        scale: str,
        out: Path,
        *,
        sources: dict[str, str] | None = None,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        minutes: float | None = None,
        changes: dict[str, Any] | None = None,
        takes_defence: bool = False,
        held_out: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        """``held_out``: rows are judged on images held out of the training images; no test image is looked at.
        ``trust_remote_code``: let code run that the given foundation's repository has.
        """
        given, chosen = dict(sources or {}), scale_settings(scale, seed, device)
        chosen = replace(chosen, **(changes or {}))  # what one recipe alone wants otherwise
        check_names(given, takes_defence=takes_defence)
        self.defence = given.pop("defence", None)  # a folder, for a recipe that starts from a saved one
        self.named = named_data_sets(given)
        chosen = replace(
            chosen,
            datasets=data_sets(chosen.datasets, given),
            vae=given.pop("vae", chosen.vae),
            foundation=given.pop("foundation", chosen.foundation),
            sources={**chosen.sources, **given},
        )
        self.scale, self.seed, self.device, self.held_out = chosen, seed, device, held_out
        self.loaded = dict[str, ImageSource]()
        shared = replace(
            chosen, datasets=(), sources={}, vae=None
        )  # a run is the same with one more of these
        facts = {"scale": deciding(shared), "seed": seed}
        if held_out:
            facts["held out"] = True
        if self.defence is not None:
            facts["defence"] = digests_of(self.defence)
        self.run = Run(out, facts, resume=True)
        self.progress = until(minutes, self.run.counting(progress))
        self.trust_remote_code = trust_remote_code
        self.foundations = Foundations(
            chosen, self.run, self.data, seed, self.progress, trust_remote_code=trust_remote_code
        )

    @property
    def one_data_set(self) -> str:
        """For a recipe that takes one: what ``--data`` names, else the first that the scale brings along.

        Raises:
            InputError: several are named.
        """
        wanted = "of one data set for this recipe"
        require(len(self.named) <= 1, "data", wanted, " and ".join(self.named))
        return (self.named or self.scale.datasets)[0]

    def covers(self, cell: Cell) -> bool:
        """Whether this scale has all that the row needs."""
        names = {SUBSETS.get(name, name) for name in (cell.trained_on or cell.data, cell.data)}
        tuned = cell.foundation.startswith("lora")
        return (
            names <= set(self.scale.datasets)
            and (cell.method != "vae" or self.scale.vae is not None)
            and (not tuned or find_spec("peft") is not None)
        )

    def check(self, cells: Sequence[Cell]) -> None:
        """What rows that are not made yet are given, before any work is done: the auto-encoder of ``vae``."""
        for cell in cells:
            if cell.method == "vae" and not self.run.has(self.place(cell)):
                train = self.pictures(cell)
                vae_preprocessor(self.settings(cell, train).vae, train.shape)
        if any(cell.method == "vae" for cell in cells):
            same = {"vae": self.scale.vae}
            check_same(self.run.stage("vae", lambda: same), same, self.run.folder)

    def data(self, name: str) -> ImageSource:
        """The images called ``name``, the same as when the run began."""
        if name not in self.loaded:
            found = images_of(name, self.scale, self.seed, held_out=self.held_out)
            self.loaded[name] = same_images(self.run, name, found)
        return self.loaded[name]

    def preprocessor(self, cell: Cell) -> tuple[nn.Module, float]:
        """What stands in front in a row, and the processor seconds that its training took."""
        data = self.pictures(cell)
        settings = self.settings(cell, data)
        reads_model = settings.objective is not None and settings.objective.needs_model
        encoder = self.foundations.of(cell) if reads_model else None
        folder = self.place_of_front(cell)
        with counted(folder / "seconds.json"), ExitStack() as student:
            if cell.method == "distil":  # its student's own part ends with the first phase
                student.enter_context(counted(folder / STUDENT_SECONDS, folder / "phase-1.safetensors"))

            def report(done: int, total: int, losses: dict[str, float]) -> None:
                self.progress(f"{cell.name}: train", done, total, words(losses))
                if done == total:
                    student.close()

            made, _ = train_preprocessor(
                data,
                self.scale.threat(cell),
                settings,
                encoder=encoder,
                checkpoint=folder / "checkpoint.safetensors",
                resume=True,
                report=report,
            )
        return made, float(read_json(folder / "seconds.json")["seconds"])

    def pictures(self, cell: Cell) -> LabelledImages:
        """Those that the row's preprocessor is trained on."""
        data = self.data(cell.trained_on or cell.data).train
        return data.limit(round(cell.share * len(data)), self.seed)

    def place_of_front(self, cell: Cell) -> Path:
        """The folder of the row's preprocessor."""
        settings = self.settings(cell, self.pictures(cell))
        reads_model = settings.objective is not None and settings.objective.needs_model
        own, eps = cell.trained_on or cell.data, self.scale.threat(cell).eps
        parts = [own, cell.method, f"{settings.chosen_weight:g}", f"{cell.share:g}", f"{eps:.3g}"]
        parts += [cell.data, cell.foundation] if reads_model else []
        return self.run.folder / "preprocessors" / "-".join(parts)

    def settings(self, cell: Cell, data: LabelledImages) -> PreprocessorSettings:
        """Of the row's preprocessor."""
        settings = self.scale.front(cell.trained_on or cell.data, data.shape)
        settings = replace(settings, weight=cell.weight)
        settings = replace(settings, method=cell.method)  # type: ignore[arg-type]
        return settings if self.scale.vae is None else replace(settings, vae=self.scale.vae)

    def whole(self, cell: Cell) -> tuple[Defended, float]:
        """The row's model with its head, and the processor seconds that the preprocessor took."""
        front, seconds = self.preprocessor(cell)
        return self.headed(front, self.foundations.of(cell), cell), seconds

    def headed(self, front: nn.Module, encoder: FrozenEncoder, cell: Cell) -> Defended:
        """``front`` before ``encoder``, and the head of ``cell`` trained behind both."""
        model, data = self.with_head(front, encoder, cell), self.data(cell.data).train
        if cell.head == "robust":
            place, clean = self.run.path("heads", f"{cell.name}.safetensors"), self.scale.head
            robust = replace(clean, epochs=self.scale.robust_epochs or clean.epochs)
            train_adversarial_head(
                model,
                data,
                self.scale.threat(cell),
                robust,
                device=self.device,
                mixed_precision=self.scale.defence.training.mixed_precision,
                checkpoint=place,
                report=lambda done, total, losses: self.progress(
                    f"{cell.name}: robust head", done, total, words(losses)
                ),
            )
        return model.eval()

    def with_head(self, front: nn.Module, encoder: nn.Module, cell: Cell) -> Defended:
        """``front`` before ``encoder``, and a linear head trained cleanly behind both on the images of ``cell``."""
        model = Defended(front, encoder, nn.Identity()).to(self.device)
        data = self.data(cell.data).train
        features = extract_features(model, data, device=self.device)
        model.head = train_head(features, data.labels, len(data.classes), self.scale.head).to(self.device)
        return model.eval()

    def row(self, cell: Cell) -> dict[str, Any]:
        """The row's figures, verdicts (as strings of 0 and 1) and costs."""

        def make() -> dict[str, Any]:
            front, seconds = self.preprocessor(cell)
            encoder, kept = self.foundations.of(cell), self.run.path("spent", f"head-{self.place(cell)}.json")
            with counted(kept):
                model = self.headed(front, encoder, cell)
            found = self.judged(model, cell, self.scale.threat(cell), cell.name)
            return {
                "figures": found.row(),
                "right": packed(found.correct),
                "seconds": seconds,
                "head seconds": spent(kept),
                "parameters": parameter_count(model.preprocessor),
                "foundation": parameter_count(model.encoder),
            }

        return dict(self.run.stage(self.place(cell), make))

    def place(self, cell: Cell) -> str:
        """The name of the row's stage."""
        return cell.name.replace(" ", "-").replace("%", "percent")

    def judged(self, model: nn.Module, cell: Cell, threat: Threat, name: str) -> Evaluation:
        """Verdicts on the test images of ``cell``; told as of ``name``."""
        data, measured = self.data(cell.data), f"passes-{module_facts(model)['weights']}"
        return judged(
            model,
            data,
            threat,
            self.scale.attacks,
            name=name,
            work=self.run.path("verdicts"),
            progress=self.progress,
            seed=self.seed,
            device=self.device,
            attack_dtype=passes_in(AUTO, self.run, measured, model, data.test.pair, self.device, None),
        )
