"""``auto`` takes bfloat16 for the attacks' passes only where it is faster by a margin, once, and says so."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from heirloom import InputError, Threat
from heirloom.data.images import load_images
from heirloom.evaluation import broken, pass_dtype
from heirloom.evaluation.job import evaluate_job
from heirloom.evaluation.pass_dtype import ROUNDS, measured_dtype
from heirloom.evaluation.settings import EvaluationSettings

from .subjects import linear


def data() -> tuple[torch.Tensor, torch.Tensor]:
    test = load_images("digits", limit_test=20).test
    return test.images, test.labels


def timed(seconds: Iterator[float]) -> Callable[[Callable[[], object], torch.device], float]:
    def one(run: Callable[[], object], place: torch.device) -> float:
        run()
        return next(seconds)

    return one


@pytest.mark.parametrize(("half", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (1.4, "float32")])
def test_bfloat16_must_be_faster_by_a_margin(
    half: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm, rounds = [9.0, 0.0], [1.0, half] * (ROUNDS - 1) + [1.0, 50.0]  # one outlier does not decide
    monkeypatch.setattr(pass_dtype, "_timed", timed(iter(warm + rounds)))
    found = measured_dtype(linear(), data(), "cpu", 10)
    assert found["chosen"] == chosen
    assert (found["float32"], found["bfloat16"]) == pytest.approx((100.0, 100 * half))
    assert (found["images"], found["rounds"]) == (10, ROUNDS)


def test_it_is_measured_on_copies_and_nothing_is_drawn() -> None:
    model, state = broken.call_parity(), torch.random.get_rng_state()
    found = measured_dtype(model, data(), "cpu", None)
    assert found["float32"] > 0
    assert found["bfloat16"] > 0
    assert model.calls == 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_choice_is_written_and_a_run_that_goes_on_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = EvaluationSettings(
        "linear", "digits", Threat("Linf", 0.05), ("fgsm",), attack_dtype="auto", audit_examples=0
    )
    monkeypatch.setattr(pass_dtype, "measured_dtype", lambda *what: {"chosen": "bfloat16", "float32": 2.0})
    first, _ = evaluate_job(linear(), data(), settings, tmp_path)
    assert first.details["evaluation"]["attack_dtype"] == {"chosen": "bfloat16", "float32": 2.0}
    assert first.settings["attack_dtype"] == "auto"

    def again(*what: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(pass_dtype, "measured_dtype", again)
    resumed, _ = evaluate_job(linear(), data(), settings, tmp_path, resume=True)
    assert resumed.rows == first.rows
    assert resumed.details["evaluation"]["attack_dtype"]["chosen"] == "bfloat16"
    fixed = EvaluationSettings("linear", "digits", Threat("Linf", 0.05), ("fgsm",), audit_examples=0)
    with pytest.raises(InputError, match=r"settings\.attack_dtype"):
        evaluate_job(linear(), data(), fixed, tmp_path, resume=True)
