"""The published tables of CRoPD (Liu, Huang and Xing, arXiv 2504.10850): which rows they have, and their figures in %.

A figure that the paper does not give is None. Columns: natural, PGD-10, PGD-20, AutoAttack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

COLUMNS = ("clean", "pgd-10", "pgd-20", "autoattack")
Figures = tuple[float | None, ...]


@dataclass(frozen=True)
class Cell:
    """One row of a table: what stands in front of which model, made and judged on which images.

    Attributes:
        data: images of the head and of the test. trained_on: those of the preprocessor, where they are others.
        method, weight: the preprocessor, and lambda where the table says it.
        foundation: ``frozen`` (pre-trained cleanly), ``rocl`` (contrastive under attack, trained here), ``adversarial``
            (trained under attack with labels: a tick under "Robust"; where the foundation is given, that one,
            fine-tuned under attack), ``encoder only`` (Table 8: always trained here under attack, no foundation in it),
            ``fine-tuned`` (the frozen one, cleanly with labels: a tick under "Clean", and what all rows of CIFAR-100
            and SVHN stand before), ``lora`` (by low-rank adapters), ``lora under attack``; ``rocl fine-tuned``, ``rocl
            fine-tuned under attack``: RoCL's, cleanly and under attack.
        head: ``clean`` or ``robust``. share: of the training images that the preprocessor gets.
        eps: radius of training and test; None: the scale's for these images.
        paper: the published figures, in the order of ``COLUMNS``; empty: the row is ours.
    """

    data: str
    method: str
    paper: Figures = ()
    weight: float | None = None
    head: str = "clean"
    foundation: str = "frozen"
    trained_on: str | None = None
    share: float = 1.0
    eps: float | None = None

    @property
    def name(self) -> str:
        """For people, and for the files that keep it."""
        parts = [self.data, self.method]
        parts += [f"lambda {self.weight:g}"] if self.weight is not None else []
        parts += [f"from {self.trained_on}"] if self.trained_on else []
        parts += [f"eps {self.eps:g}"] if self.eps else []
        parts += [f"{100 * self.share:g} % of the images"] if self.share < 1 else []
        parts += [self.foundation] if self.foundation != "frozen" else []
        parts += [f"{self.head} head"] if self.head != "clean" else []
        return ", ".join(parts)


# ours beside every table of robustness: rivals, controls, and filters that people really use (attacked by BPDA)
ADVERSARIAL, TUNED = "adversarial", "fine-tuned"  # foundations of the rivals that need labels
ENCODER_ONLY, TUNED_ROCL = "encoder only", "rocl fine-tuned"
FINE_TUNED_DATA = ("cifar100", "svhn")  # Appendix A: there the foundation is fine-tuned cleanly, in every row
RIVALS = (
    "noise",
    "adversarial-reconstruction",
    "stability",
    "feature-stability",
    "distil",
    "jpeg",
    "bit-depth",
    "median",
)
FILTERS = ("jpeg", "bit-depth", "median")
_TABLE_1 = {
    "clean": {
        ("identity", None): (99.54, 32.78, 19.14, 2.11),
        ("vae", None): (94.71, 57.23, 46.45, 34.78),
        ("vanilla", None): (99.31, 34.10, 22.09, 7.87),
        ("arae", None): (99.20, 46.84, 36.22, 70.62),
        ("cropd", 0.1): (99.00, 45.57, 34.65, 19.48),
        ("cropd", 1.0): (96.81, 82.04, 77.42, 87.06),
        ("cropd", 10.0): (96.66, 84.60, 80.28, 90.56),
    },
    "robust": {
        ("identity", None): (97.28, 73.46, 65.76, 45.28),
        ("vae", None): (92.80, 71.47, 62.54, 56.03),
        ("vanilla", None): (97.05, 73.92, 66.84, 55.45),
        ("arae", None): (97.29, 78.83, 73.16, 81.78),
        ("cropd", 0.1): (97.30, 77.07, 71.10, 63.90),
        ("cropd", 1.0): (96.31, 88.00, 85.64, 91.80),
        ("cropd", 10.0): (96.41, 89.04, 87.03, 93.39),
    },
}
TABLE_1 = (
    *(
        Cell("cifar2", method, figures, weight, head)
        for head, rows in _TABLE_1.items()
        for (method, weight), figures in rows.items()
    ),
    Cell("cifar2", "identity", (98.44, 43.11, 33.55, 8.38), foundation="lora"),
    Cell("cifar2", "identity", (97.54, 65.50, 55.96, 28.18), head="robust", foundation="lora under attack"),
    Cell("cifar2", "identity", foundation="lora under attack"),
    Cell("cifar2", "identity", (99.40, 70.13, 64.45, 21.02), foundation=TUNED),
    Cell("cifar2", "identity", foundation=ADVERSARIAL),
    Cell("cifar2", "identity", (99.30, 95.96, 95.39, 96.41), head="robust", foundation=ADVERSARIAL),
)
_TABLE_2 = {  # lambda is 10 for CIFAR-10 and Imagenette, 1 for SVHN and CIFAR-100; Tiny-ImageNet's is not told
    "cifar10": (
        10.0,
        (91.56, 2.83, 1.19, 5.08),
        (66.62, 14.10, 7.70, 15.27),
        (90.93, 10.04, 4.95, 6.93),
        (87.96, 18.38, 7.73, 13.44),
        (79.31, 47.99, 40.31, 66.05),
    ),
    "imagenette": (
        10.0,
        (96.89, 30.97, 21.57, 1.69),
        (96.57, 59.91, 45.31, 13.03),
        (92.30, 54.55, 47.88, 30.62),
        (93.32, 57.32, 53.69, 34.41),
        (83.84, 58.15, 54.80, 60.68),
    ),
    "svhn": (
        1.0,
        (99.85, 33.60, 30.33),
        (88.09, 14.17, 8.27),
        (99.79, 93.43, 67.79),
        (99.21, 59.08, 43.32),
        (99.78, 95.81, 95.22),
    ),
    "cifar100": (
        1.0,
        (81.11, 6.15, 4.39, 9.79),
        (44.21, 6.67, 3.82, 13.76),
        (80.09, 58.18, 55.94, 18.48),
        (76.02, 50.28, 47.86, 23.54),
        (78.89, 56.82, 54.17, 18.25),
    ),
    "tiny-imagenet": (
        None,
        (67.20, 8.39, 7.13),
        (54.43, 15.42, 9.97),
        (67.23, 13.07, 10.70),
        (67.34, 19.82, 16.64),
        (65.84, 22.16, 18.73),
    ),
}
_METHODS = ("identity", "vae", "vanilla", "arae", "cropd")
_TABLE_2_LORA = {"cifar10": (88.10, 3.90, 1.78), "imagenette": (96.97, 33.28, 21.43)}


def _table_2() -> tuple[Cell, ...]:
    cells = []
    for data, (weight, *rows) in _TABLE_2.items():
        before, other = (TUNED, "frozen") if data in FINE_TUNED_DATA else ("frozen", TUNED)
        for method, figures in zip(_METHODS, rows, strict=True):
            own = weight if method == "cropd" else None
            cells.append(Cell(data, method, figures, own, foundation=before))
        cells += [Cell(data, rival, foundation=before) for rival in RIVALS]
        cells.append(Cell(data, "identity", _TABLE_2_LORA.get(data, ()), foundation="lora"))
        cells.append(Cell(data, "identity", foundation="lora under attack"))
        cells.append(Cell(data, "identity", foundation=other))
        cells.append(Cell(data, "identity", foundation=ADVERSARIAL))
    for data in ("mnist", "fashion"):  # not the paper's: what a small machine can do
        cells += [Cell(data, method, (), 10.0 if method == "cropd" else None) for method in _METHODS]
        cells += [Cell(data, rival) for rival in RIVALS]
        cells.append(Cell(data, "identity", foundation=ADVERSARIAL))
    return tuple(cells)


def _rivals_from(data: str, other: str, before: str = "frozen") -> tuple[Cell, ...]:
    """Ours beside preprocessors trained on other images, in front of the foundation ``before``; filters are trained
    on none.
    """
    trained = (
        Cell(data, rival, trained_on=None if rival in FILTERS else other, foundation=before)
        for rival in RIVALS
    )
    return (*trained, Cell(data, "identity", foundation=ADVERSARIAL))


TABLES: dict[str, tuple[Cell, ...]] = {
    "table-1": (*TABLE_1, *(Cell("cifar2", rival) for rival in RIVALS)),
    "table-2": _table_2(),
    "table-3": (
        Cell("cifar100", "identity", (81.11, 6.15, 4.39), foundation=TUNED),
        Cell("cifar100", "arae", (75.62, 49.38, 46.03), foundation=TUNED, trained_on="cifar10"),
        Cell("cifar100", "cropd", (78.43, 56.41, 55.16), 1.0, foundation=TUNED, trained_on="cifar10"),
        Cell("cifar10", "identity", (91.56, 2.83, 1.19)),
        Cell("cifar10", "arae", (88.04, 13.34, 4.73), trained_on="cifar100"),
        Cell("cifar10", "cropd", (86.46, 21.29, 10.84), 6.0, trained_on="cifar100"),
        *_rivals_from("cifar100", "cifar10", TUNED),
        *_rivals_from("cifar10", "cifar100"),
    ),
    "table-8": (
        Cell("cifar10", "identity", (65.58, 28.08, 25.61), foundation=ENCODER_ONLY),
        Cell("cifar10", "cropd", (79.31, 47.99, 40.31), 10.0),
        *(Cell("cifar10", rival) for rival in RIVALS),
        Cell("imagenette", "identity", (66.09, 41.95, 41.57), foundation=ENCODER_ONLY),
        Cell("imagenette", "cropd", (83.84, 58.15, 54.80), 10.0),
        *(Cell("imagenette", rival) for rival in RIVALS),
    ),
    "table-9": (
        Cell("cifar10", "cropd", (79.28, 11.92, 8.43), 0.15, share=0.1),
        Cell("cifar10", "cropd", (79.81, 16.01, 9.98), 1.0, share=0.2),
        Cell("cifar10", "cropd", (81.85, 25.75, 14.33), 10.0, share=0.5),
        Cell("cifar10", "cropd", (79.31, 47.99, 40.31), 10.0),
        *(
            Cell("cifar10", rival, share=share)
            for rival in ("noise", "adversarial-reconstruction", "stability", "distil")
            for share in (0.1, 0.2, 0.5, 1.0)
        ),
        Cell("cifar10", "identity"),
        *(Cell("cifar10", name) for name in FILTERS),
    ),
    "table-10": (
        Cell("cifar2", "identity", (98.41, 1.40, 0.74), foundation="rocl"),
        Cell("cifar2", "vanilla", (98.31, 1.00, 0.35), foundation="rocl"),
        Cell("cifar2", "arae", (92.56, 32.83, 27.11), foundation="rocl"),
        Cell("cifar2", "cropd", (98.26, 2.61, 1.40), 0.1, foundation="rocl"),
        Cell("cifar2", "cropd", (95.05, 75.98, 70.42), 1.0, foundation="rocl"),
        Cell("cifar2", "cropd", (95.16, 75.27, 71.60), 10.0, foundation="rocl"),
        Cell("cifar2", "identity", (98.77, 0.21, 0.00), head="robust", foundation="rocl"),
        Cell("cifar2", "vanilla", (96.08, 9.15, 5.04), head="robust", foundation="rocl"),
        Cell("cifar2", "arae", (89.67, 50.38, 45.41), head="robust", foundation="rocl"),
        Cell("cifar2", "cropd", (96.34, 13.83, 11.37), 0.1, "robust", "rocl"),
        Cell("cifar2", "cropd", (94.62, 79.48, 75.66), 1.0, "robust", "rocl"),
        Cell("cifar2", "cropd", (94.91, 79.59, 76.64), 10.0, "robust", "rocl"),
        Cell("cifar2", "identity", (98.77, 0.21, 0.00), foundation=TUNED_ROCL),
        Cell(
            "cifar2",
            "identity",
            (97.66, 76.51, 71.83),
            head="robust",
            foundation=f"{TUNED_ROCL} under attack",
        ),
        *(Cell("cifar2", rival, foundation="rocl") for rival in RIVALS),
        Cell("cifar2", "identity", foundation=ADVERSARIAL),
    ),
}


def _trade_off(data: str, eps: float | None, weights: Mapping[str, Sequence[float]]) -> Iterator[Cell]:
    """Every method before one model at one radius, those in ``weights`` at each of theirs."""
    for method in ("identity", "vanilla", "arae", "cropd", *RIVALS):
        yield from (Cell(data, method, weight=weight, eps=eps) for weight in weights.get(method, (None,)))
    yield Cell(data, "identity", foundation=ADVERSARIAL, eps=eps)


_WEIGHTS = {"cropd": (0.1, 1.0, 10.0, 100.0), "stability": (1.0, 4.0)}
TABLES["trade-off"] = (  # ours: clean accuracy against the worst case
    *(cell for eps in (0.1, 0.15) for cell in _trade_off("digits", eps, _WEIGHTS)),
    *_trade_off("cifar10", None, {"cropd": (1.0, 10.0, 100.0)}),  # the others are Table 2's rows
)
# Table 11, hours on an A100: training CRoPD, the head, cleanly fine-tuning the model, and under attack.
HOURS = {"cifar100": (5.0, 3.0, 7.3, 19.6), "imagenette": (9.6, 1.7, 3.6, 22.3)}
PARAMETERS = {"preprocessor": 1.8e7, "foundation": 3.0e8}  # Table 12, images of 32 pixels
