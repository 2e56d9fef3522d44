"""The groups that help shows commands and options in, what most people need first.

An option stands in the same group in every command. One that no group names is among the first, so that a new option
is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

COMMANDS = {
    "Defend, measure, use": ("demo", "defend", "evaluate", "show", "predict", "export"),
    "Results": ("report", "leaderboard", "rerun", "certify"),
    "Where robustness comes from": ("pretrain", "probe", "inspect", "features", "reproduce", "theory"),
}
FIRST = "Options"
OPTIONS: dict[str, tuple[str, ...]] = {
    "Images": (
        "limit",
        "limit_test",
        "image_size",
        "image_column",
        "label_column",
        "validation",
        "validation_images",
    ),
    "Frozen model": (
        "revision",
        "adapter",
        "vision_weights",
        "pooling",
        "normalisation",
        "trust_remote_code",
    ),
    "Head": (
        "head",
        "head_epochs",
        "head_weight_decay",
        "classes",
        "template",
        "text_embeddings",
        "robust_head",
    ),
    "Method": (
        "weight",
        "radius",
        "sigma",
        "attack_steps",
        "attack_step_size",
        "random_start",
        "student",
        "student_width",
        "prototypes",
        "temperature",
        "architecture",
        "augment",
        "augmentation",
        "normalise",
        "beta",
        "regulariser_weight",
    ),
    "Training": (
        "minutes",
        "steps",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "optimiser",
        "schedule",
        "warmup",
        "keep_epochs",
    ),
    "Quirks of published code": (
        "attack_in_train_mode",
        "last_iterate",
        "select_on_test",
        "detach_right_factor",
        "lars_adapts_vectors",
    ),
    "Measuring": (
        "eval_batch_size",
        "audit",
        "audit_examples",
        "seeds",
        "dtype",
        "attack_dtype",
        "surrogate",
        "adaptive",
        "bpda",
        "draws",
        "against",
        "strict",
    ),
    "This run": (
        "seed",
        "device",
        "mixed_precision",
        "channels_last",
        "compile_network",
        "fsdp",
        "checkpoint_seconds",
        "resume",
    ),
    "Every command": ("config", "as_json", "quiet", "verbose", "help"),
}


def group_of(name: str) -> str:
    """The title that the option called ``name`` stands under."""
    return next((title for title, names in OPTIONS.items() if name in names), FIRST)


def grouped(params: Iterable[Any]) -> list[tuple[str, Sequence[Any]]]:
    """``(title, params)`` in the order of help: arguments, what most people need, the groups, what all have."""
    found: dict[str, list[Any]] = {"Arguments": [], FIRST: [], **{title: [] for title in OPTIONS}}
    for param in params:
        kind = param.param_type_name
        found["Arguments" if kind == "argument" else group_of(param.name)].append(param)
    return list(found.items())


def words_of(context: Any) -> list[str]:
    """The command's words without the program's: ``["theory", "patches", "phases"]``."""
    words: list[str] = []
    while context.parent is not None:
        words, context = [context.info_name, *words], context.parent
    return words
