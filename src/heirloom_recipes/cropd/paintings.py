"""What does a step towards a recognisable picture cost? Painters behind one robust student, from features alone to
features beside a coarse picture, with a growing weight on likeness to the image; and the first of them, student and
all, tuned further by feature stability (FARE's loss) with a growing weight on the picture.

Each is judged by three things: how the whole stands under attack, how like the image its paintings are, and how well a
classifier that had no part in it (the reader, another network trained cleanly on the same images) can read them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.data.labelled import ImageSource
from heirloom.defence.controls import pretrained_head, student_of
from heirloom.defence.saved import DefendedModel
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.columns import figures_of, words
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import Preprocessor
from heirloom.objectives.distil import likeness
from heirloom.report.figures import image_uri
from heirloom.results.schema import Summary
from heirloom.results.statistics import proportion
from heirloom.runtime.choices import MixedPrecision
from heirloom.runtime.errors import require
from heirloom_recipes.cropd.images import first_images
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner

STEPS = {"smoke": 2, "small": 150, "gpu": 3000, "paper": 20_000}  # of each painter
TUNING = {"smoke": 2, "small": 150, "gpu": 6000, "paper": 40_000}  # of student and painter, tuned together
TUNING_RATE = 5e-4  # its learning rate: it starts from what is trained
SHOWN = 8


@dataclass(frozen=True)
class Painting:
    """One painter: ``share`` of the image's side that the coarse picture beside the features has (0: none), and the
    weight of likeness. ``reconstruction``: not None where student and painter, trained so, are both tuned further by
    feature stability: the weight of its second term, the squared error from the clean image.
    """

    share: float
    fidelity: float
    reconstruction: float | None = None

    @property
    def name(self) -> str:
        if self.reconstruction is not None:
            return f"all tuned by feature stability, reconstruction {self.reconstruction:g}"
        seen = f"features and 1/{round(1 / self.share)} of the side" if self.share else "features alone"
        return f"{seen}, likeness {self.fidelity:g}"

    @property
    def place(self) -> str:
        """Its name as a folder's."""
        return self.name.replace("/", "-").replace(",", "").replace(" ", "-")


GRID = (
    Painting(0, 0.0),
    Painting(0, 1.0),
    Painting(1 / 8, 1.0),
    Painting(1 / 4, 1.0),
    Painting(1 / 4, 10.0),
    Painting(1 / 2, 1.0),
    *(Painting(0, 0.0, weight) for weight in (1.0, 10.0, 100.0)),
)


def paintings(scale: str, out: Path, **options: Any) -> Summary:
    """The recipe ``cropd/paintings``. ``--data defence=FOLDER``: a saved ``distil`` whose student and frozen model are
    taken; else both are trained here. ``--data cifar10=SOURCE``: the images (unless told the scale's first, at small
    the digits).
    """
    runner = Runner(scale, out / "paintings", changes={"limit": None}, takes_defence=True, **options)
    name = runner.one_data_set
    images = runner.data(name)
    student, encoder, head = _parts(runner, name)
    other = runner.foundations.another(name)  # no painting is seen in its training
    reader = Defended(nn.Identity(), *other).to(runner.device).eval()
    rows, drawn = [], {}
    for painting in GRID:
        front = _painter(runner, name, painting, student, encoder, head)
        if painting.reconstruction is not None:
            front = _tuned(runner, name, painting, front, encoder)
        model = Defended(front, encoder, head).to(runner.device).eval()
        rows.append(runner.run.stage(painting.place, lambda m=model: _row(runner, name, m, reader)))  # type: ignore[misc]
        rows[-1] = {
            "defence": painting.name,
            "share": painting.share,
            "fidelity": painting.fidelity,
            "reconstruction": painting.reconstruction,
            **rows[-1],
        }
        drawn[painting.name] = _shown(front, images, runner.device)
    alone = Defended(nn.Identity(), student, head).to(runner.device).eval()
    bare = Defended(nn.Identity(), encoder, head).to(runner.device).eval()
    controls = {
        "student alone": runner.run.stage("student alone", lambda: _figures(runner, name, alone)),
        "nothing in front": runner.run.stage("nothing in front", lambda: _figures(runner, name, bare)),
    }
    return runner.run.finish(
        "cropd-paintings",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=runner.scale.threat(Cell(name, "distil")),
        data=images.used(),
        settings={
            "scale": scale,
            "attacks": ", ".join(runner.scale.attacks),
            "steps of a painter": STEPS[scale],
            "steps of tuning all": TUNING[scale],
            "reader": runner.foundations.another_network,
        },
        details={
            "controls": controls,
            "read as they are": _read(reader, images.test.images, images.test.labels, runner.device),
            "examples": {"image": _shown(nn.Identity(), images, runner.device), **drawn},
        },
        seconds=runner.run.seconds,
    )


def _parts(runner: Runner, name: str) -> tuple[nn.Module, FrozenEncoder, nn.Module]:
    """Robust student, frozen model and its head."""
    if runner.defence is not None:
        saved = DefendedModel.from_pretrained(runner.defence, trust_remote_code=runner.trust_remote_code)
        student = student_of(saved.preprocessor)
        require(student is not None, "defence", "a saved distil, which has a student", str(runner.defence))
        shape = runner.data(name).train.shape
        require(shape == saved.image_shape, "defence", f"made for images of {shape}", saved.image_shape)
        assert student is not None
        return student, saved.encoder, saved.head  # type: ignore[return-value]
    encoder = runner.foundations.of(Cell(name, "identity"))
    head = pretrained_head(encoder)
    assert head is not None  # heirloom pretrain leaves one
    front = _trained(
        runner, name, "student", encoder, head, DistilSettings(targets="head", width=_width(runner))
    )
    student = student_of(front)
    assert student is not None
    return student, encoder, head


def _width(runner: Runner) -> int:
    return runner.scale.defence.distil.width


def _painter(
    runner: Runner, name: str, painting: Painting, student: Any, encoder: FrozenEncoder, head: nn.Module
) -> Preprocessor:
    side = runner.data(name).train.shape[1]
    body = student.settings
    chosen = DistilSettings(
        student=body.student,
        width=body.width,
        activation=body.activation,
        targets="head",
        thumbnail=round(side * painting.share),
        fidelity=painting.fidelity,
    )
    place = replace(painting, reconstruction=None).place
    return _trained(runner, name, place, encoder, head, chosen, student)


def _tuned(
    runner: Runner, name: str, painting: Painting, start: Preprocessor, encoder: FrozenEncoder
) -> Preprocessor:
    """``start`` under feature stability, its student no longer frozen."""
    own, precision = runner.scale.defence, _precision(runner)
    training = replace(own.training, learning_rate=TUNING_RATE, mixed_precision=precision)
    settings = replace(own, method="feature-stability", weight=painting.reconstruction, training=training)
    tuned, _ = train_preprocessor(
        runner.data(name).train,
        runner.scale.threat(Cell(name, "distil")),
        replace(settings, steps=(TUNING[runner.scale.name],)),
        encoder=encoder,
        start=start,
        checkpoint=runner.run.path("painters", painting.place, "checkpoint.safetensors"),
        resume=True,
        report=lambda done, total, losses: runner.progress(
            f"{painting.place}: train", done, total, words(losses)
        ),
    )
    assert isinstance(tuned, Preprocessor)
    return tuned


def _precision(runner: Runner) -> MixedPrecision:
    return "no" if runner.scale.name == "smoke" else "bf16"


def _trained(
    runner: Runner,
    name: str,
    place: str,
    encoder: FrozenEncoder,
    head: nn.Module,
    chosen: DistilSettings,
    student: nn.Module | None = None,
) -> Preprocessor:
    steps = STEPS[runner.scale.name]
    base: PreprocessorSettings = replace(runner.scale.defence, method="distil", distil=chosen, weight=None)
    if student is not None or base.steps is not None:
        base = replace(base, steps=(steps, steps))
    training = replace(base.training, learning_rate=2e-3, mixed_precision=_precision(runner))
    made, _ = train_preprocessor(
        runner.data(name).train,
        runner.scale.threat(Cell(name, "distil")),
        replace(base, training=training),
        encoder=encoder,
        head=head,
        student=student,
        checkpoint=runner.run.path("painters", place, "checkpoint.safetensors"),
        resume=True,
        report=lambda done, total, losses: runner.progress(f"{place}: train", done, total, words(losses)),
    )
    assert isinstance(made, Preprocessor)
    return made


def _figures(runner: Runner, name: str, model: nn.Module) -> dict[str, Any]:
    cell = Cell(name, "distil")
    return figures_of(runner.judged(model, cell, runner.scale.threat(cell), name))


@torch.no_grad()
def _row(runner: Runner, name: str, model: Defended, reader: nn.Module) -> dict[str, Any]:
    test = runner.data(name).test
    made = torch.cat([model.preprocessor(part.to(runner.device)) for part in test.images.split(64)])
    return {
        **_figures(runner, name, model),
        "read": _read(reader, made, test.labels, runner.device),
        "unlikeness": float(likeness(made.cpu(), test.images)),
    }


@torch.no_grad()
def _read(reader: nn.Module, images: Tensor, labels: Tensor, device: str) -> dict[str, Any]:
    said = torch.cat([reader(part.to(device)).argmax(1).cpu() for part in images.split(64)])
    return proportion(said == labels).model_dump()


@torch.no_grad()
def _shown(front: nn.Module, images: ImageSource, device: str) -> list[str]:
    x, _ = first_images(images, SHOWN)
    return [image_uri(image) for image in front(x.to(device)).cpu()]
