"""Proposition 1 as numbers, against the closed form."""

import math

import pytest

from heirloom import InputError
from heirloom.theory.preprocessors.counterexample import proposition_1


@pytest.mark.parametrize("n", [1, 10, 100])
def test_small_adversarial_error_and_large_adversarial_loss(n: int) -> None:
    made = proposition_1(n)
    assert made.clean_error == 0
    assert made.adversarial_error == pytest.approx(1 / n)
    assert made.clean_loss == pytest.approx(math.log1p(math.exp(-n)))
    assert made.adversarial_loss == pytest.approx(n + math.log1p(math.exp(-n)))


def test_balls_that_touch_are_refused() -> None:
    with pytest.raises(InputError, match="eps must be between 0 and 1"):
        proposition_1(3, eps=1.0)
