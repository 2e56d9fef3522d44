"""The experiments as commands run them: sizes, progress, and one :class:`Summary` for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run, silent
from heirloom.runtime.errors import require
from heirloom.theory.sparse_coding.downstream import SIZE, Effort
from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.settings import SparseTraining
from heirloom_recipes.sparse_coding.cases import CASES, Case
from heirloom_recipes.sparse_coding.figure_4 import Figure4Setting, figure_4
from heirloom_recipes.sparse_coding.inherit import PRETRAIN_EPS, SHARES, check_asked, inherit
from heirloom_recipes.sparse_coding.lemma import lemma
from heirloom_recipes.sparse_coding.picked import picked
from heirloom_recipes.sparse_coding.purify import purify
from heirloom_recipes.sparse_coding.readings import chosen_readings, variants
from heirloom_recipes.sparse_coding.theorem import chosen_statements, theorem
from heirloom_recipes.sparse_coding.theorem_setting import TheoremSetting

Found = tuple[list[dict[str, Any]], dict[str, Any]]  # rows, and what the page draws
LABS = ("figure-4", "purify", "inherit", "lemma", "theorem")


@dataclass(frozen=True)
class Sizes:
    """How much to run. ``seeds`` counts training runs per eps; ``variant_repeats`` 0 leaves Figure 4's other
    readings out, ``readings`` picks among them and ``cases`` among those of ``purify``, by names or parts of
    them (:func:`picked`); ``steps`` None keeps each case's own number; ``task``: examples to fit a downstream
    head on, and to test it; ``effort``: that of the gate-aware attack.
    """

    figure: Figure4Setting = field(default_factory=Figure4Setting)
    variant_repeats: int = 5
    readings: str = ""
    seeds: int = 3
    inherit_seeds: int = 5
    builds: int = 10
    pretrain_eps: tuple[float, ...] = PRETRAIN_EPS
    shares: tuple[float, ...] = SHARES
    inputs: int = 300
    theorem: TheoremSetting = field(default_factory=TheoremSetting)
    steps: int | None = None
    cases: str = ""
    task: tuple[int, int] = SIZE
    effort: Effort = field(default_factory=Effort)

    def __post_init__(self) -> None:
        require(self.seeds >= 1 and self.inherit_seeds >= 1, "seeds", "at least 1", self.seeds)
        require(self.steps is None or self.steps >= 1, "steps", "at least 1", self.steps)
        for name, least in (("builds", 1), ("inputs", 1), ("variant_repeats", 0)):
            require(getattr(self, name) >= least, name, f"at least {least}", getattr(self, name))
        chosen_readings(self.readings)
        self.chosen()
        chosen_statements(self.theorem.statements)
        radii, shares = self.pretrain_eps, self.shares
        require(all(0 <= e < float("inf") for e in radii), "pretrain_eps", "at least 0 each", radii)
        require(all(0 <= share <= 1 for share in shares), "shares", "from 0 to 1 each", shares)

    def chosen(self) -> list[Case]:
        """The cases of ``purify`` that ``cases`` means (:func:`picked`); empty: all."""
        names = picked((case.name for case in CASES), self.cases, "cases")
        return [case for case in CASES if case.name in names]


def tiny() -> Sizes:
    """Sizes that show in seconds that everything runs; their figures mean nothing."""
    small = Figure4Setting(d=100, k=3, nodes=400, ms=(1, 5), samples=20, repeats=2)
    few: dict[str, Any] = {"seeds": 2, "inherit_seeds": 2, "builds": 2, "inputs": 50, "steps": 30}
    few |= {"pretrain_eps": (0.0, 0.3), "shares": (0.0, 1.0), "task": (1000, 200), "effort": Effort(5, 0)}
    data = SparseCoding(d=60, k=3, zeta=0.005)
    figure = replace(small, nodes=1000, ms=(1, 10), samples=60, repeats=1)
    down = SparseCoding(d=20, k=3, zeta=0.005)
    checks = TheoremSetting(
        data,
        nodes=240,
        ms=(1, 2, 4),
        inputs=40,
        slope_inputs=100,
        pairs=2000,
        figure=figure,
        lean=data,
        lean_nodes=120,
        down=down,
        down_nodes=100,
        fitted=400,
        plenty=1500,
        seeds=2,
    )
    cases = "contrastive, gate, lazy;square, relu"
    return Sizes(small, 1, theorem=checks, cases=cases, **few)


def run_labs(
    names: Sequence[str],
    sizes: Sizes,
    seed: int,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Run the experiments ``names`` into ``out``; every row says its ``lab``, and ``details`` has an entry per lab.

    Finished experiments (of ``purify``, finished trainings) are kept; ``resume`` goes on after them.
    """
    for name in names:
        require(name in LABS, "experiment", f"one of {', '.join(LABS)}", name)
    if "inherit" in names:
        check_asked(sizes.pretrain_eps, sizes.shares)
    facts = {"experiments": list(names), "sizes": asdict(sizes), "seed": seed}
    run = Run(out, facts, resume=resume)
    progress = run.counting(progress)
    found = {name: run.stage(name, partial(_lab, name, sizes, seed, progress, run)) for name in names}
    return run.finish(
        "sparse-coding",
        [row for part in found.values() for row in part["rows"]],
        seed=seed,
        settings={"experiments": ", ".join(names)} | sizes_of(names, sizes),
        details={name: part["details"] for name, part in found.items()},
    )


# which sizes decide an experiment
USED: dict[str, tuple[str, ...]] = {
    "figure-4": ("figure", "variant_repeats", "readings"),
    "purify": ("seeds", "steps", "cases", "task", "effort"),
    "inherit": ("inherit_seeds", "builds", "pretrain_eps", "shares", "steps", "task", "effort"),
    "lemma": ("figure", "inputs"),
    "theorem": ("theorem",),
}


def sizes_of(names: Sequence[str], sizes: Sizes) -> dict[str, str]:
    """What decided the experiments ``names``, as the summary's settings show it: a part's own sizes by their names."""
    every, found = asdict(sizes), dict[str, Any]()
    for field_name in dict.fromkeys(size for name in names for size in USED[name]):
        value = every[field_name]
        prefix = "theorem." if field_name == "theorem" else ""
        found |= {prefix + n: v for n, v in value.items()} if isinstance(value, dict) else {field_name: value}
    return {name: str(value) for name, value in found.items()}


def _lab(name: str, sizes: Sizes, seed: int, progress: Progress, run: Run) -> dict[str, Any]:
    started, processor = time.perf_counter(), time.process_time()
    rows, drawn = _RUN[name](sizes, seed, progress, run)
    spent = {
        "seconds": round(time.perf_counter() - started, 2),
        "processor_seconds": round(time.process_time() - processor, 2),  # of all threads: steady under load
    }
    return {"rows": rows, "details": drawn | spent}


def _figure_4(sizes: Sizes, seed: int, progress: Progress, run: Run) -> Found:
    setting = sizes.figure
    main = "fitted" if setting.is_fitted else "chosen"
    found = figure_4(setting, seed, variant=main, progress=lambda n, of: progress("figure-4", n, of, ""))
    rows = found.rows()
    if sizes.variant_repeats and main == "fitted":
        for name, other in variants(setting, sizes.variant_repeats, sizes.readings):
            say = f"figure-4, {name}"
            rows += figure_4(
                other,
                seed,
                variant=name,
                progress=lambda n, of, say=say: progress(say, n, of, ""),  # type: ignore[misc]
            ).rows()
    return rows, {"slopes": found.slopes()}


def _purify(sizes: Sizes, seed: int, progress: Progress, run: Run) -> Found:
    rows: list[dict[str, Any]] = []
    drawings: dict[str, Any] = {}
    for number, case in enumerate(sizes.chosen()):
        kept = run.stage(
            f"purify-{CASES.index(case)}", partial(_case, case, sizes, seed, progress, number == 0)
        )
        rows += kept["rows"]
        drawings[case.name] = kept["drawing"]
    return rows, {"cases": drawings}


def _case(case: Case, sizes: Sizes, seed: int, progress: Progress, matrices: bool) -> dict[str, Any]:
    setting = case.setting if sizes.steps is None else _shorter(case.setting, sizes.steps)
    done = purify(
        replace(case, setting=setting, trial=case.trial if sizes.steps is None else {}),
        range(seed, seed + sizes.seeds),
        lambda step, of, loss: progress(case.name, step, of, f"loss {loss:.3f}"),
        size=sizes.task,
        effort=sizes.effort,
    )
    return {
        "rows": done.rows(),
        "drawing": done.drawing(matrices=matrices) | {"seconds": round(done.seconds, 1)},
    }


def _shorter(setting: SparseTraining, steps: int) -> SparseTraining:
    return replace(setting, steps=steps, clean_steps=setting.clean_steps * steps // setting.steps)


def _inherit(sizes: Sizes, seed: int, progress: Progress, run: Run) -> Found:
    setting = SparseTraining() if sizes.steps is None else _shorter(SparseTraining(), sizes.steps)
    found = inherit(
        setting,
        range(seed, seed + sizes.inherit_seeds),
        sizes.builds,
        epsilons=sizes.pretrain_eps,
        shares=sizes.shares,
        size=sizes.task,
        effort=sizes.effort,
        progress=lambda step, of, loss: progress("inherit", step, of, f"loss {loss:.3f}"),
    )
    return found.rows(), {"points": found.points(), "c_b": setting.c_b}


def _lemma(sizes: Sizes, seed: int, progress: Progress, run: Run) -> Found:
    progress("lemma", 0, 1, "")
    found = lemma(sizes.figure, sizes.inputs, seed)
    progress("lemma", 1, 1, "")
    return found.rows(), {"slopes": found.slopes()}


def _theorem(sizes: Sizes, seed: int, progress: Progress, run: Run) -> Found:
    rows = theorem(sizes.theorem, seed, lambda done, of, name: progress("theorem", done, of, name))
    progress("theorem", 1, 1, "")
    return rows, {}


_RUN = {"figure-4": _figure_4, "purify": _purify, "inherit": _inherit, "lemma": _lemma, "theorem": _theorem}
