"""The times that the plan of ``defend`` tells of its trainings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from heirloom.data.labelled import LabelledImages
from heirloom.defence.choose import CANDIDATES
from heirloom.defence.settings import DistilSettings, PreprocessorSettings
from heirloom.defence.training_plan import Trained, training_stages
from heirloom.evaluation.preflight import Cost
from heirloom.models.encoder import load_encoder
from heirloom.runtime.choices import DefenceMethod
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings
from heirloom.training.timing import QUICK, step_seconds

COST = Cost(forward=0.5, gradient=1.5, weights=1, activations=1, outputs=10)


def _asked(seconds: Callable[[int], list[float]]) -> tuple[list[int], Callable[[int], list[float]]]:
    sizes: list[int] = []

    def second_of_two(size: int) -> list[float]:
        sizes.append(size)
        return seconds(size)

    return sizes, second_of_two


def test_what_a_step_does_once_is_counted_once_where_that_is_quick_to_see() -> None:
    sizes, second_of_two = _asked(lambda size: [0.1 + size * 1e-4, size * 1e-4])
    assert step_seconds(second_of_two, 128) == pytest.approx([0.1128, 0.0128])
    assert sizes == [16, 128]
    assert step_seconds(second_of_two, 128, beside=QUICK) == pytest.approx([8 * 0.1016, 0.0128])
    assert step_seconds(second_of_two, 4) == pytest.approx([0.1004, 0.0004])
    assert sizes == [16, 128, 16, 4]


def test_a_slow_step_is_not_taken_in_full_before_the_work() -> None:
    sizes, second_of_two = _asked(lambda size: [float(size)])
    assert step_seconds(second_of_two, 128) == [128.0]
    assert sizes == [16]


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ({"steps": (100, 10)}, 100 * 1 + 10 * 20),
        ({"steps": (100,)}, 100 * 1 + 100 * 20),
        ({"training": TrainingSettings(epochs=10, batch_size=16)}, 4 * (8 * 1 + 2 * 20)),
        ({"minutes": 2.0}, 120),
    ],
)
def test_student_and_painter_have_each_their_own_time(
    asked: dict[str, object],
    seconds: float,
    few: LabelledImages,
    foundation: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("heirloom.defence.training_plan.step_seconds", lambda *a, **k: [1.0, 20.0])
    on = Trained(few, Threat("Linf", 0.1), load_encoder(foundation), COST, None)
    given = {"distil": DistilSettings(painter_share=0.2), "architecture": "auto", **asked}
    features, training = training_stages(on, PreprocessorSettings(method="distil", **given), COST)  # type: ignore[arg-type]
    assert (features.name, features.seconds) == ("features for distil", 64 * 0.5)  # grey: not mirrored
    assert (training.name, training.seconds) == ("train distil", seconds)


@pytest.mark.parametrize("method", [*CANDIDATES, "auto"])
def test_every_method_is_timed_by_real_steps(
    method: DefenceMethod, few: LabelledImages, foundation: Path
) -> None:
    on = Trained(few, Threat("Linf", 0.1), load_encoder(foundation), COST, None)
    settings = PreprocessorSettings(method=method, training=TrainingSettings(epochs=4, batch_size=32))
    stages = training_stages(on, settings, COST)
    assert all(stage.seconds > 0 for stage in stages)
    assert len(stages) == {"auto": len(CANDIDATES) + 1, "distil": 2}.get(method, 1)
