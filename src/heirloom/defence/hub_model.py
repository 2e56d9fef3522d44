"""A saved defence as Transformers loads it: by ``AutoModelForImageClassification`` and ``pipeline``.

``import heirloom`` registers these classes once Transformers is imported; a folder also names them through
``auto_map`` (``heirloom_hub.py``), for ``trust_remote_code=True`` without that import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from heirloom.defence.saved import DefendedModel
from heirloom.runtime.errors import require

MODEL_TYPE = "heirloom"
GREY = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow's "L"


class HeirloomConfig(PreTrainedConfig):
    """The config.json of a saved defence; Transformers reads ``id2label``, heirloom the rest."""

    model_type = MODEL_TYPE


class HeirloomForImageClassification(PreTrainedModel):
    """``pixel_values`` float32 (N, C, H, W) in [0, 1] -> ``logits`` (N, classes): the saved model's, bit for bit."""

    config_class = HeirloomConfig
    main_input_name = "pixel_values"

    def __init__(self, config: Any, defended: DefendedModel | None = None) -> None:
        super().__init__(config)
        require(defended is not None, "model", "loaded with from_pretrained", "a configuration alone")
        self.defended: Any = defended

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **options: Any) -> Any:
        """Load a folder that heirloom saved (see :meth:`DefendedModel.from_pretrained` for options and errors)."""
        known = ("revision", "token", "cache_dir", "force_download", "local_files_only", "trust_remote_code")
        chosen = {k: v for k, v in options.items() if k in known and v is not None}
        place = str(pretrained_model_name_or_path)
        defended = DefendedModel.from_pretrained(place, **chosen)
        config = options.get("config")
        if not isinstance(config, PreTrainedConfig):
            config = cls.config_class.from_pretrained(
                place, **{k: v for k, v in chosen.items() if k in known[:5]}
            )
        model = cls(config, defended).eval()
        return (model, {"missing_keys": set()}) if options.get("output_loading_info") else model

    def save_pretrained(self, save_directory: Any, **_: Any) -> None:
        """What :meth:`DefendedModel.save_pretrained` saves."""
        self.defended.save_pretrained(Path(save_directory))

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> ImageClassifierOutput:
        x = pixel_values.to(self.dtype).contiguous()  # another layout in memory is another rounding
        if self.defended.image_shape[0] == 1 and x.shape[1] == 3:
            x = (x * x.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)
        logits = self.defended(x)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        return ImageClassifierOutput(loss=loss, logits=logits)


def register() -> None:
    """Tell Transformers' Auto classes about saved defences."""
    from transformers import AutoConfig, AutoModelForImageClassification

    AutoConfig.register(MODEL_TYPE, HeirloomConfig, exist_ok=True)
    AutoModelForImageClassification.register(HeirloomConfig, HeirloomForImageClassification, exist_ok=True)
