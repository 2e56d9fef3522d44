"""A small black-box search: what a few hundred queries find without any gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from heirloom.evaluation.chunks import margins_of
from heirloom.threat import Threat


def random_search(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator, queries: int
) -> Tensor:
    """Square Attack's idea (Andriushchenko et al., ECCV 2020) in its simplest form.

    From vertical stripes at the ball's surface, one square of pixels after another is pushed to one side in
    each channel, and kept where the margin grows; the squares shrink from half the image to one pixel. For L2
    and L1 the candidate is projected into the ball. An example costs at most ``queries`` forward passes.

    Returns:
        the best images found (N, C, H, W), inside the threat set.
    """
    size, channels = x.shape[-1], x.shape[1]
    reach = threat.eps if threat.norm == "Linf" else 0.5
    stripes = _signs((len(x), channels, 1, size), generator, x)
    best = threat.project(x + reach * stripes, x)
    value = margins_of(model, best, y)
    for query in range(queries - 1):
        left = (value < 0).nonzero().flatten()
        if not len(left):
            break
        side = max(1, round(0.5 * size * (1 - query / queries) ** 2))
        candidate = best[left].clone()
        row, column = torch.randint(
            0, size - side + 1, (2,), generator=generator, device=generator.device
        ).tolist()
        pushed = x[left, :, row : row + side, column : column + side] + reach * _signs(
            (len(left), channels, 1, 1), generator, x
        )
        candidate[:, :, row : row + side, column : column + side] = pushed
        candidate = threat.project(candidate, x[left])
        found = margins_of(model, candidate, y[left])
        better = ~(found <= value[left])
        best[left[better]], value[left[better]] = candidate[better], found[better]
    return best


def _signs(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    drawn = torch.randint(0, 2, shape, generator=generator, device=generator.device)
    return (2 * drawn - 1).to(like)
