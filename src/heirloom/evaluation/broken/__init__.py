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
from heirloom.evaluation.broken.beyond import (
    backward_counter,
    drawn_once,
    fallback_when_odd,
    file_cache,
    known_images,
    locked_cache,
    module_hook,
    sixteen_bits,
    thermometer_code,
    vote_with_a_trace,
)
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
from heirloom.evaluation.broken.remembering import (
    by_its_hash,
    by_the_clock,
    cached_function,
    call_stack,
    centred_logits,
    class_cache,
    closure_counter,
    decimals,
    float16_backward,
    global_cache,
    half_rounded,
    late_defence,
    memory_layout,
    numpy_resize_pad,
    sharp_softmax,
    squashed_logits,
    writes_into_input,
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
from heirloom.evaluation.broken.together import (
    coarsely_seeded,
    lit_thermometer,
    narrow_integers,
    noise_on_saturated,
    rounded_probabilities,
    steep_ripple,
    stored_gallery,
    unit_margin,
)
from heirloom.evaluation.broken.unusual import (
    adapting_norm,
    batch_attention,
    clamped_logits,
    coarse_straight_through,
    codebook,
    decoy_gradient,
    detached_loop,
    early_exit,
    gradient_hook,
    low_rank,
    nan_detector,
    offset_logits,
    rarely_random,
    rounded_logits,
    scaled_probabilities,
    shattered_pixels,
    shuffled_gradient,
    switched_batch_norm,
    temperature_under_grad,
    weight_noise,
)

__all__ = [
    "DEFENCES",
    "SOUND",
    "THREAT",
    "Planted",
    "adapting_norm",
    "adversarial_net",
    "argmax_logits",
    "backward_counter",
    "batch_attention",
    "batch_centring",
    "by_its_hash",
    "by_the_clock",
    "cached_function",
    "call_parity",
    "call_stack",
    "centred_logits",
    "clamped_logits",
    "class_cache",
    "clean_net",
    "closure_counter",
    "coarse_straight_through",
    "coarsely_seeded",
    "codebook",
    "counter_attack",
    "decimals",
    "decoy_gradient",
    "detached_loop",
    "detached_smoothing",
    "drawn_once",
    "dropout_left_on",
    "early_exit",
    "fallback_when_odd",
    "file_cache",
    "fixed_seed_noise",
    "float16_backward",
    "float16_overflow",
    "global_cache",
    "gradient_hook",
    "gradient_mode_switch",
    "grey_levels",
    "half_rounded",
    "high_temperature",
    "image_seeded_noise",
    "jpeg_rounding",
    "known_images",
    "late_defence",
    "linear_net",
    "lit_thermometer",
    "locked_cache",
    "low_rank",
    "memo_cache",
    "memory_layout",
    "module_hook",
    "nan_detector",
    "nan_gradients",
    "narrow_integers",
    "nearest_neighbour_vote",
    "noise_injection",
    "noise_on_saturated",
    "numpy_resize",
    "numpy_resize_pad",
    "offset_logits",
    "optimising_purifier",
    "pixel_quantiser",
    "position_dependent",
    "random_logit_scale",
    "random_resize_pad",
    "rarely_random",
    "reversed_gradient",
    "rounded_logits",
    "rounded_probabilities",
    "saturated_logits",
    "saturated_sigmoid",
    "scaled_probabilities",
    "sharp_softmax",
    "shattered_pixels",
    "shuffled_gradient",
    "sixteen_bits",
    "softmax_output",
    "squashed_logits",
    "steep_ripple",
    "stored_gallery",
    "straight_through_with_stops",
    "switched_batch_norm",
    "temperature_under_grad",
    "test_time_statistics",
    "thermometer_code",
    "tiny_gradients",
    "train_mode_batch_norm",
    "unit_margin",
    "vit_mae_random_mask",
    "vote_with_a_trace",
    "weight_noise",
    "winners_take_all",
    "writes_into_input",
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
    Planted(
        call_parity,
        "state",
        "calls",
        itself,
        ("gradient-mode", "batch", "backward", "gradients", "gradient-agreement"),
    ),
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
    Planted(argmax_logits, "discrete-output", "a decision or a vote", Undefended, ("gradients",)),
    Planted(nearest_neighbour_vote, "discrete-output", "topk", Neighbours, ("gradients",)),
    Planted(grey_levels, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(straight_through_with_stops, "gradients", "blocks the gradient", Undefended),
    Planted(numpy_resize, "gradients", "NumPy", Undefended),
    Planted(reversed_gradient, "backward", "custom backward pass", Undefended),
    Planted(counter_attack, "inner-optimisation", "computes gradients itself", blind),
    Planted(decoy_gradient, "backward", "another function's", Undefended),
    Planted(gradient_hook, "gradients", "A gradient hook is in the way", Undefended),
    Planted(shuffled_gradient, "backward", "custom backward pass", Undefended),
    Planted(rounded_logits, "discrete-output", "multiples of 1", Undefended, ("gradients",)),
    Planted(clamped_logits, "saturation", "`clamp`", Undefended, ("gradients",)),
    Planted(offset_logits, "saturation", "so far from zero", Undefended),
    Planted(scaled_probabilities, "probabilities", "times 100", Undefended),
    Planted(early_exit, "gradients", "exactly zero", Undefended),
    Planted(codebook, "quantisation", "rounded", Undefended, ("gradients",)),
    Planted(coarse_straight_through, "quantisation", "straight-through", itself, ("gradient-agreement",)),
    Planted(rarely_random, "randomness", "random", Undefended),
    Planted(weight_noise, "randomness", "random", Undefended),
    Planted(adapting_norm, "state", "computes gradients itself", Undefended, ("batch", "inner-optimisation")),
    Planted(switched_batch_norm, "eval-mode", "BatchNorm works as in train mode", Undefended, ("batch",)),
    Planted(batch_attention, "batch", "the other images", Undefended),
    Planted(nan_detector, "not-finite", "Logits are NaN", Undefended),
    Planted(low_rank, "not-finite", "Svd", Undefended),
    Planted(detached_loop, "gradients", "detached", Undefended),
    Planted(shattered_pixels, "gradient-agreement", "shattered", Undefended),
    Planted(temperature_under_grad, "gradient-mode", "when gradients are enabled", Undefended),
    Planted(
        global_cache, "state", "remembering.KNOWN", Undefended, ("quantisation", "gradients", "backward")
    ),
    Planted(class_cache, "state", "_ClassCache.seen", Undefended, ("quantisation", "gradients", "backward")),
    Planted(
        cached_function,
        "state",
        "closure of _counter",
        itself,
        ("gradient-mode", "batch", "gradients", "randomness"),
    ),
    Planted(
        closure_counter,
        "state",
        "closure of _counter",
        itself,
        ("gradient-mode", "batch", "gradients", "backward", "gradient-agreement"),
    ),
    Planted(late_defence, "state", "calls", Undefended),
    Planted(writes_into_input, "state", "writes into its input", Undefended),
    Planted(by_the_clock, "randomness", "the operating system", Undefended),
    Planted(by_its_hash, "randomness", "made of the image itself", Undefended),
    Planted(numpy_resize_pad, "randomness", "random", Undefended),
    Planted(call_stack, "gradient-mode", "an attack asks", Undefended),
    Planted(memory_layout, "gradient-mode", "elsewhere in memory", Undefended),
    Planted(centred_logits, "batch", "the other images", Undefended),
    Planted(decimals, "discrete-output", "multiples of 0.1", Undefended, ("gradients",)),
    Planted(sharp_softmax, "probabilities", "probability distribution", Undefended, ("gradients",)),
    Planted(half_rounded, "gradients", "these pixels are rounded", Undefended),
    Planted(squashed_logits, "saturation", "`tanh`", Undefended, ("gradients",)),
    Planted(float16_backward, "not-finite", "float16", Undefended, ("discrete-output",)),
    Planted(
        file_cache, "state", "the file known.json", Undefended, ("quantisation", "gradients", "backward")
    ),
    Planted(locked_cache, "state", "known", Undefended, ("quantisation", "gradients", "backward")),
    Planted(drawn_once, "state", "draws at its first call", itself),
    Planted(backward_counter, "state", "(asked)", Undefended, ("gradients",)),
    Planted(known_images, "lookup", "known to the model", Undefended),
    Planted(sixteen_bits, "quantisation", "to integers", Undefended, ("gradients",)),
    Planted(
        vote_with_a_trace,
        "discrete-output",
        "argmax",
        Undefended,
        ("gradients", "saturation"),
    ),
    Planted(thermometer_code, "quantisation", "to bits (`gt`)", Undefended, ("gradients",)),
    Planted(fallback_when_odd, "gradients", "switched to (`where`)", Undefended),
    Planted(module_hook, "gradients", "A gradient hook is in the way", Undefended),
    Planted(stored_gallery, "lookup", "the nearest of stored ones", Undefended),
    Planted(steep_ripple, "gradient-agreement", "shattered", Undefended),
    Planted(rounded_probabilities, "quantisation", "`round`", Undefended, ("probabilities", "gradients")),
    Planted(noise_on_saturated, "saturation", "so large", Undefended, ("randomness",)),
    Planted(coarsely_seeded, "randomness", "made of the image itself", Undefended, ("gradient-agreement",)),
    Planted(unit_margin, "saturation", "their own margin", Undefended, ("gradients", "gradient-agreement")),
    Planted(narrow_integers, "discrete-output", "clipped", Undefended, ("gradients",)),
    Planted(lit_thermometer, "gradient-agreement", "`ge`", Undefended),
)

SOUND: tuple[Callable[[], nn.Module], ...] = (clean_net, adversarial_net, linear_net)
