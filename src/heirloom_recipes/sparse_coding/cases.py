"""The trainings that ``purify`` compares, with what an earlier, independent trial measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from heirloom.theory.sparse_coding.model import SparseCoding
from heirloom.theory.sparse_coding.settings import SparseTraining

_SQUARE = SparseTraining()
_LOGISTIC = SparseTraining(loss="logistic", c_b=0.1, init=0.05, steps=1200, theta=3.0)
_RELU = SparseTraining(activation="relu", c_b=0.1, init=0.05, outputs="signs")
_CONTRASTIVE = SparseTraining(loss="contrastive", c_b=0.1, init=0.2, batch=256, steps=1000)


@dataclass(frozen=True)
class Case:
    """One training to compare, clean (eps 0) and adversarial (the other ``epsilons``).

    The paper has no figures for these; ``trial`` holds those of an earlier, independent trial:
    {eps: {measure: value}}.
    """

    name: str
    setting: SparseTraining
    epsilons: tuple[float, ...] = (0.0, 0.3)
    trial: dict[float, dict[str, float]] = field(default_factory=dict)


def _trial(*figures: float) -> dict[str, float]:
    names = ("clean", "adversarial_0.1", "adversarial_0.3", "top_1", "hoyer", "count", "gap_0.1", "gap_0.3")
    return dict(zip(names, figures, strict=True))


CASES = (
    Case(
        "square, gate",
        _SQUARE,
        (0.0, 0.1, 0.3),
        {
            0.0: _trial(0.011, 0.417, 4.14, 0.229, 0.632, 9.8, 0.333, 3.42),
            0.3: _trial(0.012, 0.072, 0.354, 0.676, 0.879, 3.4, 0.116, 1.19),
        },
    ),
    Case(
        "square, gate, clean 800 steps first",
        replace(_SQUARE, clean_steps=800),
        (0.0, 0.3),
        {0.3: _trial(0.012, 0.074, 0.423, 0.732, 0.918, 2.4, 0.088, 0.82)},
    ),
    Case(
        "absolute, gate",
        replace(_SQUARE, loss="absolute"),
        (0.0, 0.3),
        {
            0.0: _trial(0.083, 0.546, 1.86, 0.305, 0.703, 7.2, 0.333, 2.92),
            0.3: _trial(0.133, 0.363, 0.461, 0.711, 0.819, 4.6, 0.218, 1.90),
        },
    ),
    Case(
        "logistic, gate",
        _LOGISTIC,
        (0.0, 0.3),
        {
            0.0: _trial(0.264, 0.731, 3.07, 0.201, 0.311, 14.7, 0.688, 4.71),
            0.3: _trial(0.319, 0.372, 0.504, 0.707, 0.840, 2.1, 0.158, 1.07),
        },
    ),
    Case(
        "contrastive, gate, lazy",
        _CONTRASTIVE,
        (0.0, 0.3),
        {
            0.0: {"top_1": 0.146, "dissimilar_0.1": 1.315, "gap_0.1": 1.22},
            0.3: {"top_1": 0.655, "dissimilar_0.1": 1.248, "gap_0.1": 1.14},
        },
    ),
    Case(
        "contrastive, gate, gradient through A",
        replace(_CONTRASTIVE, lazy=False),
        (0.0, 0.3),
        {
            0.0: {"top_1": 0.105, "hoyer": 0.220, "dissimilar_0.1": 1.270, "gap_0.1": 0.743},
            0.3: {"top_1": 0.366, "hoyer": 0.734, "dissimilar_0.1": 1.009, "gap_0.1": 0.142},
        },
    ),
    # eps in Linf whose L2 length at d = 50 is .3
    Case("square, gate, Linf", replace(_SQUARE, norm="Linf"), (0.0, 0.3 / 50**0.5)),
    # the two claims that did not show in the trial
    Case(
        "square, relu",
        _RELU,
        (0.0, 0.3),
        {
            0.0: _trial(0.015, 0.166, 1.03, 0.485, 0.697, 3.4, 0.300, 1.75),
            0.3: _trial(0.022, 0.111, 0.508, 0.476, 0.798, 3.0, 0.292, 1.59),
        },
    ),
    Case(
        "square, gate, c_b .1, init .2",
        replace(_SQUARE, c_b=0.1, init=0.2),
        (0.0, 0.3),
        {0.0: {"top_1": 0.490}, 0.3: {"top_1": 0.349}},
    ),
    Case("square, gate, from a built m = 5", replace(_SQUARE, init=None)),
    Case("square, gate, d 100, H 600", replace(_SQUARE, data=SparseCoding(d=100, k=3, zeta=0.05), nodes=600)),
    # open question 2: activations without a gate. A shift by b = c_b norm(W_h), which the gradient does not
    # see, would move the output of every node that is off: they did not train with one
    Case("square, without a gate: tanh", replace(_SQUARE, activation="tanh", init=0.05), (0.0, 0.1, 0.3)),
    Case("square, without a gate: gelu", replace(_RELU, activation="gelu", c_b=0.0), (0.0, 0.1, 0.3)),
    Case("square, without a gate: silu", replace(_RELU, activation="silu", c_b=0.0), (0.0, 0.1, 0.3)),
    # open question 3: the training attack reaches one kind of pair
    Case("contrastive, lazy, attack on similar pairs", replace(_CONTRASTIVE, attacked="similar")),
    Case("contrastive, lazy, attack on dissimilar pairs", replace(_CONTRASTIVE, attacked="dissimilar")),
    Case(
        "contrastive, through A, attack on similar pairs",
        replace(_CONTRASTIVE, lazy=False, attacked="similar"),
    ),
    Case(
        "contrastive, through A, attack on dissimilar pairs",
        replace(_CONTRASTIVE, lazy=False, attacked="dissimilar"),
    ),
)
