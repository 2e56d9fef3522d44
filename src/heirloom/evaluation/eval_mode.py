"""Eval mode for every module of a model, and for those that it calls without holding them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook


def is_training(module: nn.Module) -> bool:
    """Whether ``module`` is in train mode; a frozen script has no mode at all."""
    return bool(getattr(module, "training", False))


def forced(model: nn.Module) -> nn.Module:
    """``model`` with every module of it in eval mode, whatever its ``train()`` and ``eval()`` do."""
    for module in model.modules():
        if is_training(module):
            module.training = False
    return model


def forced_throughout(model: nn.Module) -> nn.Module:
    """:func:`forced`, and for as long as ``model`` is called every module that it calls.

    What lies in a list, a closure or a global is no child of the model, and neither is what is made at each call. Such
    modules are as they were after the call. ``model`` keeps two hooks: give a copy.
    """
    hooks, turned = list[Any](), list[nn.Module]()

    def turn(module: nn.Module, args: Any) -> None:
        if is_training(module):
            module.training = False
            turned.append(module)

    def before(module: nn.Module, args: Any) -> None:
        hooks.append(register_module_forward_pre_hook(turn))

    def after(module: nn.Module, args: Any, output: Any) -> None:
        hooks.pop().remove()
        while turned:
            turned.pop().training = True

    if not isinstance(model, torch.jit.ScriptModule):  # which takes no such hooks
        model.register_forward_pre_hook(before)
        model.register_forward_hook(after, always_call=True)
    return forced(model)
