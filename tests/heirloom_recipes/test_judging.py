"""A recipe whose attacks are cut off goes on with what is left of them."""

import pytest
import torch
from torch import nn

from heirloom.data.images import load_images
from heirloom.threat import Threat
from heirloom_recipes.catalogue import OutOfTimeError, until
from heirloom_recipes.inheritance.seeds import table_over_seeds
from heirloom_recipes.judging import judged


class Counted(nn.Module):
    """The nearest class mean: right on most digits, so that more than one chunk of them is attacked."""

    def __init__(self, data):
        super().__init__()
        flat = data.train.images.flatten(1)
        self.register_buffer(
            "means", torch.stack([flat[data.train.labels == label].mean(0) for label in range(10)])
        )
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return -torch.cdist(x.flatten(1), self.means)


def test_attacks_that_were_cut_off_go_on(tmp_path):
    data = load_images("digits")

    def images_seen(place, progress):
        model = Counted(data)
        found = judged(
            model,
            data,
            Threat("Linf", 0.02),
            ("pgd-20",),
            name="a",
            work=tmp_path / place,
            progress=progress,
            batch_size=100,
        )
        return found.correct["pgd-20"], model.seen

    def cut(stage, done, total, text):
        if "pgd-20" in stage and total / 2 < done < total:
            raise KeyboardInterrupt

    verdicts, all_seen = images_seen("whole", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        images_seen("cut", cut)
    again, seen = images_seen("cut", lambda *_: None)
    assert torch.equal(verdicts, again)
    assert seen < 0.6 * all_seen
    assert not list((tmp_path / "cut").iterdir())  # the row itself is what is kept


def test_the_minutes_are_of_the_whole_command(tmp_path):
    with pytest.raises(OutOfTimeError):
        table_over_seeds("table-4", "smoke", tmp_path, seeds=2, minutes=1e-9)
    seen = []
    told = until(None, lambda *words: seen.append(words))
    told("stage", 0, 1, "")
    assert seen == [("stage", 0, 1, "")]
