"""Inversion of linear encoders, whose minimisers are known in closed form."""

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError
from heirloom.features.inversion import invert
from heirloom.threat import norms
from tests.attacks.test_feature_targeted import Features, images


def inside(n: int = 4, seed: int = 0) -> Tensor:
    """Images far from black and white, so that the pixel range does not bind."""
    return 0.4 + 0.2 * images(n, seed)


def test_a_linear_encoder_is_inverted_to_its_exact_minimiser() -> None:
    """Steps lie in W's row space, so the descent ends at the start plus W^+ (W x - W start), no other image."""
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    encoder, original, start = Features(weight), inside(), inside(seed=9)
    found = invert(encoder, encoder(original), start, steps=400, step_size=0.1, step_rule="adaptive")
    missing = encoder(original) - encoder(start)
    exact = start + (missing @ torch.linalg.pinv(weight).T).view_as(start)
    torch.testing.assert_close(found.x, exact, atol=2e-5, rtol=0)
    assert (found.distance < 2e-5 * found.start_distance).all()
    torch.testing.assert_close(found.start_distance, missing.norm(dim=1))
    decayed = invert(encoder, encoder(original), start, steps=2000, step_size=0.2)
    torch.testing.assert_close(decayed.x, exact, atol=5 * 0.2 / 2000, rtol=0)  # some of its last steps


def test_constant_steps_stop_within_a_step_of_it() -> None:
    """Ilyas et al.'s rule: orthonormal features, so the way is straight; the nearest iterate is half a step away at
    most, and, where the step does not divide the way, it is not exact."""
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    encoder, original, start = Features(rotation), inside(), inside(seed=9)
    found = invert(encoder, encoder(original), start, steps=60, step_size=0.03, step_rule="constant")
    assert (found.distance <= 0.015 + 1e-5).all()
    assert found.distance.max() > 1e-4
    away = norms(original - start, "L2").flatten()
    torch.testing.assert_close(found.start_distance, away)
    few = invert(encoder, encoder(original), start, steps=3, step_size=0.03, step_rule="constant")
    torch.testing.assert_close(norms(few.x - start, "L2").flatten(), torch.full((4,), 0.09))


def test_the_pixel_range_binds() -> None:
    """Towards a representation of no image: the nearest image is the clipped one, as g keeps distances.
    What cannot be reached stays in the float32 loss, so its last digits hide 1e-7 of it, a root of which is left."""
    original = 2 * images() - 0.5
    found = invert(
        Features(torch.eye(16)), original.flatten(1), inside(), steps=600, step_size=0.1, step_rule="adaptive"
    )
    torch.testing.assert_close(found.x, original.clamp(0, 1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rule", ["decaying", "constant", "adaptive"])
def test_images_do_not_depend_on_their_batch_and_never_get_worse(rule: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)).double().eval()
    target = encoder(images().double()).float().detach()
    start = images(seed=4)
    together = invert(encoder, target, start, steps=15, step_rule=rule)  # type: ignore[arg-type]
    assert (together.distance < together.start_distance).all()
    alone = invert(encoder, target[2:3], start[2:3], steps=15, step_rule=rule)  # type: ignore[arg-type]
    torch.testing.assert_close(alone.x, together.x[2:3], atol=1e-5, rtol=0)
    assert all(p.grad is None for p in encoder.parameters())


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * float("nan")


def test_wrong_inputs_are_one_sentence() -> None:
    x, g = images(), Features(torch.eye(16))
    for call, said in (
        (lambda: invert(g, g(x), x, steps=0), "steps must be at least 1"),
        (lambda: invert(g, g(x), x, step_size=0), "step_size must be a number above 0"),
        (
            lambda: invert(g, g(x), x, step_rule="newton"),
            "step_rule must be one of decaying, constant, adaptive",
        ),  # type: ignore
        (lambda: invert(g, g(x)[:2], x), "target must be one row for each of 4 starts"),
        (lambda: invert(g, Broken()(x), x), "target must be finite"),
        (lambda: invert(Broken(), g(x), x), "encoder must be one of finite features"),
    ):
        with pytest.raises(InputError, match=said):
            call()
