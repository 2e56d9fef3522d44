"""Verdicts of a recipe's model, kept as they come: a row whose attacks were cut off goes on with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.data.labelled import ImageSource
from heirloom.evaluation.columns import verdicts
from heirloom.evaluation.verdicts import Evaluation
from heirloom.runs import Progress
from heirloom.runtime.identity import module_facts
from heirloom.threat import Threat


def judged(
    model: nn.Module,
    data: ImageSource,
    threat: Threat,
    attacks: tuple[str, ...],
    *,
    name: str,
    work: Path,
    progress: Progress,
    **options: Any,
) -> Evaluation:
    """Verdicts on the test images of ``data``, told as of ``name``.

    Those of an unfinished evaluation lie in ``work`` under the model's digests: where training again does not
    give the same to the last bit, the evaluation begins anew instead of being refused.

    Args:
        options: of :func:`heirloom.evaluation.columns.verdicts`.
    """
    facts = module_facts(model)
    setting = f"{threat.norm}-{threat.eps:g}-{len(data.test)}"
    folder = work / f"{facts['weights']}-{facts['structure']}-{setting}"
    found = verdicts(
        model,
        data,
        threat,
        attacks,
        folder=folder,
        told=lambda stage, done, total, text: progress(f"{name}: {stage}", done, total, text),
        **options,
    )
    shutil.rmtree(folder)
    return found
