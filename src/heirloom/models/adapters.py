"""LoRA adapters of peft on a frozen base (Hu et al., ICLR 2022), merged: what is attacked is one plain model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from heirloom.models.transformers.checkpoint import Checkpoint
from heirloom.runtime.errors import InputError, reject

OUTER = "base_model.model."  # before every name in a file of peft
MISSING = "missing adapter keys"  # peft's warning of adapters that stay as they were drawn


def with_adapter(found: Checkpoint, place: str) -> Checkpoint:
    """The checkpoint with the adapter of ``place`` (a folder or hub id) merged into its weights.

    An adapter that was trained on the same model with a classifier around it, or without, is one made for this model.

    Raises:
        InputError: peft absent, no adapter there, or one made for another model.
    """
    try:
        from peft import PeftModel
        from peft.utils import load_peft_weights
    except ImportError as error:
        raise InputError("adapter", "used with heirloom-robust[lora] installed", str(error)) from None
    if Path(place).exists() and not (Path(place) / "adapter_config.json").is_file():
        reject("adapter", "a folder that peft saved", f"{place}, which has no adapter_config.json")
    before = {name: value.clone() for name, value in found.backbone.state_dict().items()}
    try:
        backbone: Any = found.backbone
        names = [name.removeprefix(OUTER) for name in load_peft_weights(place, device="cpu")]
        mapping = _moved(names, [name for name, _ in backbone.named_modules()])
        options = {} if mapping is None else {"key_mapping": mapping}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            adapted = PeftModel.from_pretrained(backbone, place, **options)
        merged = adapted.merge_and_unload()
    except Exception as error:  # unreachable, corrupt, of another architecture
        raise InputError("adapter", "one made for this model", f"{place}: {error}") from None
    if any(MISSING in str(each.message) for each in told):
        reject("adapter", "one made for this model", f"{place}, whose weights have other names")
    after = merged.state_dict()
    if set(after) != set(before) or all(bool((after[name] == before[name]).all()) for name in before):
        reject("adapter", "one made for this model", f"{place}, which changes nothing in it")
    return replace(found, backbone=merged.eval())


def _moved(names: Iterable[str], modules: Iterable[str]) -> dict[str, str] | None:
    """How the adapter's names become those of ``modules``: a model's classifier puts one part before all the names of
    the model inside it (``vit.``). None where they fit as they are, or in no way.
    """
    known = set(modules)
    layers = {name.partition(".lora_")[0] for name in names if ".lora_" in name}
    outer = {layer.partition(".")[0] for layer in layers}
    for part in sorted(outer):
        if layers and all(layer.partition(".")[2] in known for layer in layers):
            return {rf"^{part}\.": ""}
    for part in sorted(name for name in known if name and "." not in name):
        if layers and not layers & known and all(f"{part}.{layer}" in known for layer in layers):
            return {"^": f"{part}."}
    return None
