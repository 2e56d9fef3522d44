"""Planted broken defences: each looks robust to some attack, none is, and the audit must say why.

All are small nets for the embedded 8x8 digits, made by a function without arguments in seconds, so
``heirloom evaluate --model heirloom.evaluation.broken:pixel_quantiser --data digits --eps 0.15`` shows one.
``DEFENCES`` lists them all; ``SOUND`` the three models on which the audit must stay silent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from heirloom.evaluation.broken.base import THREAT, adversarial_net, clean_net, linear_net
from heirloom.evaluation.broken.defences import (
    detached_smoothing,
    jpeg_rounding,
    noise_injection,
    optimising_purifier,
    pixel_quantiser,
    random_logit_scale,
    random_resize_pad,
    saturated_logits,
    softmax_output,
    tiny_gradients,
    train_mode_batch_norm,
    vit_mae_random_mask,
    winners_take_all,
)
from heirloom.evaluation.broken.inconsistent import (
    batch_centring,
    call_parity,
    dropout_left_on,
    fixed_seed_noise,
    gradient_mode_switch,
    image_seeded_noise,
    memo_cache,
    position_dependent,
    test_time_statistics,
)
from heirloom.evaluation.broken.misleading import (
    argmax_logits,
    counter_attack,
    float16_overflow,
    grey_levels,
    high_temperature,
    nan_gradients,
    nearest_neighbour_vote,
    numpy_resize,
    reversed_gradient,
    saturated_sigmoid,
    straight_through_with_stops,
)
from heirloom.evaluation.broken.stand_ins import (
    Expected,
    FixedStatistics,
    Neighbours,
    StraightThrough,
    Undefended,
    blind,
    first,
    itself,
)

__all__ = [
    "DEFENCES",
    "SOUND",
    "THREAT",
    "Planted",
    "adversarial_net",
    "argmax_logits",
    "batch_centring",
    "call_parity",
    "clean_net",
    "counter_attack",
    "detached_smoothing",
    "dropout_left_on",
    "fixed_seed_noise",
    "float16_overflow",
    "gradient_mode_switch",
    "grey_levels",
    "high_temperature",
    "image_seeded_noise",
    "jpeg_rounding",
    "linear_net",
    "memo_cache",
    "nan_gradients",
    "nearest_neighbour_vote",
    "noise_injection",
    "numpy_resize",
    "optimising_purifier",
    "pixel_quantiser",
    "position_dependent",
    "random_logit_scale",
    "random_resize_pad",
    "reversed_gradient",
    "saturated_logits",
    "saturated_sigmoid",
    "softmax_output",
    "straight_through_with_stops",
    "test_time_statistics",
    "tiny_gradients",
    "train_mode_batch_norm",
    "vit_mae_random_mask",
    "winners_take_all",
]


@dataclass(frozen=True)
class Planted:
    """A broken defence, what the audit must name, and a way around it.

    Attributes:
        make: the factory; its docstring says what is wrong.
        check: the mechanism that must fail. ``also``: mechanisms that may fail with it, no other.
        says: words that the cause must hold.
        stand_in: of the model, what an attacker who knows the defence would differentiate instead of it.
    """

    make: Callable[[], nn.Module]
    check: str
    says: str
    stand_in: Callable[[nn.Module], nn.Module]
    also: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def what(self) -> str:
        return (self.make.__doc__ or "").splitlines()[0].rstrip(".")


DEFENCES: tuple[Planted, ...] = (
    Planted(pixel_quantiser, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(jpeg_rounding, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(detached_smoothing, "gradients", "detached or not differentiable", StraightThrough),
    Planted(tiny_gradients, "gradients", "vanishes", first),
    Planted(winners_take_all, "gradient-agreement", "misleads", itself),
    Planted(saturated_logits, "saturation", "so large", first),
    Planted(softmax_output, "probabilities", "probability distribution", first, ("gradients",)),
    Planted(optimising_purifier, "inner-optimisation", "computes gradients itself", blind),
    Planted(train_mode_batch_norm, "eval-mode", "train mode", FixedStatistics),
    Planted(random_resize_pad, "randomness", "random", Expected),
    Planted(noise_injection, "randomness", "random", Expected),
    Planted(random_logit_scale, "randomness", "rescales the logits", first),
    Planted(vit_mae_random_mask, "randomness", "ViT-MAE masks", Expected),
    Planted(memo_cache, "state", "cache", Undefended, ("quantisation", "gradients", "backward")),
    Planted(call_parity, "state", "calls", itself, ("gradient-mode", "batch", "backward", "gradients")),
    Planted(test_time_statistics, "state", "average", itself, ("batch",)),
    Planted(batch_centring, "batch", "the other images", Undefended),
    Planted(position_dependent, "batch", "its place", itself),
    Planted(fixed_seed_noise, "batch", "a seed that it sets itself", itself),
    Planted(gradient_mode_switch, "gradient-mode", "requires a gradient", Undefended),
    Planted(dropout_left_on, "eval-mode", "dropout", Expected),
    Planted(image_seeded_noise, "randomness", "made of the image itself", Undefended),
    Planted(nan_gradients, "not-finite", "backward pass of", Undefended),
    Planted(float16_overflow, "not-finite", "overflow in float16", Undefended),
    Planted(saturated_sigmoid, "saturation", "activation is saturated", Undefended, ("gradients",)),
    Planted(high_temperature, "saturation", "so small", first),
    Planted(
        argmax_logits, "discrete-output", "a decision or a vote", Undefended, ("quantisation", "gradients")
    ),
    Planted(nearest_neighbour_vote, "discrete-output", "topk", Neighbours, ("quantisation", "gradients")),
    Planted(grey_levels, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(straight_through_with_stops, "gradients", "blocks the gradient", Undefended),
    Planted(numpy_resize, "gradients", "NumPy", Undefended),
    Planted(reversed_gradient, "backward", "custom backward pass", Undefended),
    Planted(counter_attack, "inner-optimisation", "computes gradients itself", blind),
)

SOUND: tuple[Callable[[], nn.Module], ...] = (clean_net, adversarial_net, linear_net)
