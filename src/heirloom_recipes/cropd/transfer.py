"""Does it transfer? Preprocessors made once, judged as they were trained and elsewhere: before another frozen model, at
other radii, in another norm. A linear head is trained anew behind every pair; nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.defence.controls import own_head, student_of
from heirloom.defence.saved import DefendedModel
from heirloom.evaluation.columns import figures_of
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import Summary
from heirloom.runtime.errors import require
from heirloom.threat import Threat
from heirloom_recipes.cropd.beside import ORIGINAL, STUDENT
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner

METHODS = ("identity", "noise", "cropd", "adversarial-reconstruction", "stability", "distil")
L2_OF_LINF = 0.5 / (8 / 255 * math.sqrt(3 * 32 * 32))  # the field's radii on CIFAR-10, a pixel


@dataclass(frozen=True)
class Elsewhere:
    """Where a preprocessor is judged: ``model`` is ``own`` or ``another``; ``radii`` of its training."""

    name: str
    model: str = "own"
    norm: str = "Linf"
    radii: float = 1.0

    def threat(self, own: Threat, shape: tuple[int, int, int]) -> Threat:
        eps = self.radii * own.eps
        return (
            Threat("L2", eps * L2_OF_LINF * math.sqrt(math.prod(shape)))
            if self.norm == "L2"
            else replace(own, eps=eps)
        )


PLACES = (
    Elsewhere("as trained"),
    Elsewhere("another model", model="another"),
    Elsewhere("half the radius", radii=0.5),
    Elsewhere("1.5 radii", radii=1.5),
    Elsewhere("L2", norm="L2"),
)


def transfer(scale: str, out: Path, **options: Any) -> Summary:
    """The recipe ``cropd/transfer``, on the images that ``--data`` names, else the scale's first (``small``: digits).

    ``--data defence=FOLDER``: a saved defence in place of the methods, judged beside nothing in front; its frozen model
    is the first one, and "as trained" the threat that it was made for, on the images named beside it.
    """
    is_given = "defence" in (options.get("sources") or {})
    changes = {"limit": None} if is_given else {}  # the other model is worth all images, as for paintings
    place = out / "transfer" if is_given else out
    runner = Runner(scale, place, changes=changes, takes_defence=True, **options)
    name = runner.one_data_set
    images, saved = runner.data(name), _saved(runner, name)
    own = runner.scale.threat(Cell(name, "identity")) if saved is None else _threat(saved)
    methods = METHODS if saved is None else tuple(dict.fromkeys(("identity", saved.defence["method"])))
    rows = []
    for method in methods:
        subject = Subject(runner, Cell(name, method), saved)
        whole = cache(subject.whole)  # places share two models
        for of in (method, *((STUDENT, ORIGINAL) if method == "distil" else ())):
            places = {
                place.name: runner.run.stage(
                    f"transfer-{name}-{of}-{place.name}".replace(" ", "-"),
                    partial(_judged, subject, whole, place, place.threat(own, images.train.shape), of),
                )
                for place in PLACES
            }
            if places["as trained"] is not None:
                rows.append({"defence": of, "places": places})
    return runner.run.finish(
        "cropd-transfer",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=own,
        data=images.used(),
        settings={
            "scale": scale,
            "attacks": ", ".join(runner.scale.attacks),
            "network": runner.scale.network if saved is None else "the saved defence's",
            "another": runner.foundations.another_network,
            "radii": ", ".join(f"{place.name}: {place.threat(own, images.train.shape)}" for place in PLACES),
        },
        into="" if is_given else "transfer",
        seconds=runner.run.seconds,
    )


def _saved(runner: Runner, name: str) -> DefendedModel | None:
    """The defence that ``--data`` named, None where it named none."""
    if runner.defence is None:
        return None
    saved = DefendedModel.from_pretrained(runner.defence, trust_remote_code=runner.trust_remote_code)
    shape = runner.data(name).train.shape
    require(shape == saved.image_shape, "defence", f"made for images of {shape}", saved.image_shape)
    return saved


def _threat(saved: DefendedModel) -> Threat:
    told = saved.defence["threat"]
    return Threat(told["norm"], told["eps"])


@dataclass(frozen=True)
class Subject:
    """What stands in front in one row, before which first model: made here, or ``saved``."""

    runner: Runner
    cell: Cell
    saved: DefendedModel | None

    @cached_property
    def front(self) -> nn.Module:
        """The preprocessor; made when any place is missing."""
        if self.saved is None:
            return self.runner.preprocessor(self.cell)[0]
        return self.saved.preprocessor if self.cell.method != "identity" else nn.Identity()

    def model(self, elsewhere: bool) -> tuple[FrozenEncoder, nn.Module | None]:
        """A frozen model, the first or another, and its own head where that is no linear layer saved beside it."""
        if elsewhere:
            return self.runner.foundations.another(self.cell.data)
        if self.saved is None:
            return self.runner.foundations.of(self.cell), None
        encoder: Any = self.saved.encoder
        return encoder, self.saved.head if encoder.settings.pooling == "logits" else None

    def whole(self, of: str, elsewhere: bool) -> nn.Module | None:
        """The row ``of`` before either model; None where there is no such."""
        runner, cell = self.runner, self.cell
        if of == STUDENT:  # it has no frozen model behind it, and so none to change
            student = student_of(self.front)
            return None if elsewhere or student is None else runner.with_head(nn.Identity(), student, cell)
        encoder, head = self.model(elsewhere)
        if of != ORIGINAL:
            return runner.with_head(self.front, encoder, cell)
        own = own_head(encoder, head, runner.data(cell.data).train.classes)
        return None if own is None else Defended(self.front, encoder, own).to(runner.device).eval()


def _judged(
    subject: Subject,
    whole: Callable[[str, bool], nn.Module | None],
    place: Elsewhere,
    threat: Threat,
    of: str,
) -> dict[str, Any] | None:
    """Figures of the row ``of`` in one place; None where there is no such model."""
    cell, model = subject.cell, whole(of, place.model == "another")
    if model is None:
        return None
    name = cell.name if of == cell.method else f"{cell.name}, {of}"
    return figures_of(subject.runner.judged(model, cell, threat, f"{name}, {place.name}"))
