"""The words that settings choose from, each list once: the library checks them, the command line shows them.

This file imports nothing heavy, so that ``heirloom --help`` stays fast.
"""

from __future__ import annotations

from typing import Literal, get_args

Norm = Literal["Linf", "L2", "L1"]
Pooling = Literal["auto", "cls", "mean", "pooler", "classifier", "logits", "image-text"]
HeadKind = Literal["linear", "own", "zero-shot"]
Normalisation = Literal["auto", "none", "half", "imagenet"]
Transform = Literal["jpeg", "bit-depth", "median"]
# what objectives train, but for distil
Autoencoder = Literal["mlp", "conv", "vit-small32-patch4", "vit-small32", "vit-large224"]
Architecture = Literal[Autoencoder, "student-painter", "vae", Transform]
# one objective a file: heirloom/objectives/<name with underscores>.py
ObjectiveName = Literal[
    "vanilla",
    "noise",
    "denoise",
    "denoise-stability",
    "arae",
    "cropd",
    "adversarial-reconstruction",
    "stability",
    "feature-stability",
    "distil",
]
DefenceMethod = Literal["auto", "identity", "vae", Transform, ObjectiveName]
AnyMethod = Literal["recommended", DefenceMethod]  # what the command line takes
Targets = Literal["features", "head"]  # of distil
AnyTargets = Literal["auto", Targets]  # what the command line takes
Activation = Literal["relu", "silu"]  # of distil's student
SavedAs = Literal["preprocessor", "encoder"]
PretrainMethod = Literal["supervised", "trades", "contrastive"]
Optimiser = Literal["sgd", "lars"]
RateSchedule = Literal["divided", "cosine"]
MixedPrecision = Literal["no", "tf32", "fp16", "bf16"]
Dtype = Literal["float32", "bfloat16", "float16"]
PassDtype = Literal[Dtype, "auto"]  # of the attacks' passes

FeatureVariant = Literal["inverted", "random-target", "next-target"]
FeatureStart = Literal["other", "other-class", "next-class", "noise", "grey"]
StepRule = Literal["decaying", "constant", "adaptive"]


def listed(choices: object) -> str:
    """``Linf, L2, L1``: a list as help and errors show it."""
    return ", ".join(get_args(choices))
