"""Pre-training as a whole: exact after kill -9, alike on two processes, chosen on validation images."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heirloom import InputError, Threat
from heirloom.data.augmentation import CROP_AND_FLIP
from heirloom.data.images import load_images
from heirloom.data.labelled import LabelledImages
from heirloom.networks.backbones import load_backbone
from heirloom.pretraining.folder import take_over_clean_phase
from heirloom.pretraining.phases import pretrain
from heirloom.pretraining.settings import CONTRASTIVE_AUGMENTATION, PretrainSettings, paper_settings
from heirloom.runtime.errors import TrainingError
from heirloom.runtime.files import read_tensors
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.inheritance.scales import scale_settings
from tests.children import Child, Say

THREAT = Threat("Linf", 0.1)
SETTINGS = PretrainSettings(
    network="resnet8-7x7",
    clean_epochs=1,
    adversarial_epochs=2,
    attack=InnerAttack(steps=2),
    validation=0.2,
    validation_images=30,
    training=TrainingSettings(batch_size=64, learning_rate=0.05, weight_decay=5e-4, checkpoint_seconds=0.0),
)


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    return load_images("digits", limit=300).train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "encoder" / "model.safetensors")[0] | {
        f"head.{name}": value for name, value in read_tensors(folder / "head.safetensors")[0].items()
    }


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


CHILD = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from tests.pretraining.test_phases import SETTINGS, THREAT
    from heirloom.data.images import load_images
    from heirloom.pretraining.phases import pretrain
    pretrain(
        load_images("digits", limit=300).train, THREAT, SETTINGS, Path(sys.argv[2]), resume=True,
        report=lambda phase, done, total, losses: print(phase, done, flush=True),
    )
"""


@pytest.mark.slow
def test_kill_9_and_resume_end_with_the_same_weights(digits: LabelledImages, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = pretrain(digits, THREAT, SETTINGS, tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", textwrap.dedent(CHILD), root, str(tmp_path / "cut")]  # knows of nothing

    def work(say: Say) -> None:
        report = lambda phase, done, *_: say(phase, done)  # noqa: E731
        pretrain(digits, THREAT, SETTINGS, tmp_path / "cut", resume=True, report=report)

    assert Child(work).is_killed_at("adversarial 3")  # in the middle of an epoch of the second phase
    assert not (tmp_path / "cut" / "encoder").exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "clean" not in done.stdout
    assert "adversarial 1\n" not in done.stdout
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    x = digits.images[:2]
    assert torch.allclose(load_backbone(tmp_path / "cut" / "encoder")(x), whole.encoder(x), atol=1e-5)


TOGETHER = """
    import sys
    from dataclasses import replace
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from tests.pretraining.test_phases import METHODS, THREAT, adversarial
    from heirloom.data.images import load_images
    from heirloom.pretraining.phases import pretrain
    for method in METHODS:
        pretrain(load_images("digits", limit=300).train, THREAT, adversarial(method), Path(sys.argv[2]) / method)
"""


METHODS = ("supervised", "trades", "contrastive")


def adversarial(method: str) -> PretrainSettings:
    """Augmentation and the attack's random start are drawn in every step."""
    return replace(
        SETTINGS,
        method=method,  # type: ignore[arg-type]
        clean_epochs=0,
        adversarial_epochs=2,
        augmentation=CONTRASTIVE_AUGMENTATION if method == "contrastive" else CROP_AND_FLIP,
        attack=InnerAttack(steps=2, random_start=True),
    )


@pytest.mark.slow
def test_two_processes_train_the_same_model_as_one(digits: LabelledImages, tmp_path: Path) -> None:
    """Equal but for the order of float32 sums, which ReLUs at zero and signs of gradients amplify (measured: images
    and draws exactly equal, weights 3 % apart of how far they moved after six steps; 1e-7 after the first)."""
    root = str(Path(__file__).parents[2])
    script = tmp_path / "together.py"
    script.write_text(textwrap.dedent(TOGETHER))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(script), root, str(tmp_path / "two")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "deprecated" not in done.stderr
    for method in METHODS:
        pretrain(digits, THREAT, adversarial(method), tmp_path / "one" / method)
        one, two = (load_backbone(tmp_path / name / method / "encoder") for name in ("one", "two"))
        start = read_tensors(tmp_path / "one" / method / "filters" / "0-initial-0000.safetensors")[0]
        for name, value in one.state_dict().items():
            if value.is_floating_point():
                assert torch.allclose(value, two.state_dict()[name], atol=1e-2, rtol=1e-2), (method, name)
        moved = (one.body.stem.weight - start["filters"]).abs().max()  # type: ignore[union-attr, operator]
        apart = (one.body.stem.weight - two.body.stem.weight).abs().max()  # type: ignore[union-attr, operator]
        assert apart < 0.1 * moved, method


def test_divergence_stops_and_keeps_the_last_good_checkpoint(digits: LabelledImages, tmp_path: Path) -> None:
    wild = replace(SETTINGS, training=replace(SETTINGS.training, learning_rate=1e12))
    with pytest.raises(TrainingError, match="lower the learning rate; the last checkpoint is kept"):
        pretrain(digits, THREAT, wild, tmp_path)
    tensors, _ = read_tensors(tmp_path / "checkpoints" / "clean.safetensors")
    assert all(torch.isfinite(value).all() for value in tensors.values())


def test_the_best_validation_epoch_is_kept_and_test_images_are_not_read(
    digits: LabelledImages, tmp_path: Path
) -> None:
    broken = LabelledImages(digits.stored() * float("nan"), digits.labels, digits.classes)
    made = pretrain(digits, THREAT, replace(SETTINGS, adversarial_epochs=3), tmp_path, test=broken)
    scores = [entry["validation_robust"] for entry in made.history["adversarial"]]
    _, metadata = read_tensors(tmp_path / "best" / "adversarial.safetensors")
    assert float(metadata["score"]) == max(scores)
    assert int(metadata["epoch"]) == 1 + scores.index(max(scores))
    kept = read_tensors(tmp_path / "best" / "adversarial.safetensors")[0]
    assert torch.equal(kept["encoder.body.stem.weight"], made.encoder.body.stem.weight)  # type: ignore[union-attr, arg-type]


def test_selection_on_test_images_is_a_quirk_that_must_be_asked_for(
    digits: LabelledImages, tmp_path: Path
) -> None:
    quirk = replace(SETTINGS, select_on_test=True, adversarial_epochs=0)
    with pytest.raises(InputError, match="select_on_test must be used with a data set that has test images"):
        pretrain(digits, THREAT, quirk, tmp_path)
    test = digits.select(torch.arange(10))
    made = pretrain(digits, THREAT, quirk, tmp_path, test=test)
    assert made.history["clean"][0]["validation_clean"] * 10 % 1 == pytest.approx(0, abs=1e-9)


def test_an_adversarial_run_can_take_over_a_clean_phase(digits: LabelledImages, tmp_path: Path) -> None:
    both = replace(SETTINGS, adversarial_epochs=1)
    pretrain(digits, THREAT, both, tmp_path / "whole")
    pretrain(digits, THREAT, replace(both, adversarial_epochs=0), tmp_path / "clean")
    take_over_clean_phase(tmp_path / "clean", tmp_path / "taken")
    phases = set()
    pretrain(
        digits, THREAT, both, tmp_path / "taken", resume=True, report=lambda phase, *_: phases.add(phase)
    )
    assert phases == {"adversarial"}
    assert_equal(weights(tmp_path / "taken"), weights(tmp_path / "whole"))
    take_over_clean_phase(tmp_path / "clean", tmp_path / "other")
    other = replace(both, training=replace(both.training, learning_rate=0.01))
    with pytest.raises(InputError, match="resume must be of the run"):
        pretrain(digits, THREAT, other, tmp_path / "other", resume=True)


def test_a_batch_that_processes_cannot_share_leaves_nothing_behind(
    digits: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="batch_size must be a multiple of the 3 processes, got 64"):
        pretrain(digits, THREAT, SETTINGS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_written_over(digits: LabelledImages, tmp_path: Path) -> None:
    pretrain(digits, THREAT, replace(SETTINGS, adversarial_epochs=0), tmp_path)
    before = weights(tmp_path)
    with pytest.raises(InputError, match="out must be a new folder unless resume is given"):
        pretrain(digits, THREAT, SETTINGS, tmp_path)
    assert_equal(weights(tmp_path), before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "contrastive"])
def test_the_gpu_scale_runs_at_smoke_size(
    method: str, digits: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16, channels_last and a compiled network (captured, not compiled to machine code: that takes minutes),
    with epochs, network and attack of the smoke scale."""
    captured = []

    def compile_eagerly(module: torch.nn.Module) -> None:
        def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
            captured.append(graph)
            return graph.forward

        module._compiled_call_impl = torch.compile(module._call_impl, backend=backend)  # type: ignore[assignment]

    monkeypatch.setattr(torch.nn.Module, "compile", compile_eagerly)
    scale = scale_settings("gpu", 0, "cpu")
    settings = getattr(scale, method)
    assert settings.training.mixed_precision == "bf16"
    assert settings.compile
    assert settings.channels_last
    small = replace(
        settings,
        network="resnet8-7x7",
        clean_epochs=1,
        adversarial_epochs=1,
        validation=0.2,
        attack=replace(settings.attack, steps=1),
        training=replace(settings.training, batch_size=64),
    )
    made = pretrain(digits, THREAT, small, tmp_path)
    assert captured
    assert all(torch.isfinite(value).all() for value in made.encoder.state_dict().values())
    assert made.history["adversarial"][0]["loss"] > 0


def test_contrastive_training_saves_an_encoder_without_a_head(digits: LabelledImages, tmp_path: Path) -> None:
    contrastive = replace(SETTINGS, method="contrastive", adversarial_epochs=1, optimiser="lars")
    made = pretrain(digits, THREAT, contrastive, tmp_path)
    assert made.head is None
    assert not (tmp_path / "head.safetensors").exists()
    assert load_backbone(tmp_path / "encoder")(digits.images[:2]).shape == (2, 64)
    assert [path.name for path in sorted((tmp_path / "filters").iterdir())] == [
        "0-initial-0000.safetensors",
        "1-clean-0001.safetensors",
        "2-adversarial-0001.safetensors",
    ]


def test_paper_settings_are_table_3() -> None:
    supervised, contrastive = paper_settings("supervised"), paper_settings("contrastive")
    assert (supervised.clean_epochs, supervised.adversarial_epochs) == (200, 200)
    assert (contrastive.clean_epochs, contrastive.adversarial_epochs) == (200, 1200)
    assert (supervised.training.batch_size, contrastive.training.batch_size) == (128, 256)
    assert (supervised.attack.steps, contrastive.attack.steps) == (10, 20)
    assert (supervised.attack.random_start, contrastive.attack.random_start) == (False, True)
    assert {supervised.training.learning_rate, contrastive.training.learning_rate} == {0.1}
    assert contrastive.warmup == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "byol"}, "method must be one of supervised, trades, contrastive, got byol"),
        ({"clean_epochs": -1}, "clean_epochs must be at least 0, got -1"),
        ({"clean_epochs": 0, "adversarial_epochs": 0}, "clean_epochs must be above 0"),
        ({"optimiser": "adam"}, "optimiser must be sgd or lars"),
    ],
)
def test_wrong_settings_are_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]
