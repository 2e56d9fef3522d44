"""Who starts where: every rule says what it promises, for any labels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom import InputError
from heirloom.features.pairing import pair
from heirloom.features.settings import BuildSettings


@given(st.lists(st.sampled_from([0, 1, 3, 7]), min_size=2, max_size=40), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_starts_and_targets_are_of_the_class_that_the_rule_says(found: list[int], seed: int) -> None:
    labels = torch.tensor(found)
    other = pair(labels, BuildSettings(seed=seed), "train")
    assert sorted(other.start.tolist()) == list(range(len(labels)))  # each image is a start once
    assert not (other.start == other.original).any()
    assert torch.equal(other.label, labels)
    if len(set(found)) < 2:
        return
    different = pair(labels, BuildSettings(start="other-class", seed=seed), "train")
    assert (labels[different.start] != labels).all()
    following = {c: sorted(set(found))[(i + 1) % len(set(found))] for i, c in enumerate(sorted(set(found)))}
    shifted = pair(labels, BuildSettings(start="next-class", seed=seed), "train")
    targets = pair(labels, BuildSettings("next-target", seed=seed), "train")
    for label, start, target, original in zip(
        found, shifted.start, targets.label, targets.original, strict=True
    ):
        assert labels[start] == following[label] == target == labels[original]
    assert torch.equal(targets.start, torch.arange(len(labels)))


def test_random_targets_and_other_classes_are_drawn_evenly() -> None:
    labels = torch.tensor([0] * 60 + [1] * 20 + [2] * 20).repeat(30)
    targets = pair(labels, BuildSettings("random-target"), "train").label
    assert (targets.bincount() / len(labels) - 1 / 3).abs().max() < 0.03
    starts = labels[pair(labels, BuildSettings(start="other-class"), "train").start]
    for label, shares in enumerate(([0, 0.5, 0.5], [0.75, 0, 0.25], [0.75, 0.25, 0])):
        drawn = starts[labels == label].bincount(minlength=3) / (labels == label).sum()
        torch.testing.assert_close(drawn, torch.tensor(shares), atol=0.06, rtol=0)


def test_seeds_and_splits_draw_apart_and_the_same_seed_the_same() -> None:
    labels = torch.arange(100) % 10
    first = pair(labels, BuildSettings(), "train").start
    assert torch.equal(first, pair(labels, BuildSettings(), "train").start)
    assert not torch.equal(first, pair(labels, BuildSettings(), "test").start)
    assert not torch.equal(first, pair(labels, BuildSettings(seed=1), "train").start)


def test_too_little_data_and_wrong_settings_are_one_sentence() -> None:
    one_class = torch.zeros(5, dtype=torch.long)
    for call, said in (
        (lambda: pair(one_class[:1], BuildSettings(), "train"), "data must be at least two images"),
        (
            lambda: pair(one_class, BuildSettings("next-target"), "train"),
            "data must be images of at least two",
        ),
        (
            lambda: pair(one_class, BuildSettings(start="other-class"), "train"),
            "images of at least two classes",
        ),
        (lambda: BuildSettings("best"), "variant must be one of inverted"),  # type: ignore[arg-type]
        (lambda: BuildSettings(start="black"), "start must be one of other"),  # type: ignore[arg-type]
        (lambda: BuildSettings(steps=0), "steps must be at least 1"),
        (lambda: BuildSettings(step_size=-1.0), "step_size must be a number above 0"),
        (lambda: BuildSettings(batch_size=0), "batch_size must be at least 1"),
    ):
        with pytest.raises(InputError, match=said):
            call()
