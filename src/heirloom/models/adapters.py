"""LoRA adapters of peft on a frozen base (Hu et al., ICLR 2022), merged: what is attacked is one plain model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from heirloom.models.transformers_encoder import Checkpoint
from heirloom.runtime.errors import InputError, reject


def with_adapter(found: Checkpoint, place: str) -> Checkpoint:
    """The checkpoint with the adapter of ``place`` (a folder or hub id) merged into its weights.

    Raises:
        InputError: peft absent, no adapter there, or one made for another model.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError("adapter", "used with heirloom-robust[lora] installed", str(error)) from None
    if Path(place).exists() and not (Path(place) / "adapter_config.json").is_file():
        reject("adapter", "a folder that peft saved", f"{place}, which has no adapter_config.json")
    before = {name: value.clone() for name, value in found.backbone.state_dict().items()}
    try:
        backbone: Any = found.backbone
        merged = PeftModel.from_pretrained(backbone, place).merge_and_unload()
    except Exception as error:  # unreachable, corrupt, of another architecture
        raise InputError("adapter", "one made for this model", f"{place}: {error}") from None
    after = merged.state_dict()
    if set(after) != set(before) or all(bool((after[name] == before[name]).all()) for name in before):
        reject("adapter", "one made for this model", f"{place}, which changes nothing in it")
    return replace(found, backbone=merged.eval())
