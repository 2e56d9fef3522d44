"""CRoPD's tables and Figure 2 by name, each ``(scale, out, **options) -> Summary`` with its page beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.pgd import pgd
from heirloom.defence.remarks import unpacked
from heirloom.report.figures import image_uri
from heirloom.results.schema import Summary
from heirloom.results.statistics import paired_difference
from heirloom.runtime.randomness import generator_of
from heirloom_recipes.cropd.beside import beside, controls
from heirloom_recipes.cropd.images import first_images
from heirloom_recipes.cropd.paper import COLUMNS, FINE_TUNED_DATA, HOURS, PARAMETERS, TABLES, TUNED, Cell
from heirloom_recipes.cropd.run import Runner
from heirloom_recipes.shards import leave_if_sharded, share_of

FIGURE_2 = ("vanilla", "arae", "cropd", "adversarial-reconstruction", "distil")
SHOWN, STEPS = 6, 20
AS_THEY_ARE = ("frozen", "rocl")  # foundations that all rows share


def table(name: str, scale: str, out: Path, **options: Any) -> Summary:
    """``table-1``, 2, 3, 8, 9, 10 or ``trade-off``: the paper's rows and ours, those that the scale covers."""
    runner = Runner(scale, out, **options)
    cells = [cell for cell in TABLES[name] if runner.covers(cell)]
    runner.check(cells)
    for cell in share_of(cells):
        runner.row(cell)
        beside(runner, cell)
    leave_if_sharded()
    rows, verdicts = list[dict[str, Any]](), list[dict[str, Any]]()
    for cell in cells:
        nothing = _nothing(cells, cell)
        base = None if nothing is None else runner.row(nothing)
        for control, kept in {"": runner.row(cell), **beside(runner, cell)}.items():
            rows.append(_figures(runner, cell, kept, control))
            verdicts.append({"defence": rows[-1]["defence"], "right": kept["right"]})
            is_nothing = nothing is cell and not control
            rows[-1]["gain"] = None if base is None or is_nothing else _gain(kept, base)
    return _finished(runner, name, cells, rows, {"defences": verdicts})


def _nothing(cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """The row of the same images and eps that no work was done for: a clean head, nothing in front."""
    there = (one for one in cells if (one.data, one.eps) == (cell.data, cell.eps))
    bare = (one for one in there if (one.method, one.head) == ("identity", "clean"))
    return next((one for one in bare if is_frozen(one)), None)


def is_frozen(cell: Cell) -> bool:
    """Whether the row's foundation is the one that preprocessors of its data stand before."""
    return cell.foundation == TUNED if cell.data in FINE_TUNED_DATA else cell.foundation in AS_THEY_ARE


def _gain(kept: dict[str, Any], nothing: dict[str, Any]) -> dict[str, Any]:
    """What a row has more in the worst case than nothing in front, on the same images."""
    worst = list(unpacked(kept["right"]))[-1]
    return paired_difference(*(unpacked(one["right"])[worst] for one in (kept, nothing))).model_dump()


def costs(scale: str, out: Path, **options: Any) -> Summary:
    """Tables 11 and 12: processor seconds of training, and parameters, of every method on one data set."""
    runner = Runner(scale, out, **options)
    cells = [cell for cell in TABLES["table-2"] if runner.covers(cell)]
    cells = [cell for cell in cells if cell.data == cells[0].data]
    runner.check(cells)
    rows = []
    for cell in cells:
        rows.append({"defence": cell.name, **_costs(runner.row(cell), runner.foundations.spent(cell))})
        for name, kept in beside(runner, cell).items():
            rows.append({"defence": f"{cell.name}, {name}", **_costs(kept, runner.foundations.spent(cell))})
    return _finished(runner, "costs", cells, rows, {"paper": {"hours": HOURS, "parameters": PARAMETERS}})


def _costs(kept: dict[str, Any], foundation: dict[str, float | None]) -> dict[str, Any]:
    """Of one row; the foundation's pre-training is shared by every row that has the same foundation."""
    return {
        "preprocessor, processor s": kept["seconds"],
        "head, processor s": kept.get("head seconds"),
        "fine-tuning, processor s": foundation["fine-tuning"],
        "foundation, processor s": foundation["foundation"],
        "parameters": kept["parameters"],
        "share of the foundation": kept["parameters"] / kept["foundation"],
    }


def figure_2(scale: str, out: Path, **options: Any) -> Summary:
    """What each preprocessor makes of clean images and of those that PGD-20 on the whole has found."""
    runner = Runner(scale, out, **options)
    covered = next((cell.data for cell in TABLES["table-2"] if runner.covers(cell)), None)
    cells, rows, drawn = [Cell(covered, method) for method in FIGURE_2 if covered is not None], [], {}
    for cell in cells:
        x, y = first_images(runner.data(cell.data), SHOWN)
        model, _ = runner.whole(cell)
        x_adv, right = _attacked(runner, model, cell, (x, y))
        made = {
            "image": x,
            "attacked": x_adv,
            "of the image": model.preprocessor(x),
            "of the attacked": model.preprocessor(x_adv),
        }
        drawn[cell.method] = {
            name: [image_uri(image.detach()) for image in images] for name, images in made.items()
        }
        errors = {
            name: float((made[name] - x).square().mean().detach())
            for name in ("of the image", "of the attacked")
        }
        rows.append(
            {"defence": cell.name, **{f"error {name}": error for name, error in errors.items()}, **right}
        )
        found = controls(runner, cell, model.preprocessor) if cell.method == "distil" else {}
        for name, control in found.items():
            said, blank = _attacked(runner, control, cell, (x, y))[1], dict.fromkeys(rows[-1])
            rows.append({**blank, "defence": f"{cell.name}, {name}", **said})
    return _finished(runner, "figure-2", cells, rows, {"examples": drawn})


def _attacked(
    runner: Runner, model: nn.Module, cell: Cell, pair: tuple[Tensor, Tensor]
) -> tuple[Tensor, dict[str, int]]:
    """What PGD-20 on the whole makes of the images, and how many are right without and with it."""
    x, y = pair
    generator = generator_of(runner.seed, "figure 2")
    x_adv = pgd(model, x, y, runner.scale.threat(cell), steps=STEPS, generator=generator)
    with torch.no_grad():
        right = [int((model(images).argmax(1) == y).sum()) for images in (x, x_adv)]
    return x_adv, {f"right of {len(y)}": right[0], f"right of {len(y)} attacked": right[1]}


def _figures(runner: Runner, cell: Cell, kept: dict[str, Any], control: str = "") -> dict[str, Any]:
    return {
        **{name: value for name, value in asdict(cell).items() if name != "paper"},
        "eps": runner.scale.threat(cell).eps,
        **({"method": control} if control else {}),
        "defence": f"{cell.name}, {control}" if control else cell.name,
        **kept["figures"],
        "seconds": kept["seconds"],
        "cost": _cost(runner, cell, kept["seconds"]),
        "paper": {
            name: None if value is None else value / 100
            for name, value in zip(COLUMNS, () if control else cell.paper, strict=False)
        },
    }


def _cost(runner: Runner, cell: Cell, seconds: float | None) -> float | None:
    """Processor seconds of what a row has for itself: what stands in front, and a foundation that was trained under
    attack or fine-tuned for it; not the frozen one, which all rows share. None: not counted.
    """
    if cell.foundation in AS_THEY_ARE:
        return seconds
    tuned = runner.foundations.is_tuned(cell)
    own = runner.foundations.spent(cell)["fine-tuning" if tuned else "foundation"]
    return None if own is None or seconds is None else seconds + own


def _finished(
    runner: Runner,
    name: str,
    cells: Sequence[Cell],
    rows: Sequence[dict[str, Any]],
    details: dict[str, Any] | None = None,
) -> Summary:
    s = runner.scale
    missing = [cell.name for cell in TABLES.get(name, ()) if not runner.covers(cell)]
    first = cells[0].data if cells else next(iter(s.sources))
    return runner.run.finish(
        "cropd",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=s.threat(cells[0]) if cells else None,
        data=runner.data(first).used() if cells else None,
        settings={
            "table": name,
            "scale": s.name,
            "attacks": ", ".join(s.attacks),
            "foundation": s.foundation or s.network,
            **({"foundation by RoCL": s.network} if any(c.foundation == "rocl" for c in cells) else {}),
            "images": ", ".join(f"{k} = {v}" for k, v in s.sources.items() if k in s.datasets),
            "eps": ", ".join(dict.fromkeys(f"{c.data}: {s.threat(c).eps:.4g}" for c in cells)),
            "defence": str(s.defence),
            **{f"defence on {name}": str(own) for name, own in s.own.items()},
        },
        details={"not covered": missing, **(details or {})},
        into=name,
        seconds=runner.run.seconds,
    )
