"""Certificates against models whose radius is known, an independent bound, and an interruption."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import nn

from heirloom import InputError
from heirloom.cli import app, common
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.certify import (
    ABSTAIN,
    Certificate,
    CertifySettings,
    certified_accuracy,
    certify,
    counts,
    largest_radius,
    lower_bound,
)
from heirloom.evaluation.certify_job import certify_job, certify_page
from heirloom.models.memory import at_most
from heirloom.results.schema import Summary
from heirloom.runtime.randomness import generator_of

Data = tuple[torch.Tensor, torch.Tensor]


class Half(nn.Module):
    """Two classes, divided by a hyperplane: the smoothed classifier is this one, its radius the distance to it."""

    def __init__(self) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.linspace(-1, 1, 16), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = (x.flatten(1) - 0.5) @ self.direction
        return torch.stack([side, -side], 1)

    def distance(self, x: torch.Tensor) -> torch.Tensor:
        return ((x.flatten(1) - 0.5) @ self.direction).abs() / self.direction.norm()


@pytest.fixture(scope="module")
def halves() -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(150, 1, 4, 4, generator=generator)
    return x, Half()(x).argmax(1)


def test_radii_of_a_linear_model_hold_within_the_binomial_bound(halves: Data) -> None:
    settings = CertifySettings(sigma=0.25, n=200, n0=20, alpha=0.05)
    found = certify(Half(), halves, settings)
    true = Half().distance(halves[0])
    kept = [one for one in found if one.predicted != ABSTAIN]
    too_far = sum(
        one.radius > float(r) for one, r in zip(found, true, strict=True) if one.predicted != ABSTAIN
    )
    wrong = sum(
        one.predicted != int(y) for one, y in zip(found, halves[1], strict=True) if one.predicted != ABSTAIN
    )
    assert too_far + wrong <= binom.ppf(0.999, len(found), settings.alpha)
    assert len(kept) > 100
    near = true.clamp_max(largest_radius(settings))
    tight = torch.tensor([one.radius for one in found]) > 0.4 * near
    assert float(tight.double().mean()) > 0.7  # not a bound that holds because it is nothing


def test_counts_are_those_of_the_known_probability(halves: Data) -> None:
    settings = CertifySettings(sigma=0.3, n=2000, batch_size=300)
    model, n = Half(), settings.n
    for number in range(5):
        image = halves[0][number]
        side = float(((image.flatten() - 0.5) @ model.direction) / model.direction.norm())
        probability = float(torch.distributions.Normal(0, 1).cdf(torch.tensor(side / settings.sigma)))
        count = int(counts(model, image, n, settings, number, "bound")[0])
        assert binomtest(count, n, probability).pvalue > 1e-4


@pytest.mark.parametrize("count", [0, 1, 57, 99, 100])
def test_lower_bound_is_clopper_and_pearsons(count: int) -> None:
    exact = binomtest(count, 100, alternative="greater").proportion_ci(0.999, method="exact").low
    assert lower_bound(count, 100, 0.001) == pytest.approx(exact, abs=1e-12)


def cohen(
    model: nn.Module, image: torch.Tensor, number: int, settings: CertifySettings
) -> tuple[int, float, int]:
    """CERTIFY as the paper's pseudo-code has it (Cohen et al. 2019, section 3.2.2), one noisy image at a time.

    In NumPy and scipy alone but for the model; (answer or -1, radius, count). Only the source of noise is shared.
    """

    def sample_under_noise(draws: int, purpose: str) -> np.ndarray:
        generator = generator_of(settings.seed, "certify", number, purpose)
        tally = np.zeros(10, dtype=int)
        for _ in range(draws):
            noise = torch.randn(image.shape, generator=generator).numpy()
            noisy = torch.from_numpy(image.numpy() + np.float32(settings.sigma) * noise)
            tally[int(np.argmax(model(noisy[None])[0].numpy()))] += 1
        return tally

    guess = int(np.argmax(sample_under_noise(settings.n0, "choose")))
    count = int(sample_under_noise(settings.n, "bound")[guess])
    exact = binomtest(count, settings.n, alternative="greater")
    low = exact.proportion_ci(confidence_level=1 - settings.alpha, method="exact").low
    if low > 0.5:
        return guess, settings.sigma * float(norm.ppf(low)), count
    return ABSTAIN, 0.0, count


@pytest.mark.parametrize("make", [broken.linear_net, broken.clean_net])
def test_counts_radii_and_abstentions_are_those_of_the_paper_s_pseudo_code(
    make: Callable[[], nn.Module],
) -> None:
    settings = CertifySettings(sigma=0.3, n=120, n0=20, alpha=0.01, seed=4, batch_size=50)
    test, model = load_images("digits").test, make()
    images, labels = test.images[:24], test.labels[:24]
    found = certify(model, (images, labels), settings)
    wanted = [cohen(model, image, number, settings) for number, image in enumerate(images)]
    assert [(one.predicted, one.count) for one in found] == [(guess, count) for guess, _, count in wanted]
    assert [one.radius for one in found] == pytest.approx([radius for _, radius, _ in wanted], abs=1e-9)
    assert 0 < sum(one.predicted == ABSTAIN for one in found) < len(found)


def test_certified_accuracy_counts_abstentions_as_wrong() -> None:
    found = [Certificate(1, 0.5, 90), Certificate(ABSTAIN, 0.0, 50), Certificate(0, 0.9, 99)]
    labels = torch.tensor([1, 1, 2])
    assert certified_accuracy(found, labels, 0.0).value == pytest.approx(1 / 3)
    assert certified_accuracy(found, labels, 0.5).value == pytest.approx(1 / 3)
    assert certified_accuracy(found, labels, 0.6).value == 0


def test_an_interrupted_run_goes_on_exactly(tmp_path: Path, halves: Data) -> None:
    settings = CertifySettings(sigma=0.25, n=60, n0=10)
    data = (halves[0][:20], halves[1][:20])
    whole, kept = certify(Half(), data, settings), tmp_path / "certificates.json"

    def stop(done: int, total: int) -> None:
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify(Half(), data, settings, kept=kept, report=stop)
    assert len(json.loads(kept.read_text())) == 8
    assert certify(Half(), data, settings, kept=kept) == whole


def test_batches_do_not_decide(halves: Data) -> None:
    one = counts(Half(), halves[0][0], 100, CertifySettings(batch_size=7), 0, "bound")
    assert torch.equal(one, counts(Half(), halves[0][0], 100, CertifySettings(batch_size=100), 0, "bound"))
    assert int(one.sum()) == 100
    seen: list[int] = []
    model, two = Half(), (halves[0][:2], halves[1][:2])
    whole = certify(model, two, CertifySettings())
    model.register_forward_pre_hook(lambda module, x: seen.append(len(x[0])))
    with at_most(5):
        assert certify(model, two, CertifySettings()) == whole
    assert max(seen) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"n": 0}, "n must be"),
        ({"n": 9}, "n must be at least 10 with alpha 0.001"),
        ({"alpha": 1.0}, "alpha must be"),
    ],
)
def test_wrong_settings_are_one_sentence(changes: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CertifySettings(**changes)  # type: ignore[arg-type]


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "certify",
        "--model",
        "heirloom.evaluation.broken:linear_net",
        "--data",
        "digits",
        "--sigma",
        "0.1",
    ]
    arguments += ["--n", "100", "--n0", "10", "--limit", "12", "--out", str(tmp_path)]
    assert common.run(app, arguments) == 0
    assert "smoothed classifier" in capsys.readouterr().out
    summary = Summary.read(tmp_path / "summary.json")
    row = summary.rows[0]
    columns = [row[name]["value"] for name in row if name.startswith("L2")]
    assert columns == sorted(columns, reverse=True)
    assert columns[0] > 0.5
    assert certify_page(summary) == (tmp_path / "report.html").read_text()
    assert common.run(app, arguments) == 2
    assert "--out must be a new folder unless" in capsys.readouterr().err
    assert common.run(app, [*arguments, "--resume", "--sigma", "0.2"]) == 2
    assert "settings.sigma" in capsys.readouterr().err
    assert common.run(app, [*arguments, "--resume"]) == 0
    assert Summary.read(tmp_path / "summary.json").rows == summary.rows


def test_a_random_model_is_seeded(halves: Data) -> None:
    images = load_images("digits").test.images[:1]
    settings = CertifySettings(sigma=0.2)
    once, again = (counts(broken.noise_injection(), images[0], 50, settings, 0, "bound") for _ in range(2))
    assert torch.equal(once, again)


def test_a_model_of_fewer_classes_than_the_labels_is_refused(tmp_path: Path) -> None:
    images = torch.rand(4, 1, 4, 4)
    with pytest.raises(InputError, match="labels must be class indices from 0 to 1"):
        certify_job(Half(), "half", (images, torch.arange(4)), CertifySettings(), tmp_path / "no")
    assert not (tmp_path / "no").exists()
