"""The threat set: never left, not by one float64 ulp; projections are the nearest points."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from heirloom import InputError, Threat
from heirloom.threat import NORMS, check_images, norms, parse_eps, parse_threat

threats = st.builds(Threat, st.sampled_from(NORMS), st.floats(1e-4, 4.0))


@given(threats, st.integers(0, 2**31), st.floats(0.01, 10))
@settings(max_examples=150, deadline=None)
def test_projection_and_start_never_leave_the_threat_set(threat: Threat, seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 2, 4, 4, generator=generator)
    x_adv = x + scale * torch.randn(x.shape, generator=generator)
    for point in (threat.project(x_adv, x), threat.random_start(x, generator)):
        assert point.dtype == torch.float32
        assert threat.distance(point, x).max() <= threat.eps
        assert point.min() >= 0
        assert point.max() <= 1


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_ball_projection_is_the_nearest_point(norm: str) -> None:
    threat = Threat(norm, 0.7)
    delta = torch.randn(1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    order = {"L2": 2, "L1": 1}[norm]
    found = minimize(
        lambda point: np.sum((point - delta[0].numpy()) ** 2),
        np.zeros(5),
        constraints={"type": "ineq", "fun": lambda point: 0.7 - np.linalg.norm(point, order)},
        options={"ftol": 1e-12, "maxiter": 1000},
    )
    assert torch.allclose(threat.project_delta(delta)[0], torch.from_numpy(found.x), atol=1e-4)


@pytest.mark.parametrize("norm", NORMS)
def test_ascent_direction_beats_every_other_unit_step(norm: str) -> None:
    generator = torch.Generator().manual_seed(2)
    gradient = torch.randn(1, 12, generator=generator)
    step = Threat(norm, 1.0).ascent_direction(gradient)
    others = torch.randn(5000, 12, generator=generator)
    others = others / norms(others, norm)
    assert norms(step, norm).item() == pytest.approx(1)
    assert (gradient * step).sum() >= (others @ gradient[0]).max()


def test_random_start_fills_the_linf_ball() -> None:
    start = Threat("Linf", 0.1).random_start(
        torch.full((1, 1, 200, 200), 0.5), torch.Generator().manual_seed(0)
    )
    offset = start - 0.5
    # uniform on [-0.1, 0.1]: sd 0.2 / sqrt(12), over 40000 draws
    assert offset.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.02)
    assert offset.abs().max() > 0.0999


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("1", 1.0)])
def test_eps_is_read_as_a_number_or_a_fraction(text: str, value: float) -> None:
    assert parse_eps(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "eight", "8/0", "nan", "inf", "", "8/255/2"])
def test_parse_eps_rejects(text: str) -> None:
    with pytest.raises(InputError, match="eps must be a number above 0"):
        parse_eps(text)


def test_threat_rejects_an_unknown_norm_and_eps_zero() -> None:
    with pytest.raises(InputError, match="norm must be one of Linf, L2, L1, got l3"):
        Threat("l3", 0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="eps must be a number above 0"):
        Threat("Linf", 0.0)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (torch.rand(3, 4, 4), "shape"),
        (torch.rand(2, 1, 4, 4) * 255, r"pixels in \[0, 1\]"),
        (torch.full((1, 1, 2, 2), float("nan")), "NaN"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "float pixels"),
        (torch.zeros(0, 1, 2, 2), "shape"),
    ],
)
def test_check_images_rejects(images: torch.Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_images(images)


@pytest.mark.parametrize(
    ("eps", "meant"), [("8", "8/255"), ("1.5", "1.5/255"), ("300", "8/255"), ("510/255", "8/255")]
)
def test_a_forgotten_255_is_refused(eps: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"eps must be at most 1 for Linf.*{meant}"):
        parse_threat("Linf", eps)
    assert parse_threat("L2", eps).eps > 1
