"""Images of an evaluation that are read when they are asked for: those of the fooled from the disk, the clean ones."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from heirloom import Threat
from heirloom.data.labelled import ImageSource
from heirloom.evaluation.adversarial_images import AdversarialImages
from heirloom.evaluation.verdicts import evaluate
from heirloom.models.memory import at_most, at_once, bytes_per_image, fitting
from heirloom.runtime.files import write_tensors


@pytest.mark.parametrize("kept", [False, True])
def test_each_example_has_its_own_image(kept: bool, tmp_path: Path) -> None:
    clean = torch.rand(10, 1, 4, 4)
    images, expected = AdversarialImages(clean), clean.clone()
    for number, index in enumerate(
        [torch.tensor([7, 2]), torch.tensor([], dtype=torch.long), torch.tensor([0])]
    ):
        made = torch.rand(len(index), 1, 4, 4)
        write_tensors(tmp_path / f"{number}.safetensors", {"x_adv": made})
        images.put(index, tmp_path / f"{number}.safetensors" if kept else made)
        expected[index] = made
    assert torch.equal(images[:], expected)
    assert torch.equal(images[torch.tensor([2, 1, 7])], expected[[2, 1, 7]])
    assert torch.equal(torch.cat(list(images.split(3))), expected)
    assert images.shape == tuple(expected.shape)


def test_verdicts_batch_by_batch_are_those_of_a_tensor(digits: ImageSource, tmp_path: Path) -> None:
    test = digits.test.limit(40)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    whole = evaluate(model, (test.images, test.labels), Threat("Linf", 0.1), ["pgd-10"], batch_size=16)
    found = evaluate(model, test.pair, Threat("Linf", 0.1), ["pgd-10"], batch_size=16, folder=tmp_path)
    assert isinstance(found.x_adv, AdversarialImages)
    assert torch.equal(found.x_adv[:], whole.x_adv[:])
    assert all(torch.equal(found.correct[name], right) for name, right in whole.correct.items())
    on_disk = 0
    for path in tmp_path.rglob("[0-9]*.safetensors"):
        with safe_open(path, framework="pt") as file:
            on_disk += file.get_slice("x_adv").get_shape()[0]
    fooled = whole.correct["clean"] & ~whole.correct["pgd-10"]
    assert on_disk == int(fooled.sum())  # of the fooled alone: a clean error is its own image


def test_how_many_images_fit_is_counted_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = torch.nn.Conv2d(3, 4, 3, padding=1)
    x = torch.rand(2, 3, 8, 8)
    assert bytes_per_image(layer, x) == 4 * 8 * 8 * 4  # one output of four channels in float32
    cpu = torch.device("cpu")
    monkeypatch.setattr("heirloom.models.memory.free_memory", lambda: 64 << 20)
    assert at_once(1, cpu) == 256
    assert at_once(1 << 20, cpu) == 16  # half of the free memory, twice for the backward pass
    assert at_once(1 << 40, cpu) == 1
    monkeypatch.setattr("heirloom.models.memory.free_memory", lambda: 1 << 50)
    assert at_once(32 << 20, cpu) == 8  # there is room for more, and 8 are faster
    monkeypatch.setattr("heirloom.models.memory.free_memory", lambda: None)
    assert at_once(1 << 20, cpu) == 256
    with at_most(3), at_most(None):
        assert fitting(layer, x) == 3  # what the user asked for
        assert fitting(layer, x, most=2) == 2
    assert fitting(layer, x) == 256
    assert at_once(1, cpu, image=4 * 3 * 224**2) == 16  # larger tensors are mapped anew each time
