"""Running the recipes: encoders once each, heads, verdicts, then the table beside the paper's.

Everything lies under one folder and every stage is kept once finished, so tables share encoders
(``encoders/<name>``), heads and verdicts (``rows/<name>``), and a command that was cut off goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heirloom.analysis.filters import first_layer
from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import words
from heirloom.heads.probe import Heads, probe, with_head
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.networks.classifier import load_head
from heirloom.pretraining.phases import pretrain, take_over_clean_phase
from heirloom.pretraining.settings import PretrainSettings
from heirloom.results.schema import Proportion, Summary
from heirloom.results.statistics import proportion
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.files import read_json, read_tensors, write_json, write_tensors
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat
from heirloom_recipes.catalogue import until
from heirloom_recipes.inheritance.orderings import check_orderings, shown
from heirloom_recipes.inheritance.paper import CONTROLS, TABLES, EncoderKey, PaperRow
from heirloom_recipes.inheritance.scales import HUB_IDS, Scale, scale_settings
from heirloom_recipes.judging import judged
from heirloom_recipes.same_images import same_images
from heirloom_recipes.shards import leave_if_sharded, share_of

THREAT = Threat("Linf", 8 / 255)


class Runner:
    """Makes encoders and rows of one scale in one folder, each once."""

    def __init__(
        self,
        scale: Scale,
        sources: dict[str, str],
        work: Path,
        *,
        seed: int,
        device: str,
        progress: Progress,
        minutes: float | None,
    ) -> None:
        unknown = sorted(set(sources) - set(HUB_IDS))
        require(not unknown, "data", f"NAME=SOURCE with a name of {', '.join(HUB_IDS)}", ", ".join(unknown))
        self.scale, self.work, self.seed, self.device = scale, work, seed, device
        self.sources = {**scale.sources, **sources}
        self.progress, self.loaded = until(minutes, progress), dict[str, ImageSource]()
        self.run = Run(work, self._facts(), resume=True)

    def covers(self, name: str) -> bool:
        """Whether this scale (or ``--data``) has the pre-training data called ``name``."""
        return name in self.scale.datasets or self.sources[name] != self.scale.sources[name]

    def data(self, name: str) -> ImageSource:
        if name not in self.loaded:
            scale = self.scale
            found = load_images(
                self.sources[name],
                image_size=scale.image_size,
                limit=scale.limit,
                limit_test=scale.limit_test,
                seed=self.seed,
            )
            self.loaded[name] = same_images(self.run, name, found)
        return self.loaded[name]

    def encoder(self, key: EncoderKey) -> Path:
        """The folder of the run that pre-trained ``key``."""
        folder = self.work / "encoders" / key.folder
        if not (folder / "finished.json").exists():
            clean = replace(key, adversarial=False)
            settings = self._settings(key)
            if key.adversarial:  # the two share their clean phase
                take_over_clean_phase(self.encoder(clean), folder)
            data = self.data(key.data).train
            with self._timed(folder / "seconds.json"):
                pretrain(
                    data,
                    THREAT,
                    settings,
                    folder,
                    resume=True,
                    report=lambda phase, done, total, losses: self.progress(
                        f"{key.folder}: {phase} phase", done, total, words(losses)
                    ),
                )
            write_json(folder / "finished.json", {"pretrain": key.pretrain})
        return folder

    def row(self, row: PaperRow) -> dict[str, torch.Tensor]:
        """Boolean verdicts (N,) of ``row`` on CIFAR-10's test images: ``clean``, attacks, ``robust``."""
        path = self.work / "rows" / f"{row.name}.safetensors"
        if not path.exists():
            frozen = load_encoder(EncoderSettings(str(self.encoder(row.encoder) / "encoder")))
            with self._timed(path.with_suffix(".seconds.json")):
                found = self.judged(with_head(frozen, self.head(row, frozen)), row.name)
            write_tensors(path, found)
        return read_tensors(path)[0]

    def judged(self, model: torch.nn.Module, name: str) -> dict[str, torch.Tensor]:
        """Boolean verdicts (N,) on CIFAR-10's test images: ``clean``, attacks, and the last again as ``robust``, these
        two on the scale's fewer images where it has a number of them; told as of ``name``."""
        data, attacks, fewer = self.data("cifar10"), self.scale.attacks, self.scale.worst_case_images

        def under(images: ImageSource, chosen: tuple[str, ...]) -> dict[str, torch.Tensor]:
            return judged(
                model,
                images,
                THREAT,
                chosen,
                name=name,
                work=self.work / "verdicts",
                progress=self.progress,
                seed=self.seed,
                device=self.device,
                attack_dtype=self.scale.attack_dtype,
            ).correct

        if fewer is None or len(attacks) < 2:
            found = under(data, attacks)
        else:
            found = under(data, attacks[:-1])
            found[attacks[-1]] = under(replace(data, test=data.test.limit(fewer)), attacks)[attacks[-1]]
        return {**found, "robust": found[attacks[-1]].clone()}

    def seconds(self, rows: Iterable[PaperRow] = (), keys: Iterable[EncoderKey] = ()) -> float:
        """Spent on these rows and encoders, the clean phases that they took over included, all commands
        together; what was lost to a kill -9 is not counted."""
        rows = tuple(rows)
        needed = {row.encoder for row in rows} | set(keys)
        needed |= {replace(key, adversarial=False) for key in needed}
        paths = [self.work / "encoders" / key.folder / "seconds.json" for key in needed]
        paths += [self.work / "rows" / f"{row.name}.seconds.json" for row in rows]
        return float(sum(read_json(path)["seconds"] for path in paths if path.exists()))

    def _settings(self, key: EncoderKey) -> PretrainSettings:
        chosen = self.scale.supervised if key.method == "supervised" else self.scale.contrastive
        more = chosen.adversarial_epochs if key.equal_epochs else 0
        return replace(
            chosen,
            network=self.scale.networks[key.stem],
            clean_epochs=chosen.clean_epochs + more,
            adversarial_epochs=chosen.adversarial_epochs if key.adversarial else 0,
            augmentation=chosen.augmentation if key.augmented else None,
        )

    def head(self, row: PaperRow, frozen: FrozenEncoder) -> torch.nn.Linear:
        """The head of ``row`` behind its encoder ``frozen``; trained once, or the encoder's own."""
        if row.downstream == "-":
            own = load_head(self.encoder(row.encoder) / "encoder")
            assert own is not None  # supervised pre-training has one
            return own
        folder = self.work / "heads" / row.name
        heads: Heads = probe(
            frozen,
            self.data("cifar10").train,
            THREAT if row.downstream == "adversarial" else None,
            self.scale.probe,
            folder,
            resume=True,
            report=lambda done, total, losses: self.progress(f"{row.name}: head", done, total, words(losses)),
        )
        head = heads.adversarial if row.downstream == "adversarial" else heads.clean
        assert head is not None
        return head

    @contextmanager
    def _timed(self, path: Path) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            before = read_json(path)["seconds"] if path.exists() else 0.0
            write_json(path, {"seconds": round(before + time.perf_counter() - started, 2)})

    def _facts(self) -> dict[str, Any]:
        """A folder of other settings is refused: its encoders would be taken for this run's."""
        return {"scale": deciding(replace(self.scale, sources={})), "seed": self.seed}


def reproduce_table(
    table: str, scale: str, out: Path, *, method: str | None = None, **options: Any
) -> Summary:
    """Run one table at one scale; ``out/<table>`` gets summary.json and report.html; the work is shared.

    Args:
        method: ``supervised`` or ``contrastive``: leave out the rows pre-trained otherwise.
        options: of :func:`make_runner`.

    Raises:
        OutOfTimeError: after ``minutes``; the same call again goes on.
    """
    runner = make_runner(scale, out, **options)
    rows, missing = rows_of(runner, table, method)
    for row in share_of(rows):
        runner.row(row)
    leave_if_sharded()
    found = {row.name: runner.row(row) for row in rows}
    orderings = check_orderings(rows, found)
    return runner.run.finish(
        "inheritance",
        [_figures(row, found[row.name]) for row in rows],
        seed=runner.seed,
        device=runner.device,
        threat=THREAT,
        data=runner.data("cifar10").used(),
        settings=shown_settings(runner, table),
        details={
            "table": table,
            "orderings": orderings,
            "not covered": [shown(row) for row in missing],
            "constant": constant_classifier(runner.data("cifar10")),
        },
        into=table,
        seconds=max(runner.seconds(rows), runner.run.seconds),
    )


def rows_of(
    runner: Runner, table: str, method: str | None
) -> tuple[tuple[PaperRow, ...], tuple[PaperRow, ...]]:
    """(the rows of ``table`` that the run makes, those that it has no images for or that ``method`` leaves out)."""
    wanted = TABLES[table] + (CONTROLS if table == "table-1" and runner.scale.controls else ())
    made = tuple(
        row for row in wanted if runner.covers(row.encoder.data) and method in (None, row.encoder.method)
    )
    return made, tuple(row for row in wanted if row not in made)


def encoder_filters(runner: Runner, keys: Sequence[EncoderKey]) -> dict[str, tuple[Path, torch.Tensor]]:
    """First-layer filters of encoders, made where they are missing: name -> (run folder, filters)."""
    folders = {key.folder: runner.encoder(key) for key in keys}
    loaded = {name: load_encoder(EncoderSettings(str(path / "encoder"))) for name, path in folders.items()}
    return {name: (folders[name], first_layer(encoder)) for name, encoder in loaded.items()}


def constant_classifier(data: ImageSource) -> Proportion:
    """Accuracy on the test images, attacked or not, of a classifier that always says the training images' most
    frequent class: what any figure has to exceed to mean something."""
    return proportion(data.test.labels == data.train.labels.mode().values)


def make_runner(
    scale: str,
    out: Path,
    *,
    sources: dict[str, str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
    minutes: float | None = None,
    width: int | None = None,
) -> Runner:
    """The runner of one scale, its settings seeded."""
    settings = scale_settings(scale, seed, device, width)  # type: ignore[arg-type]
    return Runner(settings, sources or {}, out, seed=seed, device=device, progress=progress, minutes=minutes)


def row_identity(row: PaperRow) -> dict[str, Any]:
    """What tells a row of a summary from the others."""
    key = row.encoder
    return {
        "pretrain": key.pretrain,
        "downstream": row.downstream,
        "pretrain_data": key.data,
        "stem": key.stem,
        "augmentation": key.augmented,
        "equal_epochs": key.equal_epochs,
    }


def _figures(row: PaperRow, correct: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {
        **row_identity(row),
        **{name: proportion(verdicts) for name, verdicts in correct.items()},
        "paper": {"clean": row.clean, "robust": row.robust},
    }


def shown_settings(runner: Runner, table: str) -> dict[str, Any]:
    scale = runner.scale
    return {
        "table": table,
        "scale": scale.name,
        "attacks": ", ".join(scale.attacks),
        **({"attack_dtype": scale.attack_dtype} if scale.attack_dtype else {}),
        **({"images of the last attack": scale.worst_case_images} if scale.worst_case_images else {}),
        "pre-training data": ", ".join(f"{name} = {runner.sources[name]}" for name in runner.loaded),
        "limit": scale.limit,
        "limit_test": scale.limit_test,
        "networks": str(scale.networks),
        "supervised": str(scale.supervised),
        "contrastive": str(scale.contrastive),
        "heads": str(scale.probe),
    }
