"""Two processes by torchrun defend and probe as one does: the same weights but for float32 drift, the same verdicts."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heirloom import Summary, Threat
from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.defence.job import defend
from heirloom.defence.saved import DefendedModel
from heirloom.defence.settings import DefendSettings, DistilSettings, PreprocessorSettings
from heirloom.heads.job import probe_job
from heirloom.heads.linear import HeadSettings
from heirloom.heads.probe import ProbeSettings
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.runtime.files import read_json, read_tensors
from heirloom.training.inner_attack import InnerAttack
from heirloom.training.loop import TrainingSettings

ROOT = Path(__file__).parents[2]
THREAT = Threat("Linf", 0.15)
METHODS = ("feature-stability", "distil", "cropd")
TRAINING = TrainingSettings(epochs=1, batch_size=32, learning_rate=1e-3, checkpoint_seconds=0.0)


def encoder() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh())


def images() -> ImageSource:
    digits = load_images("digits")
    return ImageSource("digits", digits.train.limit(160), digits.test.limit(40))


def defended(out: Path, progress: Any = None) -> None:
    settings = DefendSettings(
        threat=THREAT,
        defence=PreprocessorSettings(distil=DistilSettings(width=4), training=TRAINING),
        compare=METHODS[:-1],
        head=HeadSettings(epochs=2),
        attacks=("pgd-3",),
        audit_examples=0,
        curve_images=0,
    )
    frozen = load_encoder(EncoderSettings("tests.defence.test_processes:encoder"))
    defend(frozen, images(), settings, out, resume=True, progress=progress)


def probed(out: Path) -> None:
    settings = ProbeSettings(
        head=HeadSettings(epochs=2),
        adversarial=replace(TRAINING, learning_rate=0.1, weight_decay=0.0),
        attack=InnerAttack(steps=2),
        validation=0.2,
    )
    frozen = load_encoder(EncoderSettings("tests.defence.test_processes:encoder"))
    probe_job(frozen, images(), THREAT, settings, ("pgd-3",), out, adversarial=True, resume=True)


def saved_vit(folder: Path) -> Path:
    from transformers import CLIPImageProcessor, ViTConfig, ViTModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(ViTConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(folder)
    CLIPImageProcessor(size={"height": 8, "width": 8}, crop_size=8).save_pretrained(folder)
    return folder


def sharded(vit: Path, out: Path, fsdp: bool) -> dict[str, Any]:
    """A defence of the ViT and its evaluation; before, features and gradients of five images."""
    from heirloom.evaluation.job import evaluate_job
    from heirloom.evaluation.settings import EvaluationSettings
    from heirloom.runtime import distributed

    def passed(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        features = module(x)
        return features.detach(), torch.autograd.grad(features.square().sum(), x)[0]

    frozen = load_encoder(EncoderSettings(str(vit)))
    x = images().test.images[:5]
    whole, before = sum(p.numel() for p in frozen.parameters()), passed(frozen, x)
    settings = DefendSettings(
        threat=THREAT,
        defence=PreprocessorSettings(method="feature-stability", training=TRAINING),
        compare=("identity",),
        head=HeadSettings(epochs=2),
        attacks=("pgd-3",),
        audit_examples=0,
        curve_images=0,
        fsdp=fsdp,
    )
    defend(frozen, images(), settings, out / "defence", resume=True)
    held = sum(getattr(p, "_local_tensor", p).numel() for p in frozen.parameters())
    apart = [float((a - b).abs().max()) for a, b in zip(passed(frozen, x), before, strict=True)]
    evaluate_job(
        DefendedModel.from_pretrained(out / "defence"),
        images().test.pair,
        EvaluationSettings("vit", "digits", THREAT, ("pgd-3",), audit_examples=8 * fsdp, fsdp=fsdp),
        out / "evaluation",
        resume=True,
    )
    return {"share": held / whole, "apart": apart, "in_step": distributed.are_in_step()}


TOGETHER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    from tests.defence.test_processes import defended, probed, sharded
    out = Path(sys.argv[2])
    class Cut(Exception): pass
    def cut(stage, done, total, words):
        if stage == "train distil" and done == 2:
            raise Cut
    try:
        defended(out / "cut", cut)
    except Cut:
        pass
    defended(out / "defence")
    probed(out / "probe")
    import json, os
    found = sharded(out / "vit", out / "sharded", True)
    (out / f"sharded-{os.environ['RANK']}.json").write_text(json.dumps(found))
"""


def _apart(one: Path, two: Path) -> float:
    """The largest difference of weights, beside the largest of their tensor where that is above 1: a head behind
    features that hardly differ has weights in the hundreds."""
    (a, _), (b, _) = read_tensors(one), read_tensors(two)
    assert a.keys() == b.keys()
    apart = {name: float((a[name].float() - b[name].float()).abs().max()) for name in a}
    return max(apart[name] / max(1.0, float(a[name].float().abs().max())) for name in a)


@pytest.mark.slow
def test_two_processes_defend_and_probe_as_one(tmp_path: Path) -> None:
    """CRoPD's negatives, the batch's BatchNorm and feature stability's mean are those of both processes' images; a run
    that two began is finished by one."""
    vit = saved_vit(tmp_path / "two" / "vit")
    script = tmp_path / "together.py"
    script.write_text(textwrap.dedent(TOGETHER))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, str(script), str(ROOT), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    defended(tmp_path / "one" / "defence")
    defended(tmp_path / "two" / "cut")
    probed(tmp_path / "one" / "probe")
    one, two = tmp_path / "one" / "defence", tmp_path / "two"
    expected = Summary.read(one / "summary.json")
    for other in (two / "defence", two / "cut"):
        for method in METHODS:
            weights = f"work/{method}/model.safetensors"
            assert _apart(one / weights, other / weights) < 1e-3, method
        found = Summary.read(other / "summary.json")
        assert found.rows == expected.rows
        for mine, theirs in zip(expected.details["defences"], found.details["defences"], strict=True):
            assert mine["right"] == theirs["right"]
            losses = [[entry["loss"] for entry in detail["history"]] for detail in (mine, theirs)]
            assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    heads = "work/checkpoints/head.safetensors"
    assert _apart(tmp_path / "one" / "probe" / heads, two / "probe" / heads) < 1e-3
    figures = [Summary.read(place / "probe" / "summary.json").rows for place in (tmp_path / "one", two)]
    assert figures[0] == figures[1]
    _as_one_process(vit, tmp_path)


def _as_one_process(vit: Path, folder: Path) -> None:
    """Weights spread over two processes: each holds half, features, gradients, defence and verdicts are the same."""
    found = [read_json(folder / "two" / f"sharded-{rank}.json") for rank in (0, 1)]
    assert all(0.4 < each["share"] < 0.6 for each in found)
    assert sum(each["share"] for each in found) == pytest.approx(1, abs=0.1)
    assert all(max(each["apart"]) < 1e-5 for each in found)
    sharded(vit, folder / "plain", False)
    for part in ("defence", "evaluation"):
        one, two = (Summary.read(folder / kind / part / "summary.json") for kind in ("plain", "two/sharded"))
        assert one.rows == two.rows
    assert (
        _apart(folder / "plain/defence/model.safetensors", folder / "two/sharded/defence/model.safetensors")
        < 1e-3
    )
    facts = [read_json(folder / kind / "defence/work/run.json")["facts"] for kind in ("plain", "two/sharded")]
    assert facts[0] == facts[1]  # begun by either, finished by either
