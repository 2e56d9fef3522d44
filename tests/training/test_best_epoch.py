"""The epoch is chosen by the cheap part of the attack that judges."""

from pathlib import Path

import torch

from heirloom import Threat, evaluate
from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.data.images import load_images
from heirloom.training.best_epoch import BestEpoch
from tests.evaluation.subjects import linear


def test_the_cheap_part_of_cascade_chooses_and_the_first_of_equal_epochs_stays(tmp_path: Path) -> None:
    data, threat, model = load_images("digits", limit_test=60).test, Threat("Linf", 0.05), linear()
    best = BestEpoch(tmp_path / "best.safetensors", data, threat, resume=False)
    found = best.measure(model, 1)
    by_each = {name: evaluate(model, data.pair, threat, [name]) for name in (FIRST_LOOK, "pgd-10", "cascade")}
    standing = {name: float(each.correct[name].double().mean()) for name, each in by_each.items()}
    passes = {name: each.passes[name].forward + each.passes[name].backward for name, each in by_each.items()}
    assert found["validation_robust"] == standing[FIRST_LOOK]
    assert standing["cascade"] <= standing[FIRST_LOOK] <= standing["pgd-10"] < found["validation_clean"]
    assert passes[FIRST_LOOK] < 0.75 * passes["pgd-10"] < 0.1 * passes["cascade"]
    with torch.no_grad():  # larger logits, the same decisions
        model.layer.weight.mul_(1.5)
        model.layer.bias.mul_(1.5)
    assert best.measure(model, 2)["validation_robust"] == found["validation_robust"]
    assert (best.score, best.epoch) == (found["validation_robust"], 1)
