"""Votes are told from the answers of stored images, however many images share one."""

import torch

from heirloom.evaluation.audit.stored import _votes


def test_a_few_stored_answers_are_no_votes() -> None:
    generator = torch.Generator().manual_seed(0)
    stored = torch.randn(12, 10, generator=generator)  # of twelve images, the nearest of sixty
    assert not _votes(stored[torch.randint(12, (60,), generator=generator)])
    counts = torch.multinomial(torch.ones(60, 10), 16, replacement=True, generator=generator)
    shares = torch.nn.functional.one_hot(counts, 10).float().mean(1)
    assert _votes(shares)
    assert _votes(shares - 1e-4 * torch.arange(10))  # ties broken by a trace
