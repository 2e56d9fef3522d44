"""How a data set of one kind of feature is built: what is inverted, where the descent begins, how it steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from heirloom.runtime.choices import FeatureStart, FeatureVariant, StepRule, listed
from heirloom.runtime.errors import require


@dataclass(frozen=True)
class BuildSettings:
    """Ilyas et al. (NeurIPS 2019, Appendix C) take 1000 ``constant`` steps of .1; the defaults come nearer with the
    same passes (docs/features.md).

    Attributes:
        variant: ``inverted``: each image's representation, reached from another image, under the image's label (their
            D_R from a robust network, D_NR from a standard one). ``random-target``, ``next-target``: each image, moved
            inside the threat set towards the representation of an image of a class drawn at random (D_rand) or of the
            next class (D_det), under that class's label. Theirs moves by the classifier's loss; an encoder has none.
        start: of ``inverted``: ``other`` (each image is another's start once), ``other-class`` (drawn from the other
            classes), ``next-class`` (from the next class: what the start shows is wrong in the same way every time),
            ``noise`` (uniform) or ``grey`` (.5).
        steps, step_size, step_rule: of :func:`heirloom.features.inversion.invert`; of PGD for the targets, where
            ``step_size`` None is 2.5 eps / steps.
        batch_size: images inverted at once; also what an interruption can lose.
        seed: of the starts, targets and random starts.
    """

    variant: FeatureVariant = "inverted"
    start: FeatureStart = "other"
    steps: int = 1000
    step_size: float | None = None
    step_rule: StepRule = "decaying"
    batch_size: int = 250
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, allowed in (("variant", FeatureVariant), ("start", FeatureStart), ("step_rule", StepRule)):
            require(
                getattr(self, name) in get_args(allowed),
                name,
                f"one of {listed(allowed)}",
                getattr(self, name),
            )
        require(self.steps >= 1, "steps", "at least 1", self.steps)
        size = self.step_size
        require(size is None or 0 < size < float("inf"), "step_size", "a number above 0", size)
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)

    @property
    def is_targeted(self) -> bool:
        return self.variant != "inverted"
