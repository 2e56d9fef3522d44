"""Purity on nodes whose values are known by hand, its invariances, and on layers of real networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heirloom import InputError
from heirloom.analysis.purification import in_features, node_purity, purification
from heirloom.theory.sparse_coding.model import random_dictionary

MEASURES = ("top_1", "hoyer", "count", "pure", "alignment")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_one_feature_per_node_is_pure() -> None:
    found = purification(torch.eye(7)[[0, 3, 3, 6]] * torch.tensor([[1.0], [-2.0], [0.1], [5.0]]))
    assert [getattr(found, name) for name in MEASURES] == pytest.approx([1, 1, 1, 1, 1])
    assert found.nodes == 4


def test_equal_strengths_are_as_mixed_as_can_be() -> None:
    found = purification(torch.ones(3, 16))
    assert [getattr(found, name) for name in MEASURES] == pytest.approx([1 / 16, 0, 16, 0, 1 / 4], abs=1e-12)


def test_hand_values_and_weighting_by_squared_norm() -> None:
    # (3, 4): top-1 16/25, Hoyer (sqrt 2 - 7/5) / (sqrt 2 - 1), both above .3 of the largest; (0, 2) is pure
    found = purification(torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))
    share = 25 / 29
    assert found.top_1 == pytest.approx(share * 16 / 25 + 1 - share)
    assert found.hoyer == pytest.approx(share * (2**0.5 - 1.4) / (2**0.5 - 1) + 1 - share)
    assert found.count == pytest.approx(share * 2 + 1 - share)
    assert found.pure == pytest.approx(1 - share)
    assert found.alignment == pytest.approx(share * 0.8 + 1 - share)
    assert found.nodes == 2
    assert purification(torch.tensor([[3.0, 4.0]]), fraction=0.8).count == 1
    assert purification(torch.tensor([[3.0, 4.0]]), pure_above=0.64).pure == 1


@given(st.integers(0, 2**31), st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_rotation_scale_and_order_do_not_matter(seed: int, scale: float) -> None:
    weight = draw(12, 9, seed=seed)
    M = random_dictionary(9, torch.Generator().manual_seed(seed + 1))
    plain = purification(weight)
    rotated = purification(scale * weight.flip(0) @ M.T, M)  # W = M U, read in the basis M
    for name in ("top_1", "hoyer", "pure", "alignment"):
        assert getattr(rotated, name) == pytest.approx(getattr(plain, name), abs=1e-4)
    assert 1 / 9 <= plain.top_1 <= 1
    assert 0 <= plain.hoyer <= 1
    assert 1 <= plain.count <= 9


def test_columns_need_not_be_orthogonal_or_of_length_one() -> None:
    directions = torch.tensor([[1.0, 1.0], [0.0, 1.0]])  # features (1, 0) and (1, 1)
    found = purification(torch.tensor([[2.0, 2.0]]), 10 * directions)
    assert found.alignment == pytest.approx(1)
    assert found.top_1 == pytest.approx(1 / (1 + 0.5))


def test_a_batch_of_layers_at_once() -> None:
    weights = draw(3, 10, 8)
    together = node_purity(in_features(weights, None)).weighted()
    for index in range(3):
        alone = purification(weights[index])
        for name in MEASURES:
            assert together[name][index].item() == pytest.approx(getattr(alone, name))


def test_layers_of_real_networks() -> None:
    convolution = nn.Conv2d(3, 8, 5)
    assert purification(convolution) == purification(convolution.weight.flatten(1))
    assert purification(nn.Linear(6, 4)).nodes == 4
    assert purification(nn.Conv1d(2, 4, 3)).nodes == 4
    transposed = nn.ConvTranspose2d(3, 8, 5)
    assert purification(transposed) == purification(transposed.weight.transpose(0, 1))
    assert purification(nn.Conv2d(4, 8, 3, groups=2)).nodes == 8


def test_channels_measure_colours() -> None:
    filters = torch.zeros(2, 3, 5, 5)
    filters[0, 1] = draw(5, 5)  # any shape, but one colour
    filters[1] = draw(1, 5, 5)  # grey: the three colours alike
    assert purification(filters[:1], features="channels").top_1 == pytest.approx(1)
    assert purification(filters[1:], features="channels").top_1 == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="dictionary must be left out"):
        purification(filters, torch.eye(75), features="channels")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.ReLU(), "layer must be a weight or a linear or convolutional module, got ReLU"),
        (torch.zeros(3), "layer must be a weight of shape"),
        (torch.full((2, 2), float("nan")), "layer must be finite weights"),
        (torch.ones(4, 1), "at least 2 features"),
    ],
)
def test_what_is_no_layer_is_told(layer: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        purification(layer)  # type: ignore[arg-type]


def test_a_dictionary_of_the_wrong_size_is_told() -> None:
    with pytest.raises(InputError, match="dictionary must be of 4 rows"):
        purification(torch.ones(2, 4), torch.eye(5))
