"""The attacker's view on networks whose gradient is known."""

import pytest
import torch
from torch import Tensor, nn

from heirloom import InputError
from heirloom.analysis.attacker_view import active_atoms, attacker_view
from heirloom.theory.sparse_coding.bounds import lemma_4_2
from heirloom.theory.sparse_coding.built import built_network
from heirloom.theory.sparse_coding.model import random_dictionary


class TwoClasses(nn.Module):
    """Logits (f, 0) of a gate network f in the basis M."""

    def __init__(self, W: Tensor, b: float) -> None:
        super().__init__()
        self.W, self.b = nn.Parameter(W), b

    def forward(self, x: Tensor) -> Tensor:
        v = x.flatten(1) @ self.W
        f = torch.where(v.abs() >= self.b, v, 0.0).sum(1)
        return torch.stack([f, torch.zeros_like(f)], 1)


@pytest.mark.parametrize("m", [1, 4])
def test_it_is_lemma_4_2s_ratio_on_a_gate_network(m: int) -> None:
    generator = torch.Generator().manual_seed(m)
    M = random_dictionary(20, generator)
    U = built_network(20, 100, m, generator, "grouped" if m > 1 else "exact").dense()
    x = torch.zeros(6, 20)
    for row in range(6):
        x[row, torch.randperm(20, generator=generator)[:3]] = torch.tensor([0.5, 0.7, 0.9])
    bounds = lemma_4_2(U, torch.ones(100), x, 1e-4)
    images = (x @ M.T, torch.zeros(6, dtype=torch.long))
    view = attacker_view(TwoClasses(M @ U, 1e-4).eval(), images, M.T, atoms=3)
    assert torch.allclose(1 - view.off_span, (bounds.lower / bounds.middle).square(), atol=1e-4)
    assert (view.off_span < 1e-4).all() == (m == 1)


def test_matching_pursuit_finds_the_features_that_made_the_image() -> None:
    M = random_dictionary(12, torch.Generator().manual_seed(0))
    x = torch.zeros(2, 12)
    x[0, [1, 5]], x[1, [2, 9]] = torch.tensor([0.4, -0.9]), torch.tensor([1.0, 0.2])
    found = active_atoms(x @ M.T, 3.0 * M.T, 2)
    assert [sorted(row) for row in found.tolist()] == [[1, 5], [2, 9]]


def test_a_linear_head_has_its_margin_and_reach_in_closed_form() -> None:
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]]))
        head.bias.zero_()
    x = torch.tensor([[0.5, 0.25, 0.0, 0.5]])
    view = attacker_view(head, (x, torch.tensor([0])), torch.eye(4), atoms=2)
    assert view.margin.item() == pytest.approx(1.5)
    assert view.reach.item() == pytest.approx(1.5 / 4)
    # gradient (1, 2, 0, 1); the two largest entries of x are the first and the last
    assert view.off_span.item() == pytest.approx(1 - 2 / 6, abs=1e-6)


@pytest.mark.parametrize(
    ("dictionary", "atoms", "said"), [(torch.eye(3), 2, "dictionary"), (torch.eye(4), 5, "atoms")]
)
def test_wrong_input_is_told(dictionary: Tensor, atoms: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        attacker_view(nn.Linear(4, 2), (torch.rand(1, 4), torch.tensor([0])), dictionary, atoms=atoms)
