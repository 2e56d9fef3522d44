"""The rows that ``distil`` must stand beside in every table: its student alone, and the frozen model's own head. Made
of the row's preprocessor: nothing but the student's linear head is trained.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from heirloom.defence.controls import own_head, student_of
from heirloom.defence.remarks import packed
from heirloom.models.defended import Defended
from heirloom.models.preprocessor import parameter_count
from heirloom_recipes.cropd.paper import Cell
from heirloom_recipes.cropd.run import STUDENT_SECONDS, Runner
from heirloom_recipes.cropd.spent import spent

STUDENT, ORIGINAL = "student alone", "original head"


def beside(runner: Runner, cell: Cell) -> dict[str, dict[str, Any]]:
    """By the control's name what :meth:`Runner.row` keeps of a row, the student with its own seconds; empty for rows of
    other methods, and without ``original head`` where the foundation has none of these classes.
    """
    if cell.method != "distil":
        return {}

    def make() -> dict[str, Any]:
        front, seconds = runner.preprocessor(cell)
        return {
            name: _measured(runner, cell, name, model, seconds)
            for name, model in controls(runner, cell, front).items()
        }

    return dict(runner.run.stage(f"{runner.place(cell)}-beside", make))


def controls(runner: Runner, cell: Cell, front: nn.Module) -> dict[str, Defended]:
    """The models of these rows, of the ``front`` that ``distil`` made."""
    student, encoder = student_of(front), runner.foundations.of(cell)
    assert student is not None
    found = {STUDENT: runner.with_head(nn.Identity(), student, cell)}
    tuned = runner.foundations.is_tuned(cell)  # away from the features that its head was made for
    own = None if tuned else own_head(encoder, None, runner.data(cell.data).train.classes)
    if own is not None:
        found[ORIGINAL] = Defended(front, encoder, own).to(runner.device).eval()
    return found


def _measured(runner: Runner, cell: Cell, name: str, model: Defended, seconds: float) -> dict[str, Any]:
    found = runner.judged(model, cell, runner.scale.threat(cell), f"{cell.name}, {name}")
    trained, own = (model.encoder, True) if name == STUDENT else (model.preprocessor, False)
    return {
        "figures": found.row(),
        "right": packed(found.correct),
        "seconds": spent(runner.place_of_front(cell) / STUDENT_SECONDS) if own else seconds,
        "parameters": parameter_count(trained),
        "foundation": parameter_count(runner.foundations.of(cell)),
    }
