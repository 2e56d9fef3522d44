"""Feature-learning accuracy of any classifier: of runs along their training, of saved defences, of factories."""

from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import EncoderSettings, load_encoder, load_images
from heirloom.cli import app, common
from heirloom.features.job import build_features
from heirloom.features.saved import read_split
from heirloom.features.settings import BuildSettings
from heirloom.results.schema import Summary

LINEAR = "tests.evaluation.subjects:linear"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = load_encoder(EncoderSettings("tests.features.encoders:convolutional"))
    out = tmp_path_factory.mktemp("sets") / "set"
    data = load_images("digits", limit=40, limit_test=30)
    build_features(encoder, "smooth", data, BuildSettings(steps=2, batch_size=30), out)
    return out


class Knows(nn.Module):
    """Gives the pictures of a built set the class of their feature, or of the image that they began at."""

    def __init__(self, folder: Path, column: str) -> None:
        super().__init__()
        split = read_split(folder, "test")
        self.register_buffer("known", split.pixels.float().flatten(1) / 255)
        self.register_buffer("label", split.columns[column])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nearest = torch.cdist(x.flatten(1), self.known).argmin(1)
        return nn.functional.one_hot(self.label[nearest], 10).float()


def test_what_knows_the_feature_scores_one_and_what_knows_the_start_scores_the_start(
    features: Path, tmp_path: Path
) -> None:
    from heirloom.features.measure import Checkpoint, measure_features

    models = [Checkpoint(name, Knows(features, name)) for name in ("label", "start_label")]
    rows = measure_features(models, {"robust": features}, tmp_path).rows
    columns = read_split(features, "test").columns
    same = float(
        (columns["label"] == columns["start_label"]).double().mean()
    )  # a start may be of the feature's class
    assert same < 0.2
    assert [row["robust features"]["value"] for row in rows] == pytest.approx([1.0, same])
    assert [row["robust start"]["value"] for row in rows] == pytest.approx([same, 1.0])


def test_a_run_is_measured_along_its_training_and_beside_other_classifiers(
    features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    train = "--data digits --limit 200 --limit-test 20 --network resnet8-w4 --clean-epochs 2 --adversarial"
    train += (
        " --adversarial-epochs 1 --validation .1 --keep-epochs 1 --attacks pgd-1 --eps .1 --attack-steps 1"
    )
    train += " --batch-size 50 --device cpu"
    assert common.run(app, ["pretrain", "--out", str(run), *train.split()]) == 0
    command = ["features", "measure", str(run), LINEAR, "--device", "cpu"]
    command += ["--robust", str(features), "--data", "digits", "--limit-test", "20", "--out", str(out)]
    assert common.run(app, command) == 0
    summary = Summary.read(out / "summary.json")
    assert [(row["phase"], row["epoch"]) for row in summary.rows] == [
        ("clean", 1),
        ("adversarial", 1),
        ("end", None),
        ("", None),
    ]
    assert all({"clean", "robust features", "robust start"} <= set(row) for row in summary.rows)
    assert "along its training" in (out / "report.html").read_text()
    assert common.run(app, [*command, "--resume"]) == 0
    assert common.run(app, [*command[:2], *command[3:], "--resume"]) == 2
    assert "models" in capsys.readouterr().err


def test_no_set_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert common.run(app, ["features", "measure", LINEAR, "--out", str(out)]) == 2
    assert "sets must be at least one data set of features, got none" in capsys.readouterr().err
    assert not out.exists()
