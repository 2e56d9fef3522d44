"""All recipes of ``heirloom reproduce``, by name; nothing is imported before it is run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from heirloom.runs import Progress

SCALES = ("smoke", "small", "gpu", "paper")


class OutOfTimeError(Exception):
    """The time given by ``minutes`` is over; what is done is kept."""


def until(minutes: float | None, progress: Progress) -> Progress:
    """``progress``, which raises :class:`OutOfTimeError` where it is told of unfinished work after ``minutes``."""
    if minutes is None:
        return progress
    deadline = time.monotonic() + 60 * minutes

    def told(stage: str, done: int, total: int, text: str) -> None:
        progress(stage, done, total, text)
        if done < total and time.monotonic() > deadline:
            raise OutOfTimeError

    return told


@dataclass(frozen=True)
class Recipe:
    """One table or figure of a paper.

    Attributes:
        name: ``inheritance/table-1``, say: the paper, then its table or figure. what: in a few words.
        makes: ``module:function``, called ``(scale, out, sources=, seed=, device=, progress=, minutes=, **options)``
            with the name after the slash first where ``takes_name``; returns a Summary and writes its page.
        tables: ``module:function``, Summary -> the tables that the terminal prints.
        options: what it takes of the command line besides, ``method`` say.
        scales: the sizes at which it runs.
    """

    name: str
    what: str
    makes: str
    tables: str
    takes_name: bool = False
    options: tuple[str, ...] = ()
    scales: tuple[str, ...] = SCALES

    @property
    def shards(self) -> bool:
        """Whether its rows or seeds can be made as independent jobs."""
        return self.makes in ("cropd.recipes:table", "inheritance.recipes:table")

    @property
    def reads_images(self) -> bool:
        """Whether ``--data`` means anything to it: drawings of a theory and planted features make their own."""
        return not self.makes.endswith("illustrations:figure") and self.name != "features/planted"

    def make(self, *arguments: Any, **options: Any) -> Any:
        first = (self.name.partition("/")[2],) if self.takes_name else ()
        return _load(self.makes)(*first, *arguments, **options)

    def printed(self, summary: Any) -> list[Any]:
        return list(_load(self.tables)(summary))


def _load(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    return getattr(import_module(f"heirloom_recipes.{module}"), function)


def _inheritance(name: str, what: str) -> Recipe:
    return Recipe(
        f"inheritance/{name}",
        what,
        "inheritance.recipes:table",
        "inheritance.page:printed",
        True,
        ("method", "width", "seeds"),
        ("smoke", "small", "medium", "gpu", "paper"),
    )


def _illustration(name: str, what: str, makes: str) -> Recipe:
    return Recipe(name, what, f"{makes}.illustrations:figure", "illustrations:printed", True)


def _filter_figure(number: int, what: str) -> Recipe:
    return Recipe(
        f"inheritance/figure-{number}",
        f"Figure {number}: first-layer filters, {what}",
        "inheritance.recipes:filter_figure",
        "inheritance.page:printed_filters",
        True,
        ("width",),
        ("smoke", "small", "medium", "gpu", "paper"),
    )


TRUST = ("trust_remote_code",)  # they may be given a foundation


def _cropd(name: str, what: str, function: str = "table") -> Recipe:
    makes = f"cropd.recipes:{function}"
    return Recipe(f"cropd/{name}", what, makes, "cropd.page:printed", function == "table", TRUST)


RECIPES = (
    _cropd("table-1", "two classes of CIFAR-10, clean and robust heads"),
    _cropd("table-2", "five data sets, each preprocessor"),
    _cropd("table-3", "preprocessors trained on other images"),
    _cropd("table-8", "against adversarial training with labels"),
    _cropd("table-9", "fewer training images"),
    _cropd("table-10", "before a foundation trained by RoCL"),
    _cropd("trade-off", "ours: clean accuracy against the worst case, every method, lambda and eps"),
    Recipe(
        "cropd/paintings",
        "ours: what a step towards a recognisable picture costs",
        "cropd.paintings:paintings",
        "cropd.paintings_page:printed",
        options=TRUST,
    ),
    Recipe(
        "cropd/transfer",
        "ours: preprocessors before another model, at other radii, in another norm",
        "cropd.transfer:transfer",
        "cropd.transfer_page:printed",
        options=TRUST,
    ),
    Recipe(
        "cropd/default",
        "ours: which method deserves to be the default, judged on held-out training images",
        "cropd.default:default",
        "cropd.default_page:printed",
        options=TRUST,
    ),
    _cropd("costs", "Tables 11 and 12: seconds and parameters", "costs"),
    _cropd("figure-2", "what each preprocessor makes of images", "figure_2"),
    _illustration("inheritance/figure-1", "Figure 1: the sparse coding model", "sparse_coding"),
    _illustration("inheritance/figure-2", "Figure 2: what an attack moves", "sparse_coding"),
    _illustration("inheritance/figure-3", "Figure 3: attacks on pairs", "sparse_coding"),
    _filter_figure(5, "supervised, CIFAR-10"),
    _filter_figure(6, "supervised, CIFAR-100"),
    _filter_figure(7, "contrastive, CIFAR-10"),
    _filter_figure(8, "contrastive, CIFAR-100"),
    _filter_figure(9, "contrastive, CIFAR-10, over the epochs"),
    _filter_figure(10, "7x7 stem"),
    _inheritance("table-1", "CIFAR-10, heads on clean and adversarial encoders"),
    _inheritance("table-2", "the same with encoders of three data sets"),
    _inheritance("table-4", "the 7x7 input layer"),
    _inheritance("table-5", "augmentation and adversarial training in contrastive learning"),
    Recipe(
        "inheritance/filters",
        "Figures 5 to 10: first-layer filters",
        "inheritance.recipes:filters",
        "inheritance.page:printed_filters",
        False,
        ("method", "width"),
        ("smoke", "small", "medium", "gpu", "paper"),
    ),
    Recipe(
        "inheritance/heads",
        "is the gap the head's or the encoder's? clean heads of other weight decays",
        "inheritance.heads:heads",
        "inheritance.heads:printed",
        False,
        ("method", "width"),
        ("smoke", "small", "medium", "gpu", "paper"),
    ),
    _illustration("features/figure-1", "Figure 1: the patch data", "patches"),
    _illustration("features/figure-2", "Figure 2: representatives and a perturbation", "patches"),
    Recipe(
        "features/table-1",
        "Table 1, Figures 4 and 5: what standard and adversarial training learn",
        "features.table_1:table_1",
        "features.page:printed",
    ),
    Recipe(
        "features/table-2",
        "Table 2: NRF-PGD and RF-PGD on separately trained judges",
        "features.table_2:table_2",
        "features.page:printed",
    ),
    Recipe(
        "features/transfer",
        "does NRF-PGD transfer between architectures better than PGD?",
        "features.transfer:transfer",
        "features.page:printed",
    ),
    Recipe(
        "features/planted",
        "planted robust and non-robust features, drawn as pixels: are they recovered?",
        "features.planted:planted",
        "features.page:printed",
    ),
    Recipe(
        "zoo",
        "small defended models of several data sets, side by side",
        "zoo.make:zoo",
        "zoo.page:printed",
        options=("only",),
        scales=("smoke", "small"),
    ),
)


def recipe_names() -> list[str]:
    return [recipe.name for recipe in RECIPES]


def recipe_of(name: str) -> Recipe:
    """The recipe called ``name``; :class:`heirloom.InputError` where there is none."""
    from heirloom.runtime.errors import reject

    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    reject("recipe", f"one of {', '.join(recipe_names())}", name)
