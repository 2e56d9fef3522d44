"""Linear heads: as good as scikit-learn's, and more robust where trained on adversarial examples."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from heirloom import InputError, Threat
from heirloom.data.labelled import ImageSource
from heirloom.evaluation.verdicts import evaluate
from heirloom.heads.adversarial import train_adversarial_head
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended


def test_a_head_is_as_good_as_logistic_regression(digits: ImageSource) -> None:
    train, test = digits.train, digits.test
    features = train.images.flatten(1) * 100 + 7  # a scale that plain AdamW would stumble on
    head = train_head(features, train.labels, 10, HeadSettings(epochs=40))
    ours = (head(test.images.flatten(1) * 100 + 7).argmax(1) == test.labels).double().mean()
    peer = LogisticRegression(max_iter=2000).fit(train.images.flatten(1).numpy(), train.labels.numpy())
    theirs = peer.score(test.images.flatten(1).numpy(), test.labels.numpy())
    # 450 images: one standard deviation of a share of .96 is .009
    assert float(ours) >= theirs - 0.02
    assert not head.weight.requires_grad


def test_validation_keeps_the_best_epoch(generator: torch.Generator) -> None:
    features, labels = torch.randn(60, 40, generator=generator), torch.arange(60) % 2
    held = torch.randn(200, 40, generator=generator), torch.arange(200) % 2
    loss = nn.functional.cross_entropy
    kept = train_head(features, labels, 2, HeadSettings(epochs=80), validation=held)
    last = train_head(features, labels, 2, HeadSettings(epochs=80))
    # noise labels: fitting on only hurts, so an early epoch must have been kept
    assert loss(kept(held[0]), held[1]) < loss(last(held[0]), held[1]) - 0.1


@pytest.mark.slow
def test_an_adversarial_head_is_more_robust(digits: ImageSource) -> None:
    threat, train = Threat("Linf", 0.1), digits.train.limit(512)
    model = Defended(nn.Flatten(), nn.Identity(), nn.Identity())
    clean = train_head(train.images.flatten(1), train.labels, 10, HeadSettings(epochs=30))
    model.head = clean
    before = evaluate(model, (digits.test.images, digits.test.labels), threat, ["pgd-10"]).accuracy("pgd-10")
    train_adversarial_head(model, train, threat, HeadSettings(epochs=60, adversarial_step=0.03))
    after = evaluate(model, (digits.test.images, digits.test.labels), threat, ["pgd-10"]).accuracy("pgd-10")
    assert after.low > before.high


def test_labels_outside_the_classes_are_refused() -> None:
    with pytest.raises(InputError, match="labels must be class indices from 0 to 1, got 0 to 2"):
        train_head(torch.zeros(3, 2), torch.tensor([0, 1, 2]), 2)


def test_features_where_memory_runs_out_are_those_of_smaller_batches(digits: ImageSource) -> None:
    seen: list[int] = []

    def cramped(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        if len(x) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x.flatten(1)

    few = digits.train.limit(60)
    assert torch.equal(extract_features(cramped, few, batch_size=50), few.images.flatten(1))
    assert seen == [50, 25, 13, 13, 13, 13, 8]


@pytest.mark.parametrize(
    ("settings", "named"), [({"weight_decay": 101.0}, "head_weight_decay"), ({"learning_rate": 0.0}, "rate")]
)
def test_a_step_of_a_head_takes_away_all_of_its_weights_at_most(
    settings: dict[str, float], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        HeadSettings(**settings)  # type: ignore[arg-type]


def test_more_weight_decay_shortens_the_weights(digits: ImageSource) -> None:
    train = digits.train.limit(200)
    lengths = [
        float(
            train_head(
                train.images.flatten(1), train.labels, 10, HeadSettings(5, weight_decay=d)
            ).weight.norm()
        )
        for d in (0.0, 1.0, 10.0)
    ]
    assert lengths == sorted(lengths, reverse=True)
