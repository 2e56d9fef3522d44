"""What a defence was asked for: the facts that its run goes by, and the settings that its page shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.defence.card import HEADS
from heirloom.defence.settings import DefendSettings
from heirloom.models.defended import OwnLogits
from heirloom.models.encoder import FrozenEncoder
from heirloom.objectives.defences import DEFENCES
from heirloom.runtime.identity import deciding, module_facts


def run_facts(encoder: FrozenEncoder, data: ImageSource, settings: DefendSettings) -> dict[str, Any]:
    """What identifies a defence: the foundation model and how it is read, the images, every setting."""
    reading = {
        k: v for k, v in asdict(encoder.settings).items() if k not in ("source", "revision", "vision_weights")
    }
    chosen = deciding(settings)
    return {
        "model": {**module_facts(encoder), "reading": reading},
        "data": data.facts(),
        "threat": chosen.pop("threat"),
        "seed": chosen["defence"]["training"].pop("seed"),
        "settings": chosen,
    }


def head_kind(kept: nn.Module | None, settings: DefendSettings) -> str:
    """A key of :data:`heirloom.defence.card.HEADS`: a head that is kept, or how one is trained."""
    if kept is not None:
        return "own" if isinstance(kept, OwnLogits) else "zero-shot"
    return "robust" if settings.robust_head else "linear"


def shown_settings(
    settings: DefendSettings,
    encoder: FrozenEncoder,
    data: ImageSource,
    validation: int,
    head: nn.Module | None,
) -> dict[str, Any]:
    """The settings that the page and ``summary.json`` show."""
    elsewhere = data.unlabelled
    return {
        "model": encoder.settings.source,
        "validation images": validation,
        **({} if elsewhere is None else {"unlabelled": f"{elsewhere.name}, {len(elsewhere.images)} images"}),
        "attacks": ", ".join(settings.attacks),
        **{name: value for name, value in _of_training(settings).items() if value is not None},
        "head": HEADS[head_kind(head, settings)],
        **({"head weight decay": settings.head.weight_decay} if head is None else {}),
    }


def _of_training(settings: DefendSettings) -> dict[str, Any]:
    """What decides the training of the methods in the run, None where none of them reads it."""
    defence, saved = settings.defence, settings.defence.objective
    trained = [DEFENCES[method] for method in settings.methods if method in DEFENCES]
    if not trained:
        return {}
    is_timed = defence.steps is not None or defence.minutes is not None
    own, read = set(saved.reads if saved else ()), {name for each in trained for name in each.reads}
    return {
        "architecture": defence.architecture if any(each.name != "distil" for each in trained) else None,
        "weight": defence.chosen_weight if "weight" in own else None,
        "radius": f"{defence.chosen_radius:g} eps" if "radius" in own else None,
        "temperature": defence.temperature if "temperature" in read else None,
        **(asdict(defence.distil) if "distil" in settings.methods else {}),
        "epochs": None if is_timed else defence.training.epochs,
        "minutes": defence.minutes,
        "steps": defence.steps,
        "batch_size": defence.training.batch_size,
        "learning_rate": defence.training.learning_rate,
        "augmentation": str(defence.augmentation) if defence.augmentation else "none",
        "mixed_precision": defence.training.mixed_precision,
    }
