"""Every module that a model calls is in eval mode while it is called, and afterwards as it was."""

import pytest
import torch
from torch import nn
from torch.nn.modules import module as hooks

from heirloom.evaluation.eval_mode import forced, forced_throughout


class Closure(nn.Module):
    """Calls a dropout that it does not hold, and refuses single images."""

    def __init__(self) -> None:
        super().__init__()
        self.members = [nn.Dropout(0.5)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 1:
            raise ValueError("one image")
        return self.members[0](nn.Dropout(0.5)(x))  # type: ignore[no-any-return]


def test_what_a_model_calls_without_holding_it_is_in_eval_mode_meanwhile() -> None:
    x = torch.ones(8, 4)
    assert not torch.equal(forced(Closure())(x), x)
    model = forced_throughout(Closure())
    assert torch.equal(model(x), x)
    with pytest.raises(ValueError, match="one image"):
        model(x[:1])
    assert model.members[0].training  # type: ignore[index, union-attr]
    assert not hooks._global_forward_pre_hooks
