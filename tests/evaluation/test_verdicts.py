"""The harness trusts no attack, counts the worst case, survives want of memory and interruption."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from heirloom import InputError, Threat
from heirloom.attacks.named import Attack
from heirloom.data.images import load_images
from heirloom.evaluation.chunks import split_evenly
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.runtime import distributed

from .subjects import Linear, linear

THREAT = Threat("Linf", 0.06)


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    test = load_images("digits").test
    return test.images[:120], test.labels[:120]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return linear()


def same(first: Evaluation, second: Evaluation) -> bool:
    columns = first.correct.keys() == second.correct.keys()
    return columns and all(torch.equal(first.correct[c], second.correct[c]) for c in first.correct)


def test_columns_only_fall_and_adversarial_images_stay_inside(model: nn.Module, data: tuple) -> None:
    found = evaluate(model, data, THREAT, ["fgsm", "pgd-5", "pgd-10"], batch_size=50)
    columns = list(found.correct)
    assert columns == ["clean", "fgsm", "pgd-5", "pgd-10"]
    for before, after in pairwise(columns):
        assert not (found.correct[after] & ~found.correct[before]).any()
    assert found.accuracy("pgd-10").value < found.accuracy("clean").value
    assert THREAT.distance(found.x_adv, data[0]).max() <= THREAT.eps
    logits = model(found.x_adv)
    right = logits.argmax(1) == data[1]
    assert torch.equal(right, found.correct["pgd-10"])
    assert torch.equal(found.margin < 0, found.correct["clean"])


def test_a_linear_models_verdicts_are_the_closed_form(model: nn.Module) -> None:
    test = load_images("digits").test
    # away from 0 and 1 no pixel is clamped, and the worst case of w_k - w_y over the ball is its L1 norm
    x, y = 0.2 + 0.6 * test.images, test.labels
    eps = 0.03
    weight = model.layer.weight
    logits = model(x)
    gaps = logits - logits.gather(1, y[:, None])
    reach = eps * (weight[None] - weight[y][:, None]).abs().sum(2)
    worst = (gaps + reach).scatter(1, y[:, None], -torch.inf).amax(1)
    found = evaluate(model, (x, y), Threat("Linf", eps), ["pgd-20", "strong"]).correct["strong"]
    # what no perturbation can break must stand; untargeted ascent may settle on the second-best wrong class
    assert found[worst < -1e-4].all()
    assert found[worst > 1e-4].float().mean() <= 0.02


def _outside(model, x, y, threat, generator):  # type: ignore[no-untyped-def]
    return 1 - x


def _not_a_number(model, x, y, threat, generator):  # type: ignore[no-untyped-def]
    return torch.full_like(x, torch.nan)


def _vandal(model, x, y, threat, generator):  # type: ignore[no-untyped-def]
    model.train()
    x.zero_()
    return x


def test_no_attack_is_trusted(model: nn.Module, data: tuple) -> None:
    attacks = [Attack("outside", (_outside,)), Attack("nan", (_not_a_number,)), Attack("vandal", (_vandal,))]
    found = evaluate(model, data, THREAT, attacks)
    assert found.repaired["outside"] == int(found.correct["clean"].sum())
    assert found.repaired["nan"] == int(found.correct["outside"].sum())
    # pixels that are not a number go back to the clean image, on which the model is right
    assert torch.equal(found.correct["nan"], found.correct["outside"])
    assert THREAT.distance(found.x_adv, data[0]).max() <= THREAT.eps
    assert not model.layer.weight.isnan().any()


def test_wrong_shape_from_an_attack(model: nn.Module, data: tuple) -> None:
    short = Attack("short", (lambda model, x, y, threat, generator: x[:, :, :4],))
    with pytest.raises(InputError, match=r"attack short must be one that returns images of shape .*, got"):
        evaluate(model, data, THREAT, [short])


class Cramped(Linear):
    """Runs out of memory above ``most`` examples, as a GPU would."""

    most = 20

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def cramped(model: nn.Module) -> Cramped:
    twin = Cramped()
    twin.load_state_dict(model.state_dict())
    return twin


def test_out_of_memory_halves_the_batch_and_is_repeatable(model: nn.Module, data: tuple) -> None:
    found = evaluate(cramped(model), data, THREAT, ["pgd-5"], batch_size=64)
    assert found.batch == 16
    assert same(found, evaluate(cramped(model), data, THREAT, ["pgd-5"], batch_size=64))
    roomy = evaluate(model, data, THREAT, ["pgd-5"], batch_size=64)
    assert torch.equal(found.correct["clean"], roomy.correct["clean"])


def test_a_halved_batch_is_remembered_over_a_resume(model: nn.Module, data: tuple, tmp_path: Path) -> None:
    settings = {"batch_size": 50, "folder": tmp_path}
    whole = evaluate(cramped(model), data, THREAT, ["pgd-5"], **settings)
    files = sorted(tmp_path.rglob("*.safetensors"))
    for file in files[len(files) // 2 :]:
        file.unlink()
    again = evaluate(cramped(model), data, THREAT, ["pgd-5"], resume=True, **settings)
    assert same(whole, again)
    assert torch.equal(whole.x_adv, again.x_adv)
    assert whole.batch == again.batch == 13


def test_out_of_memory_for_one_image_is_one_sentence(model: nn.Module, data: tuple) -> None:
    twin = cramped(model)
    twin.most = 2  # the first look at the model takes two
    attack = Attack("two", (lambda model, x, y, threat, generator: model(x.repeat(3, 1, 1, 1)),))
    with pytest.raises(
        InputError, match="memory of cpu must be enough for one image under two, got none left"
    ):
        evaluate(twin, data, THREAT, [attack], batch_size=8)


def test_where_processes_go_in_step_none_halves_alone(
    model: nn.Module, data: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "are_in_step", lambda: True)
    with pytest.raises(InputError, match="batch_size must be below 64, for which a process had no memory"):
        evaluate(cramped(model), data, THREAT, ["pgd-5"], batch_size=64)


def test_other_runtime_errors_pass_through(model: nn.Module, data: tuple) -> None:
    def broken(*_):  # type: ignore[no-untyped-def]
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        evaluate(model, data, THREAT, [Attack("broken", (broken,))])


@pytest.mark.parametrize(("length", "limit"), [(1, 1), (10, 3), (64, 16), (7, 100), (5, 1)])
def test_split_evenly_keeps_order_and_the_limit(length: int, limit: int) -> None:
    pieces = split_evenly(torch.arange(length), limit)
    assert torch.equal(torch.cat(pieces), torch.arange(length))
    assert max(map(len, pieces)) <= limit


class Noisy(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits + 2 * torch.randn_like(logits)


def test_a_randomised_models_verdicts_are_repeatable_and_global_state_is_left(
    model: nn.Module, data: tuple
) -> None:
    twin = Noisy()
    twin.load_state_dict(model.state_dict())
    before = torch.random.get_rng_state()
    found = evaluate(twin, data, THREAT, ["pgd-3"])
    assert torch.equal(before, torch.random.get_rng_state())
    torch.rand(7)  # the caller's own draws change nothing
    assert same(found, evaluate(twin, data, THREAT, ["pgd-3"]))
    assert not same(found, evaluate(twin, data, THREAT, ["pgd-3"], seed=1))


def test_mode_is_restored(model: nn.Module, data: tuple) -> None:
    model.train()
    evaluate(model, data, THREAT, ["fgsm"])
    assert model.training
    model.eval()


def test_low_precision_attacks_have_float32_verdicts_and_are_no_weaker(model: nn.Module, data: tuple) -> None:
    exact = evaluate(model, data, THREAT, ["pgd-10"])
    fast = evaluate(model, data, THREAT, ["pgd-10"], attack_dtype=torch.bfloat16)
    assert fast.x_adv.dtype == torch.float32
    assert torch.equal(model(fast.x_adv).argmax(1) == data[1], fast.correct["pgd-10"])
    # linear: both reach the same corner of the box but for ties of rounding
    assert (exact.correct["pgd-10"] != fast.correct["pgd-10"]).float().mean() <= 0.02


@pytest.mark.parametrize("wrong", ["bfloat16", torch.int8])
def test_a_wrong_attack_dtype_is_one_sentence_and_writes_nothing(
    model: nn.Module, data: tuple, tmp_path: Path, wrong: object
) -> None:
    with pytest.raises(InputError, match=r"attack_dtype must be (None or )?a (floating )?torch\.dtype, got"):
        evaluate(model, data, THREAT, ["fgsm"], attack_dtype=wrong, folder=tmp_path / "v")  # type: ignore[arg-type]
    assert not (tmp_path / "v").exists()


def test_where_the_copys_error_might_decide_the_model_itself_is_attacked(
    model: nn.Module, data: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Off(nn.Module):
        """The true class's logit is wrong by ``ERROR``."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = model(x)
            return logits + ERROR * nn.functional.one_hot(logits.argmax(1), logits.shape[1])

    ERROR, attacked = 0.5, []

    def nothing(network: nn.Module, x: torch.Tensor, *rest: object) -> torch.Tensor:
        attacked.append((network.model, len(x)))  # what the harness counts passes of
        return x

    copy = Off()
    monkeypatch.setattr("heirloom.attacks.engine.for_the_passes.folded", lambda *given: copy)
    found = evaluate(model, data, THREAT, [Attack("nothing", (nothing,))])
    margins = found.margin[found.correct["clean"]]
    doubtful = int((margins > -4 * ERROR).sum())
    assert 0 < doubtful < len(margins)
    assert attacked == [(copy, len(margins)), (model, doubtful)]


def test_stored_verdicts_are_used_and_damaged_ones_measured_again(
    model: nn.Module, data: tuple, tmp_path: Path
) -> None:
    settings = {"batch_size": 40, "folder": tmp_path / "verdicts"}
    whole = evaluate(model, data, THREAT, ["pgd-5", "pgd-10"], **settings)
    files = sorted((tmp_path / "verdicts").rglob("*.safetensors"))
    stamps = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    files[-1].write_bytes(b"torn")
    again = evaluate(model, data, THREAT, ["pgd-5", "pgd-10"], resume=True, **settings)
    assert same(whole, again)
    assert torch.equal(whole.x_adv, again.x_adv)
    changed = [file for file in files if file.stat().st_mtime_ns != stamps[file]]
    assert changed == [files[0], files[-1]]


@pytest.mark.parametrize("change", ["model", "data", "seed", "eps"])
def test_resume_refuses_another_runs_folder(
    model: nn.Module, data: tuple, tmp_path: Path, change: str
) -> None:
    evaluate(model, data, THREAT, ["fgsm"], folder=tmp_path)
    images, labels = data
    other = Linear() if change == "model" else model
    images = images[:100] if change == "data" else images
    threat = Threat("Linf", 0.061) if change == "eps" else THREAT
    with pytest.raises(InputError, match=f"resume must be of the run in .*, got another .*{change}"):
        evaluate(
            other,
            (images, labels[: len(images)]),
            threat,
            ["fgsm"],
            seed=int(change == "seed"),
            folder=tmp_path,
            resume=True,
        )


def test_wrong_inputs_are_refused_in_one_sentence(model: nn.Module, data: tuple) -> None:
    images, labels = data
    with pytest.raises(InputError, match="labels must be as many as images"):
        evaluate(model, (images, labels[:3]), THREAT, ["fgsm"])
    with pytest.raises(InputError, match="labels must be class indices from 0 to 9"):
        evaluate(model, (images, labels + 5), THREAT, ["fgsm"])
    with pytest.raises(InputError, match="attack"):
        evaluate(model, data, THREAT, ["no-such-attack"])
    with pytest.raises(InputError, match="attacks must be different"):
        evaluate(model, data, THREAT, ["fgsm", "fgsm"])
    with pytest.raises(InputError, match="model output must be logits"):
        evaluate(nn.Identity(), data, THREAT, ["fgsm"])
