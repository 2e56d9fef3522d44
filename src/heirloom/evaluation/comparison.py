"""An evaluation and its audit as rows and details of a result, and its verdicts as one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heirloom.data.unit_images import Pair, digest_of_pair
from heirloom.evaluation.verdicts import Evaluation
from heirloom.results.schema import Difference, Mean
from heirloom.results.statistics import mean, paired_difference
from heirloom.runtime import distributed
from heirloom.runtime.errors import InputError
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom.runtime.identity import digest
from heirloom.threat import Threat

VERDICTS = "verdicts.safetensors"


def evaluation_details(evaluation: Evaluation) -> dict[str, Any]:
    """What goes under ``details["evaluation"]`` of a result, beside the accuracies in its rows."""
    return {
        "norm": evaluation.threat.norm,
        "eps": evaluation.threat.eps,
        "examples": len(evaluation.correct["clean"]),
        "attacks": [column for column in evaluation.correct if column != "clean"],
        "standing": {column: int(right.sum()) for column, right in evaluation.correct.items()},
        "verdicts": {column: digest(right) for column, right in evaluation.correct.items()},
        "repaired": dict(evaluation.repaired),
        "passes": {name: asdict(passes) for name, passes in evaluation.passes.items()},
        "batch": evaluation.batch,
        "processes": distributed.count(),
        **({} if evaluation.compiled is None else {"compiled": evaluation.compiled}),
        "attack_seconds": round(evaluation.seconds, 2),
    }


def spread_over_seeds(evaluations: Sequence[Evaluation]) -> dict[str, Mean]:
    """For each column the mean and standard deviation of the accuracy over repeats with other attack seeds.

    It says how much the attacks' luck matters and nothing about other images: that is the intervals' part.
    """
    columns = evaluations[0].correct
    return {name: mean([float(e.correct[name].double().mean()) for e in evaluations]) for name in columns}


def write_verdicts(path: Path, evaluation: Evaluation, data: Pair) -> None:
    """All columns, one byte an example, with what another evaluation must share to be compared."""
    columns = {f"correct.{name}": right.to(torch.uint8) for name, right in evaluation.correct.items()}
    facts = {
        "data": digest_of_pair(data),
        "threat": json.dumps(asdict(evaluation.threat)),
        "columns": "\n".join(evaluation.correct),
    }
    write_tensors(path, columns, facts)


def read_verdicts(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(columns in order, facts) as :func:`write_verdicts` wrote them."""
    tensors, facts = read_tensors(path)
    try:
        return {name: tensors[f"correct.{name}"].bool() for name in facts["columns"].split("\n")}, facts
    except KeyError:
        raise InputError(str(path), "an evaluation's verdicts", "something else") from None


def check_comparable(data: Pair, threat: Threat, other: Path) -> dict[str, Tensor]:
    """The columns of the evaluation in folder ``other``.

    Raises:
        InputError: ``other`` is no evaluation, or one of other images or another threat.
    """
    columns, facts = read_verdicts(other / VERDICTS)
    if facts["data"] != digest_of_pair(data):
        raise InputError("against", "an evaluation of the same images", f"{other}, which is of others")
    measured = Threat(**json.loads(facts["threat"]))
    if measured != threat:
        raise InputError("against", f"an evaluation at {threat}", f"{other}, which is at {measured}")
    return columns


def compare(evaluation: Evaluation, data: Pair, other: Path) -> dict[str, Difference]:
    """This model's accuracy minus that of the evaluation in folder ``other``, on the same examples."""
    columns = check_comparable(data, evaluation.threat, other)
    shared = [name for name in evaluation.correct if name in columns]
    return {name: paired_difference(evaluation.correct[name], columns[name]) for name in shared}
