"""Which page draws which kind of result, so that any ``summary.json`` can be drawn again to the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from heirloom.results.schema import Summary
from heirloom.runtime.errors import require
from heirloom.runtime.files import write_text

# by name, so that the drawing of one kind does not import the others' jobs
PAGES: dict[str, str] = {
    "defence": "heirloom.defence.page:defence_page",
    "evaluation": "heirloom.evaluation.page:evaluation_page",
    "pretraining": "heirloom.pretraining.page:pretrain_page",
    "certification": "heirloom.evaluation.certify_job:certify_page",
    "leaderboard": "heirloom.evaluation.leaderboard:leaderboard_page",
    "probe": "heirloom.heads.page:probe_page",
    "inspection": "heirloom.inspection.page:inspect_page",
    "features": "heirloom.features.page:features_page",
    "feature-learning": "heirloom.features.measure:feature_learning_page",
    "features-recipe": "heirloom_recipes.features.page:recipe_page",
    "inheritance": "heirloom_recipes.inheritance.page:inheritance_page",
    "illustration": "heirloom_recipes.illustrations:illustration_page",
    "inheritance-heads": "heirloom_recipes.inheritance.heads:heads_page",
    "cropd": "heirloom_recipes.cropd.page:cropd_page",
    "cropd-bound": "heirloom_recipes.cropd.bound_page:bound_page",
    "cropd-default": "heirloom_recipes.cropd.default_page:default_page",
    "cropd-paintings": "heirloom_recipes.cropd.paintings_page:paintings_page",
    "cropd-transfer": "heirloom_recipes.cropd.transfer_page:transfer_page",
    "sparse-coding": "heirloom_recipes.sparse_coding.page:sparse_coding_page",
    "zoo": "heirloom_recipes.zoo.page:zoo_page",
    "patches": "heirloom_recipes.patches.experiments:patches_page",
}


def draw(summary: Summary, folder: Path) -> Path:
    """Write ``folder/report.html`` from ``summary`` alone."""
    require(summary.kind in PAGES, "kind", f"one of {', '.join(PAGES)}", summary.kind)
    module, _, name = PAGES[summary.kind].partition(":")
    page: Callable[[Summary], str] = getattr(import_module(module), name)
    path = folder / "report.html"
    write_text(path, page(summary))
    return path
