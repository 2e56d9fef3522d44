"""Does it transfer? Preprocessors made once, judged as they were trained and elsewhere: before another frozen model, at
other radii, in another norm. A linear head is trained anew behind every pair; nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.defence.controls import own_head, student_of
from heirloom.defence.traits import caveats
from heirloom.evaluation.columns import figures_of
from heirloom.models.defended import Defended
from heirloom.report.page import Section, Table, Text, page
from heirloom.results.schema import Proportion, Summary
from heirloom.threat import Threat
from heirloom_recipes.cropd.beside import ORIGINAL, STUDENT
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import Runner

METHODS = ("identity", "noise", "cropd", "adversarial-reconstruction", "stability", "distil")
L2_OF_LINF = 0.5 / (8 / 255 * math.sqrt(3 * 32 * 32))  # the field's radii on CIFAR-10, a pixel
HOW = (
    "Each preprocessor was trained once, in Linf, where it reads a model before the first one; a linear head is "
    "trained behind each pair. The L2 radius stands to the Linf radius as 0.5 to 8/255 on CIFAR-10, by the root of "
    "the number of pixels."
)


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
    """The recipe ``cropd/transfer``, on the images that ``--data`` names, the digits else."""
    runner = Runner(scale, out, **options)
    name = runner.scale.datasets[-1]
    images, own = runner.data(name), runner.scale.threat(Cell(name, "identity"))
    rows = []
    for method in METHODS:
        cell = Cell(name, method)
        front = cache(lambda cell=cell: runner.preprocessor(cell)[0])  # if any place is missing
        for of in (method, *((STUDENT, ORIGINAL) if method == "distil" else ())):
            places = {
                place.name: runner.run.stage(
                    f"transfer-{name}-{of}-{place.name}".replace(" ", "-"),
                    partial(_judged, runner, cell, place, front, of),
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
            "network": runner.scale.network,
            "another": runner.foundations.another_network,
            "radii": ", ".join(f"{place.name}: {place.threat(own, images.train.shape)}" for place in PLACES),
        },
        into="transfer",
        seconds=runner.run.seconds,
    )


def _judged(
    runner: Runner, cell: Cell, place: Elsewhere, front: Callable[[], nn.Module], of: str
) -> dict[str, Any] | None:
    """Figures of the row ``of`` in one place; None where there is no such model."""
    shape, own = runner.data(cell.data).train.shape, runner.scale.threat(cell)
    model = _whole(runner, cell, place, front, of)
    if model is None:
        return None
    name = cell.name if of == cell.method else f"{cell.name}, {of}"
    return figures_of(runner.judged(model, cell, place.threat(own, shape), f"{name}, {place.name}"))


def _whole(
    runner: Runner, cell: Cell, place: Elsewhere, front: Callable[[], nn.Module], of: str
) -> nn.Module | None:
    elsewhere = place.model == "another"
    if of == STUDENT:  # it has no frozen model behind it, and so none to change
        student = student_of(front())
        return None if elsewhere or student is None else runner.with_head(nn.Identity(), student, cell)
    encoder, head = (
        runner.foundations.another(cell.data) if elsewhere else (runner.foundations.of(cell), None)
    )
    if of != ORIGINAL:
        return runner.with_head(front(), encoder, cell)
    own = own_head(encoder, head, len(runner.data(cell.data).train.classes))
    return None if own is None else Defended(front(), encoder, own).to(runner.device).eval()


def transfer_page(summary: Summary) -> str:
    """The page as HTML."""
    return page(
        "Does a preprocessor transfer?",
        _lead(summary),
        [Section("transfer", [*printed(summary), Text(HOW)])],
        summary,
    )


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows: the worst case in every place, and clean accuracy before either model."""
    names = [place.name for place in PLACES]
    rows = [
        [
            row["defence"],
            *(_share(row["places"][name], "clean") for name in ("as trained", "another model")),
            *(_share(row["places"][name], "robust") for name in names),
        ]
        for row in summary.rows
    ]
    columns = ["in front", "clean", "clean, another model", *names]
    return [
        Table(
            "Accuracy in % [95 % interval over images]; from the third column on in the worst case. "
            + " ".join(caveats(row["defence"] for row in summary.rows)),
            columns,
            rows,
        )
    ]


def _lead(summary: Summary) -> str:
    preprocessors = [row for row in summary.rows if row["defence"] in METHODS]
    best = max(preprocessors, key=lambda row: row["places"]["as trained"]["robust"]["value"])
    there, elsewhere = (_share(best["places"][name], "robust") for name in ("as trained", "another model"))
    return f"'{best['defence']}', the best where it was trained ({there} %), gives {elsewhere} % before another model."


def _share(figures: dict[str, Any] | None, of: str) -> str:
    return "-" if figures is None else str(Proportion.model_validate(figures[of]))
