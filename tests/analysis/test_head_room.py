"""Head room where it is known exactly: an encoder that is straight."""

import torch
from torch import nn

from heirloom.analysis.head_room import first_order_standing, head_room, linearised
from heirloom.attacks import pgd
from heirloom.threat import Threat


def _straight(seed: int) -> tuple[nn.Module, nn.Linear, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    encoder, head = nn.Sequential(nn.Flatten(), nn.Linear(6, 4)), nn.Linear(4, 3)
    for p in [*encoder.parameters(), *head.parameters()]:
        p.data = torch.randn(p.shape, generator=generator)
    encoder[1].bias.data = -0.5 * encoder[1].weight.data.sum(
        1
    )  # so that the pictures lie about all boundaries
    head.bias.data.zero_()
    x = 0.3 + 0.4 * torch.rand(60, 1, 2, 3, generator=generator)
    return encoder.eval(), head, (x, head(encoder(x)).argmax(1))


def test_on_a_straight_encoder_first_order_is_the_truth() -> None:
    encoder, head, (x, y) = _straight(0)
    for threat in (Threat("Linf", 0.05), Threat("L2", 0.1)):
        standing = first_order_standing(linearised(encoder, (x, y)), head, threat)
        model = nn.Sequential(encoder, head).eval()
        fooled = pgd(model, x, y, threat, steps=60, restarts=2, generator=torch.Generator().manual_seed(0))
        right = model(fooled).argmax(1) == y
        assert 0.2 < standing.double().mean() < 0.95
        assert (standing <= right).all()  # no attack breaks what stands
        assert (right & ~standing).sum() <= 2  # and it breaks the rest


def test_a_head_on_a_fragile_feature_leaves_room_and_a_sound_one_none() -> None:
    # one feature moves by 1 where its pixel moves by 1, the other by 50; both tell the classes apart
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    encoder[1].weight.data = torch.diag(torch.tensor([1.0, 50.0]))
    y = torch.arange(40) % 2
    x = torch.stack([0.3 + 0.4 * y, 0.5 + 0.02 * (y - 0.5)], 1)[:, None, None]
    found = []
    for weights in ([[0.0, -1.0], [0.0, 1.0]], [[-1.0, 0.0], [1.0, 0.0]]):
        head = nn.Linear(2, 2)
        head.weight.data = torch.tensor(weights)
        head.bias.data = -head(encoder(x)).mean(0).detach() + head.bias.data
        found.append(head_room(encoder, head, (x, y), (x, y), Threat("Linf", 0.1)))
    assert (found[0].clean, found[1].clean) == (0.0, 1.0)
    assert found[0].gap > 0.9
    assert found[1].gap == 0
