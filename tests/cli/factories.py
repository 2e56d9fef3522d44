"""Factories that go wrong, for the command line to tell of."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluation.subjects import linear


def raises() -> nn.Module:
    raise RuntimeError("the weights are elsewhere")


class _Answers(nn.Module):
    """A linear classifier of digits whose answer is turned into something else."""

    def __init__(self, change: Callable[[Tensor], Any], inputs: int = 64) -> None:
        super().__init__()
        self.layer, self.change = nn.Linear(inputs, 10), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.layer(x.flatten(1)))


def a_tuple() -> nn.Module:
    return _Answers(lambda out: (out, out))


def a_dictionary() -> nn.Module:
    return _Answers(lambda out: {"logits": out})


def infinite() -> nn.Module:
    return _Answers(lambda out: out / 0)


def whole_numbers() -> nn.Module:
    return _Answers(lambda out: out.long())


def one_row() -> nn.Module:
    return _Answers(lambda out: out[:1])


def of_other_images() -> nn.Module:
    return _Answers(lambda out: out, inputs=192)


def raises_in_forward() -> nn.Module:
    def change(out: Tensor) -> Tensor:
        raise KeyError("no such key")

    return _Answers(change)


def of_double_precision() -> nn.Module:
    return _Answers(lambda out: out).double()


class _Casts(nn.Module):
    """Float64 inside, whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1).double()).float()


def that_casts_for_itself() -> nn.Module:
    return _Casts()


def no_module() -> Any:
    return "a text"


class _AmongOthers(nn.Module):
    """Twelve logits, those of the digits' classifier the last ten."""

    def __init__(self) -> None:
        super().__init__()
        self.digits = linear()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.digits(x)
        return torch.cat([found[:, :2] - 1, found], 1)


def among_others() -> nn.Module:
    return _AmongOthers()
