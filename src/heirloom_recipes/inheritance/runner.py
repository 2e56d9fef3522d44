"""What every recipe of the paper is made from: encoders once each, heads, verdicts.

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
from heirloom.pretraining.folder import take_over_clean_phase
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.files import read_json, read_tensors, write_json, write_tensors
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat
from heirloom_recipes.catalogue import until
from heirloom_recipes.inheritance.paper import EncoderKey, PaperRow
from heirloom_recipes.inheritance.scales import HUB_IDS, Scale, scale_settings
from heirloom_recipes.judging import judged
from heirloom_recipes.same_images import same_images

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
        self.loaded = dict[str, ImageSource]()
        self.run = Run(work, self._facts(), resume=True)
        self.progress = until(minutes, self.run.counting(progress))

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


def encoder_filters(runner: Runner, keys: Sequence[EncoderKey]) -> dict[str, tuple[Path, torch.Tensor]]:
    """First-layer filters of encoders, made where they are missing: name -> (run folder, filters)."""
    folders = {key.folder: runner.encoder(key) for key in keys}
    loaded = {name: load_encoder(EncoderSettings(str(path / "encoder"))) for name, path in folders.items()}
    return {name: (folders[name], first_layer(encoder)) for name, encoder in loaded.items()}
