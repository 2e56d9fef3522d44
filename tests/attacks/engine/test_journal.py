"""An attack that is stopped again and again goes on where it was and ends as one that never was stopped."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heirloom import Threat
from heirloom.attacks.engine import journal as journals
from heirloom.attacks.engine.journal import Journal
from heirloom.attacks.engine.passes import Counted, Passes
from heirloom.attacks.named import Part, named_attack
from heirloom.runtime.randomness import generator_of


class StoppedError(Exception):
    """In place of a kill."""


class Stopping(nn.Module):
    """Small network, random if asked, that stops the process after so many calls."""

    def __init__(self, noise: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5))
        self.noise, self.calls_left = noise, -1

    def forward(self, x: Tensor) -> Tensor:
        if self.calls_left == 0:
            raise StoppedError
        self.calls_left -= 1
        out: Tensor = self.layers(x)
        return out + self.noise * torch.randn(out.shape) if self.noise else out


def subject(noise: float = 0.0) -> tuple[Stopping, Tensor, Tensor]:
    torch.manual_seed(3)
    model, x = Stopping(noise).eval().requires_grad_(False), torch.rand(7, 1, 6, 6)
    return model, x, model(x).argmax(1)


def attacked(
    part: Part, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, log: Journal
) -> tuple[Tensor, Passes]:
    counted, generator = Counted(model), generator_of("journal")
    torch.manual_seed(11)  # a random model's own draws, as the harness seeds them
    with log.of("one", counted, generator):
        return part(counted, x, y, threat, generator), counted.passes


CASES = [
    ("cascade", "Linf", 0.004, 40),
    ("apgd-t", "L2", 0.01, 12),
    ("apgd-t", "L1", 0.02, 12),
    ("strong", "Linf", 0.004, 9),
    ("fab-t", "L2", 0.01, 9),
    ("square-300", "Linf", 0.004, 9),
    ("multi-targeted-10", "Linf", 0.004, 13),
]


@pytest.mark.parametrize(("name", "norm", "eps", "calls"), CASES)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_stopped_after_every_few_calls_it_ends_with_the_same_images_and_passes(
    name: str,
    norm: str,
    eps: float,
    calls: int,
    noise: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journals, "WAIT", -1.0)
    monkeypatch.setattr(journals, "SHARE", 0)
    monkeypatch.setattr(journals, "write_tensors", unsynced)
    part, threat = named_attack(name).parts[-1], Threat(norm, eps)  # type: ignore[arg-type]
    model, x, y = subject(noise)
    whole, passes = attacked(part, model, x, y, threat, Journal(None))
    stops = 0
    while True:
        model.calls_left = calls
        try:
            found, counted = attacked(part, model, x, y, threat, Journal(tmp_path))
            break
        except StoppedError:
            stops += 1
            assert stops < 3000, "no progress"
    assert stops >= 1
    assert torch.equal(found, whole)
    assert counted == passes


def unsynced(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """As ``write_tensors``, without waiting for the disk."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata)


def test_a_damaged_record_and_those_of_another_chunk_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "WAIT", -1.0)
    part, threat = named_attack("pgd-20").parts[0], Threat("Linf", 0.004)
    model, x, y = subject()
    whole, passes = attacked(part, model, x, y, threat, Journal(tmp_path, "a chunk"))
    (record,) = tmp_path.rglob("*.safetensors")
    other, _ = attacked(part, model, x[:5], y[:5], threat, Journal(tmp_path, "another"))
    assert len(other) == 5
    record.write_bytes(record.read_bytes()[:100])
    found, again = attacked(part, model, x, y, threat, Journal(tmp_path, "a chunk"))
    assert torch.equal(found, whole)
    assert again == passes


def test_a_model_that_attacks_itself_within_a_step_is_part_of_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "WAIT", -1.0)
    threat, inner = Threat("Linf", 0.004), named_attack("pgd-3").parts[0]
    plain, x, y = subject()

    class Purifying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain = plain

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                label = self.plain(x).argmax(1)
            out: Tensor = self.plain(inner(self.plain, x, label, threat, generator_of("inner")))
            return out

    part = named_attack("pgd-5").parts[0]
    attacked(part, Purifying(), x, y, threat, Journal(tmp_path))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
