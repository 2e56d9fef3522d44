"""Feature-learning accuracy for any model; correlations in closed cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from heirloom import InputError
from heirloom.analysis.feature_learning import feature_correlation, feature_learned, feature_learning_accuracy
from heirloom.theory.patches.model import PatchDistribution, sample_patches
from heirloom.theory.patches.network import PatchCNN, hand_built


def test_networks_of_one_feature_know_that_feature_only() -> None:
    distribution = PatchDistribution(noise=0.0)
    sample = sample_patches(distribution, 20, torch.Generator().manual_seed(0))
    data = {kind: (sample.representative(kind), sample.y) for kind in ("robust", "non-robust")}
    for kind, other in (("robust", "non-robust"), ("non-robust", "robust")):
        network = PatchCNN(hand_built(distribution, kind, 3.0, 4))
        assert feature_learning_accuracy(network, data[kind]) == 1
        # all scores are 0: ties, which are errors, not a fifth right by chance
        assert feature_learned(network, data[other]).tolist() == [False] * 20


def test_it_takes_images_and_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = torch.rand(10, 3, 2, 2), torch.arange(10) % 3
    found = feature_learning_accuracy(model, (x, y), batch_size=4)
    model.eval()
    assert found == pytest.approx((model(x).argmax(1) == y).double().mean().item())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_training_mode_comes_back() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).train()
    feature_learning_accuracy(model, (torch.rand(2, 1, 2, 2), torch.tensor([0, 1])))
    assert model.training
    with pytest.raises(InputError, match="labels must be as many as data"):
        feature_learning_accuracy(model, (torch.rand(2, 1, 2, 2), torch.tensor([0])))
    with pytest.raises(InputError, match="labels must be class indices from 0 to 2"):
        feature_learning_accuracy(model, (torch.rand(1, 1, 2, 2), torch.tensor([3])))


@given(st.integers(0, 2**31), st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_correlations_lie_in_0_to_1_and_do_not_depend_on_scale(seed: int, scale: float) -> None:
    weight = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(seed))
    features = torch.eye(3, 8)
    value = feature_correlation(weight, features)
    assert (value >= 0).all()
    assert (value <= 1 + 1e-6).all()
    assert torch.allclose(feature_correlation(scale * weight, features), value, rtol=1e-4)


def test_correlations_of_pure_and_mixed_networks() -> None:
    distribution = PatchDistribution()
    u, v = distribution.features()
    pure, other = hand_built(distribution, "robust", 2.0, 3), hand_built(distribution, "non-robust", 2.0, 3)
    weight = torch.stack([pure, -pure, pure + other])
    assert feature_correlation(weight, u).tolist() == pytest.approx([1, 0, 0.5**0.5])
    assert feature_correlation(weight, v).tolist() == pytest.approx([0, 0, 0.5**0.5])
