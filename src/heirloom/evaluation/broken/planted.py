"""The list of the planted defences: what the audit must name, and a way around each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from heirloom.evaluation.broken import (
    accidents,
    beyond,
    defences,
    half_seen,
    inconsistent,
    misleading,
    remembering,
    solvers,
    together,
    unusual,
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
    Planted(defences.pixel_quantiser, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(defences.jpeg_rounding, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(defences.detached_smoothing, "gradients", "detached or not differentiable", StraightThrough),
    Planted(defences.tiny_gradients, "gradients", "vanishes", first),
    Planted(defences.winners_take_all, "gradient-agreement", "misleads", itself),
    Planted(defences.saturated_logits, "saturation", "so large", first),
    Planted(defences.softmax_output, "probabilities", "probability distribution", first, ("gradients",)),
    Planted(defences.optimising_purifier, "inner-optimisation", "computes gradients itself", blind),
    Planted(defences.train_mode_batch_norm, "eval-mode", "train mode", FixedStatistics),
    Planted(defences.random_resize_pad, "randomness", "random", Expected),
    Planted(defences.noise_injection, "randomness", "random", Expected),
    Planted(defences.random_logit_scale, "randomness", "rescales the logits", first),
    Planted(defences.vit_mae_random_mask, "randomness", "ViT-MAE masks", Expected),
    Planted(inconsistent.memo_cache, "state", "cache", Undefended, ("quantisation", "gradients", "backward")),
    Planted(
        inconsistent.call_parity,
        "state",
        "calls",
        itself,
        ("gradient-mode", "batch", "backward", "gradients", "gradient-agreement"),
    ),
    Planted(inconsistent.test_time_statistics, "state", "average", itself, ("batch",)),
    Planted(inconsistent.batch_centring, "batch", "the other images", Undefended),
    Planted(inconsistent.position_dependent, "batch", "its place", itself),
    Planted(inconsistent.fixed_seed_noise, "batch", "a seed that it sets itself", itself),
    Planted(inconsistent.gradient_mode_switch, "gradient-mode", "requires a gradient", Undefended),
    Planted(inconsistent.dropout_left_on, "eval-mode", "dropout", Expected),
    Planted(inconsistent.image_seeded_noise, "randomness", "made of the image itself", Undefended),
    Planted(misleading.nan_gradients, "not-finite", "backward pass of", Undefended),
    Planted(misleading.float16_overflow, "not-finite", "overflow in float16", Undefended),
    Planted(
        misleading.saturated_sigmoid, "saturation", "activation is saturated", Undefended, ("gradients",)
    ),
    Planted(misleading.high_temperature, "saturation", "so small", first),
    Planted(misleading.argmax_logits, "discrete-output", "a decision or a vote", Undefended, ("gradients",)),
    Planted(misleading.nearest_neighbour_vote, "discrete-output", "topk", Neighbours, ("gradients",)),
    Planted(misleading.grey_levels, "quantisation", "rounded", StraightThrough, ("gradients",)),
    Planted(misleading.straight_through_with_stops, "gradients", "blocks the gradient", Undefended),
    Planted(misleading.numpy_resize, "gradients", "NumPy", Undefended),
    Planted(misleading.reversed_gradient, "backward", "custom backward pass", Undefended),
    Planted(misleading.counter_attack, "inner-optimisation", "computes gradients itself", blind),
    Planted(unusual.decoy_gradient, "backward", "another function's", Undefended),
    Planted(unusual.gradient_hook, "gradients", "A gradient hook is in the way", Undefended),
    Planted(unusual.shuffled_gradient, "backward", "custom backward pass", Undefended),
    Planted(unusual.rounded_logits, "discrete-output", "multiples of 1", Undefended, ("gradients",)),
    Planted(unusual.clamped_logits, "saturation", "`clamp`", Undefended, ("gradients",)),
    Planted(unusual.offset_logits, "saturation", "so far from zero", Undefended),
    Planted(unusual.scaled_probabilities, "probabilities", "times 100", Undefended),
    Planted(unusual.early_exit, "gradients", "exactly zero", Undefended),
    Planted(unusual.codebook, "quantisation", "rounded", Undefended, ("gradients",)),
    Planted(
        unusual.coarse_straight_through, "quantisation", "straight-through", itself, ("gradient-agreement",)
    ),
    Planted(unusual.rarely_random, "randomness", "random", Undefended),
    Planted(unusual.weight_noise, "randomness", "random", Undefended),
    Planted(
        unusual.adapting_norm,
        "state",
        "computes gradients itself",
        Undefended,
        ("batch", "inner-optimisation"),
    ),
    Planted(
        unusual.switched_batch_norm, "eval-mode", "BatchNorm works as in train mode", Undefended, ("batch",)
    ),
    Planted(unusual.batch_attention, "batch", "the other images", Undefended),
    Planted(unusual.nan_detector, "not-finite", "Logits are NaN", Undefended),
    Planted(unusual.low_rank, "not-finite", "Svd", Undefended),
    Planted(unusual.detached_loop, "gradients", "detached", Undefended),
    Planted(unusual.shattered_pixels, "gradient-agreement", "shattered", Undefended),
    Planted(unusual.temperature_under_grad, "gradient-mode", "when gradients are enabled", Undefended),
    Planted(
        remembering.global_cache,
        "state",
        "remembering.KNOWN",
        Undefended,
        ("quantisation", "gradients", "backward"),
    ),
    Planted(
        remembering.class_cache,
        "state",
        "_ClassCache.seen",
        Undefended,
        ("quantisation", "gradients", "backward"),
    ),
    Planted(
        remembering.cached_function,
        "state",
        "closure of _counter",
        itself,
        ("gradient-mode", "batch", "gradients", "randomness"),
    ),
    Planted(
        remembering.closure_counter,
        "state",
        "closure of _counter",
        itself,
        ("gradient-mode", "batch", "gradients", "backward", "gradient-agreement"),
    ),
    Planted(remembering.late_defence, "state", "calls", Undefended),
    Planted(remembering.writes_into_input, "state", "writes into its input", Undefended, ("backward",)),
    Planted(remembering.by_the_clock, "randomness", "the operating system", Undefended),
    Planted(remembering.by_its_hash, "randomness", "made of the image itself", Undefended),
    Planted(remembering.numpy_resize_pad, "randomness", "random", Undefended),
    Planted(remembering.call_stack, "gradient-mode", "an attack asks", Undefended),
    Planted(remembering.memory_layout, "gradient-mode", "elsewhere in memory", Undefended),
    Planted(remembering.centred_logits, "batch", "the other images", Undefended),
    Planted(remembering.decimals, "discrete-output", "multiples of 0.1", Undefended, ("gradients",)),
    Planted(
        remembering.sharp_softmax, "probabilities", "probability distribution", Undefended, ("gradients",)
    ),
    Planted(remembering.half_rounded, "gradients", "these pixels are rounded", Undefended),
    Planted(remembering.squashed_logits, "saturation", "`tanh`", Undefended, ("gradients",)),
    Planted(remembering.float16_backward, "not-finite", "float16", Undefended, ("discrete-output",)),
    Planted(
        beyond.file_cache,
        "state",
        "the file known.json",
        Undefended,
        ("quantisation", "gradients", "backward"),
    ),
    Planted(beyond.locked_cache, "state", "known", Undefended, ("quantisation", "gradients", "backward")),
    Planted(beyond.drawn_once, "state", "draws at its first call", itself),
    Planted(beyond.backward_counter, "state", "(asked)", Undefended, ("gradients",)),
    Planted(beyond.known_images, "lookup", "known to the model", Undefended),
    Planted(beyond.sixteen_bits, "quantisation", "to integers", Undefended, ("gradients",)),
    Planted(
        beyond.vote_with_a_trace,
        "discrete-output",
        "argmax",
        Undefended,
        ("gradients", "saturation"),
    ),
    Planted(beyond.thermometer_code, "quantisation", "to bits (`gt`)", Undefended, ("gradients",)),
    Planted(beyond.fallback_when_odd, "gradients", "switched to (`where`)", Undefended),
    Planted(beyond.module_hook, "gradients", "A gradient hook is in the way", Undefended),
    Planted(together.stored_gallery, "lookup", "the nearest of stored ones", Undefended),
    Planted(together.steep_ripple, "gradient-agreement", "shattered", Undefended),
    Planted(
        together.rounded_probabilities, "quantisation", "`round`", Undefended, ("probabilities", "gradients")
    ),
    Planted(together.noise_on_saturated, "saturation", "so large", Undefended, ("randomness",)),
    Planted(
        together.coarsely_seeded,
        "randomness",
        "made of the image itself",
        Undefended,
        ("gradient-agreement",),
    ),
    Planted(
        together.unit_margin,
        "saturation",
        "their own margin",
        Undefended,
        ("gradients", "gradient-agreement"),
    ),
    Planted(together.narrow_integers, "discrete-output", "clipped", Undefended, ("gradients",)),
    Planted(together.lit_thermometer, "gradient-agreement", "`ge`", Undefended),
    Planted(accidents.list_of_members, "eval-mode", "does not reach all modules", Expected),
    Planted(accidents.vote_over_noise, "discrete-output", "another's logits", Undefended, ("gradients",)),
    Planted(accidents.growing_templates, "state", "(templates)", Undefended, ("batch",)),
    Planted(accidents.sawtooth_margin, "gradient-agreement", "`floor`", Undefended),
    Planted(accidents.float8_features, "saturation", "too few bits (float8", Undefended),
    Planted(solvers.latent_search, "inner-optimisation", "computes gradients itself", blind, ("gradients",)),
    Planted(solvers.one_step_solver, "backward", "an iteration, of which only a part", Undefended),
    Planted(half_seen.detached_weights, "backward", "Seen: detach", Undefended),
    Planted(half_seen.spiking_net, "quantisation", "does not foretell", itself, ("gradient-agreement",)),
    Planted(half_seen.narrow_kernel, "saturation", "ends in `exp`", itself, ("gradients",)),
    Planted(half_seen.decision_when_odd, "discrete-output", "a decision", Undefended, ("gradients",)),
    Planted(
        half_seen.seeded_search,
        "inner-optimisation",
        "computes gradients itself",
        Undefended,
        ("batch", "gradients"),
    ),
)
