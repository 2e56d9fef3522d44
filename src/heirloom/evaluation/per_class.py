"""An evaluation class by class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from heirloom.data.labelled import LabelledImages
from heirloom.evaluation.verdicts import Evaluation


def per_class(evaluation: Evaluation, test: LabelledImages) -> list[dict[str, Any]]:
    """Clean accuracy and that under the last attack, for each class with test images."""
    last = list(evaluation.correct)[-1]
    rows = []
    for label, name in enumerate(test.classes):
        members = test.labels == label
        if bool(members.any()):
            part = replace(evaluation, correct={k: v[members] for k, v in evaluation.correct.items()})
            rows.append({"class": name, "clean": part.accuracy("clean"), "robust": part.accuracy(last)})
    return rows
