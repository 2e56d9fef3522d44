"""heirloom: adversarial robustness for a frozen vision foundation model, measured honestly.

The public API is what ``__all__`` lists, here and nowhere else; names are imported when first used, so
``import heirloom`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from heirloom.runtime.after_import import call_after_import

_HOME = {
    "PreprocessorSettings": "heirloom.defence.train_preprocessor",
    "DefendSettings": "heirloom.defence.job",
    "DefendedModel": "heirloom.defence.saved",
    "EncoderSettings": "heirloom.models.encoder",
    "FrozenEncoder": "heirloom.models.encoder",
    "HeadSettings": "heirloom.heads.linear",
    "TrainingSettings": "heirloom.training.loop",
    "defend": "heirloom.defence.job",
    "load_encoder": "heirloom.models.encoder",
    "load_images": "heirloom.data.images",
    "InputError": "heirloom.runtime.errors",
    "Threat": "heirloom.threat",
    "Summary": "heirloom.results.schema",
    "Proportion": "heirloom.results.schema",
    "Evaluation": "heirloom.evaluation.verdicts",
    "evaluate": "heirloom.evaluation.verdicts",
    "Finding": "heirloom.evaluation.audit",
    "audit": "heirloom.evaluation.audit",
    "paired_difference": "heirloom.results.statistics",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'heirloom' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return list(__all__)


def _register() -> None:
    import_module("heirloom.defence.hub_model").register()


# transformers.pipeline and AutoModelForImageClassification load a saved defence, without importing them here
call_after_import("transformers.models.auto.modeling_auto", _register)
