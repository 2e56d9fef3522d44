"""What the tables share, each made once and kept in one folder: networks of every kind and seed, and the representative
data sets made from their representations.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.evaluation.columns import words
from heirloom.features.job import build_split
from heirloom.features.pairing import Pairing, pair
from heirloom.features.steps import Built
from heirloom.heads.probe import with_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.networks.classifier import load_head
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import PretrainSettings
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.runtime.identity import deciding
from heirloom.threat import Threat
from heirloom_recipes.catalogue import until
from heirloom_recipes.features.scales import HUB_IDS, THREATS, Scale
from heirloom_recipes.same_images import same_images

KINDS = {"standard": "non-robust", "adversarial": "robust"}  # what the representations of such networks hold


class Laboratory:
    """Networks and data sets of one scale, data and seed under ``folder``.

    ``datasets``: the trainings of the sets that ``sources`` names, of all where it names none.
    """

    def __init__(
        self,
        scale: Scale,
        folder: Path,
        *,
        sources: dict[str, str],
        seed: int,
        device: str,
        progress: Progress = silent,
        minutes: float | None = None,
    ) -> None:
        unknown = sorted(set(sources) - set(HUB_IDS))
        require(not unknown, "data", f"NAME=SOURCE with a name of {', '.join(HUB_IDS)}", ", ".join(unknown))
        self.scale, self.seed, self.device = scale, seed, device
        self.sources = {**scale.sources, **sources}
        self.datasets = {
            name: scale.training[name] for name in scale.training if name in sources or not sources
        }
        self.loaded: dict[str, ImageSource] = {}
        self.run = Run(folder, self._facts(), resume=True)
        self.progress = until(minutes, self.run.counting(progress))

    @property
    def seeds(self) -> list[int]:
        return list(range(self.seed, self.seed + self.scale.seeds))

    def reference(self, seed: int) -> int:
        """The seed of the networks whose representations judge, or attack, those of ``seed``: the next one."""
        return self.seeds[(self.seeds.index(seed) + 1) % len(self.seeds)]

    def data(self, name: str) -> ImageSource:
        if name not in self.loaded:
            scale = self.scale
            found = load_images(
                self.sources[name], limit=scale.limit, limit_test=scale.limit_test, seed=self.seed
            )
            self.loaded[name] = same_images(self.run, name, found)
        return self.loaded[name]

    def threat(self, data: str) -> Threat:
        return THREATS[data]

    def network(self, data: str, training: str, seed: int, network: str | None = None) -> Path:
        """The folder of the run that trained it (``encoder/``, ``head.safetensors``, ``kept/``)."""
        settings = self._settings(data, training, seed, network)
        name = f"{data}-{training}-{settings.network}-{seed}"
        folder = self.run.path("networks", name)

        def made() -> dict[str, Any]:
            images, threat = self.data(data).train, self.threat(data)
            pretrain(
                images,
                threat,
                settings,
                folder,
                resume=True,
                report=lambda phase, done, total, losses: self.progress(name, done, total, words(losses)),
            )
            return {"network": name}

        self.run.stage(f"network-{name}", made)
        return folder

    def classifier(self, folder: Path) -> Defended:
        """Encoder and head of a training run or a kept epoch, ready to be judged."""
        head = load_head(folder / "encoder")
        assert head is not None  # these trainings are supervised
        return with_head(load_encoder(EncoderSettings(str(folder / "encoder"))), head).to(self.device)

    def representative(self, data: str, training: str, seed: int) -> tuple[Pairing, Built, LabelledImages]:
        """Test images under the representations of the network ``training``, ``seed``: the pairing, what was built, and
        the images that went in. Both kinds of a seed have the same originals and starts."""
        images = self.data(data).test
        images = images.select(torch.arange(min(self.scale.built, len(images))))
        settings = replace(self.scale.build, seed=seed)
        pairing = pair(images.labels, settings, "test")
        name = f"{data}-{training}-{seed}"
        work = self.run.path("sets", name)
        folder = self.network(data, training, seed)
        encoder = load_encoder(EncoderSettings(str(folder / "encoder"))).to(self.device)

        def told(stage: str, done: int, total: int, text: str) -> None:
            self.progress(f"{name}: inverted", done, total, text)

        return (
            pairing,
            build_split(encoder, images, pairing, settings, None, split="test", work=work, progress=told),
            images,
        )

    def _settings(self, data: str, training: str, seed: int, network: str | None) -> PretrainSettings:
        trainings = self.scale.training[data]
        chosen = trainings.standard if training == "standard" else trainings.adversarial
        return replace(
            chosen,
            network=network or chosen.network,
            training=replace(chosen.training, seed=seed, device=self.device),
        )

    def _facts(self) -> dict[str, Any]:
        """A folder of other settings is refused: its networks would be taken for this run's. The images are checked
        when they are read."""
        return {"scale": deciding(self.scale), "seed": self.seed}


def images_of(data: LabelledImages, label: int, most: int) -> Tensor:
    """At most ``most`` indices of images of the class ``label``, in order."""
    return (data.labels == label).nonzero().flatten()[:most]
