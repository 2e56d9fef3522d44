"""How much of the gap between a clean and an adversarial head is the clean head's own doing, not the encoder's.

``heirloom reproduce inheritance/heads``: behind each encoder of Table 1 the clean head again with other weight decays
(AdamW, decoupled), which widen or narrow its margin, and the adversarial head beside them. Where a clean head of
another weight decay comes near the adversarial one, the gap was the head's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from heirloom.heads.linear import extract_features, train_head
from heirloom.heads.probe import with_head
from heirloom.models.encoder import EncoderSettings, FrozenEncoder, load_encoder
from heirloom.report.page import Section, Table, page
from heirloom.results.schema import Proportion, Summary
from heirloom.results.statistics import LEVEL, RESAMPLES, paired_difference, proportion
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom_recipes.inheritance.paper import TABLE_1, EncoderKey, PaperRow
from heirloom_recipes.inheritance.runner import THREAT, Runner, make_runner
from heirloom_recipes.inheritance.table import constant_classifier

DECAYS = (0.0, 1.0, 10.0, 100.0)  # the usual head has .01
ENCODERS = tuple(dict.fromkeys(row.encoder for row in TABLE_1))


def heads(scale: str, out: Path, *, method: str | None = None, **options: Any) -> Summary:
    """One row a head: ``clean``, ``robust`` (worst case over the scale's attacks), its ``margin`` and the ``length`` of
    its weights, what it gains over the usual clean head, and how much of the adversarial head's gain that is."""
    runner = make_runner(scale, out, **options)
    rows: list[dict[str, Any]] = []
    for key in ENCODERS:
        if method in (None, key.method):
            rows += _encoder_rows(runner, key)
    data = runner.data("cifar10")
    return runner.run.finish(
        "inheritance-heads",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=THREAT,
        data=data.used(),
        settings={
            "scale": scale,
            "attacks": ", ".join(runner.scale.attacks),
            "heads": str(runner.scale.probe),
        },
        details={"constant": constant_classifier(data)},
        into="heads",
    )


def _encoder_rows(runner: Runner, key: EncoderKey) -> list[dict[str, Any]]:
    encoder = load_encoder(EncoderSettings(str(runner.encoder(key) / "encoder")))
    usual, adversarial = PaperRow(key, "clean"), PaperRow(key, "adversarial")
    parts = _features(runner, encoder)
    made = {
        "adversarial": (runner.row(adversarial), runner.head(adversarial, encoder)),
        "clean, the usual": (runner.row(usual), runner.head(usual, encoder)),
    }
    for decay in DECAYS:
        made[f"clean, weight decay {decay:g}"] = _clean_head(runner, key, encoder, parts, decay)
    reference = tuple(made[name][0]["robust"] for name in ("clean, the usual", "adversarial"))
    return [
        {
            "pretrain": key.pretrain,
            "head": name,
            **{column: proportion(found[column].bool()) for column in ("clean", "robust")},
            "against the usual clean head": paired_difference(found["robust"], reference[0]),
            "share of the adversarial head's gain": None
            if name == "adversarial"
            else share_of_gain(found["robust"], *reference),
            "margin": feature_margin(head, *parts[1]),
            "length": float(head.weight.norm()),
        }
        for name, (found, head) in made.items()
    ]


Part = tuple[Tensor, Tensor]  # features (N, D) and labels (N,)


def _features(runner: Runner, encoder: FrozenEncoder) -> tuple[Part, Part]:
    """Of the images that heads are trained on, and of those held out."""
    data = runner.data("cifar10").train
    rest, held_out = data.split(runner.scale.probe.validation, seed=runner.seed)
    encoder.to(runner.device)
    fit, check = (extract_features(encoder, part, device=runner.device) for part in (rest, held_out))
    return (fit, rest.labels), (check, held_out.labels)


def _clean_head(
    runner: Runner, key: EncoderKey, encoder: FrozenEncoder, parts: tuple[Part, Part], decay: float
) -> tuple[dict[str, Tensor], nn.Linear]:
    path = runner.work / "rows" / f"{key.folder}--clean-decay-{decay:g}.safetensors"
    (features, labels), held_out = parts
    chosen = replace(runner.scale.probe.head, weight_decay=decay)
    head = train_head(
        features, labels, len(runner.data("cifar10").train.classes), chosen, validation=held_out
    )
    if not path.exists():
        write_tensors(path, runner.judged(with_head(encoder, head), path.stem))
    return read_tensors(path)[0], head


def share_of_gain(
    found: Tensor, usual: Tensor, adversarial: Tensor, *, seed: int = 0
) -> dict[str, Any] | None:
    """``(robust(found) - robust(usual)) / (robust(adversarial) - robust(usual))`` over the same examples (N,), with its
    95 % interval: a Bayesian bootstrap (Rubin 1981) over the patterns of the three verdicts, as in
    :func:`heirloom.results.statistics.paired_difference`. None where the adversarial head's gain is not above 0."""
    if paired_difference(adversarial, usual).low <= 0:
        return None
    verdicts = torch.stack([found, usual, adversarial]).double()
    patterns, counts = verdicts.unique(dim=1, return_counts=True)
    weights = np.random.default_rng(seed).dirichlet(counts.numpy(), RESAMPLES)
    means = weights @ patterns.T.numpy()
    drawn = (means[:, 0] - means[:, 1]) / (means[:, 2] - means[:, 1])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    whole = verdicts.mean(1)
    value = float((whole[0] - whole[1]) / (whole[2] - whole[1]))
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value), "n": len(found)}


@torch.no_grad()
def feature_margin(head: nn.Linear, features: Tensor, labels: Tensor) -> float:
    """Median distance of ``features`` (N, D) to the nearest boundary of another class, in units of the features' own
    root mean square deviation; negative for the wrongly classified."""
    logits, weight = head(features), head.weight
    gap = logits.gather(1, labels[:, None]) - logits
    length = torch.cdist(weight[labels], weight).clamp_min(1e-12)
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    distance = (gap / length).masked_fill(own, float("inf")).amin(1)
    return float(distance.median() / features.var(0).mean().sqrt().clamp_min(1e-12))


def heads_page(summary: Summary) -> str:
    """The page from its summary.json alone."""
    lead = (
        "A clean head trained otherwise, behind the same encoder: what it gains over the usual one was never the "
        "encoder's to give."
    )
    return page(
        "Whose gap is it: the head's or the encoder's?", lead, [Section("Heads", printed(summary))], summary
    )


def printed(summary: Summary) -> list[Table]:
    """What the terminal shows."""
    cells = []
    for row in summary.rows:
        shares = [str(Proportion.model_validate(row[name])) for name in ("clean", "robust")]
        gain, share = row["against the usual clean head"], row["share of the adversarial head's gain"]
        measured = [f"{row['margin']:.2f}", f"{row['length']:.2g}"]
        told = [_interval(gain), "" if share is None else _interval(share)]
        cells.append([f"{row['pretrain']} / {row['head']}", *shares, *told, *measured])
    constant = str(Proportion.model_validate(summary.details["constant"]))
    cells.append(["always the most frequent class", constant, constant, "", "", "", ""])
    caption = (
        f"In % [95 % interval over test images]; robust: worst case over {summary.settings['attacks']}, "
        f"{summary.threat}; gain: robust, paired, over the usual clean head; share: of the adversarial head's gain, "
        "empty where that is not shown to be above 0; margin: median distance to the boundary in feature space, in "
        "deviations; length: of the head's weights. To pick the best weight decay here would be to pick it on the "
        "test images."
    )
    return [Table(caption, ["encoder / head", "clean", "robust", "gain", "share", "margin", "length"], cells)]


def _interval(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
