"""How much of the gap between a clean and an adversarial head is the clean head's own doing, not the encoder's.

``heirloom reproduce inheritance/heads``: behind each encoder of Table 1 the clean head again with other weight decays
(AdamW, decoupled), which widen or narrow its margin, and the adversarial head beside them. Where a clean head of
another weight decay comes near the adversarial one, the gap was the head's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.heads.linear import extract_features, train_head
from heirloom.heads.probe import with_head
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.report.page import Section, Table, page
from heirloom.results.schema import Proportion, Summary
from heirloom.results.statistics import paired_difference, proportion
from heirloom.runtime.files import read_tensors, write_tensors
from heirloom_recipes.inheritance.paper import TABLE_1, EncoderKey, PaperRow
from heirloom_recipes.inheritance.run import THREAT, Runner, make_runner

DECAYS = (0.0, 0.01, 1.0, 10.0, 100.0)
ENCODERS = tuple(dict.fromkeys(row.encoder for row in TABLE_1))


def heads(scale: str, out: Path, *, method: str | None = None, **options: Any) -> Summary:
    """One row a head: ``clean``, ``robust`` (worst case over the scale's attacks), its ``margin``, and how much of
    the adversarial head's advantage over the usual clean head it has."""
    runner = make_runner(scale, out, **options)
    rows: list[dict[str, Any]] = []
    for key in ENCODERS:
        if method in (None, key.method):
            rows += _encoder_rows(runner, key)
    return runner.run.finish(
        "inheritance-heads",
        rows,
        seed=runner.seed,
        device=runner.device,
        threat=THREAT,
        data=runner.data("cifar10").used(),
        settings={
            "scale": scale,
            "attacks": ", ".join(runner.scale.attacks),
            "heads": str(runner.scale.probe),
        },
        into="heads",
    )


def _encoder_rows(runner: Runner, key: EncoderKey) -> list[dict[str, Any]]:
    usual = runner.row(PaperRow(key, "clean"))["robust"]
    hardened = runner.row(PaperRow(key, "adversarial"))
    rows = [_row(key, "adversarial", hardened, usual)]
    for decay in DECAYS:
        rows.append(_row(key, f"clean, weight decay {decay:g}", _clean_head(runner, key, decay), usual))
    return rows


def _row(key: EncoderKey, head: str, found: dict[str, Tensor], usual: Tensor) -> dict[str, Any]:
    row: dict[str, Any] = {"pretrain": key.pretrain, "head": head}
    row |= {name: proportion(found[name].bool()) for name in ("clean", "robust")}
    row["against the usual clean head"] = paired_difference(found["robust"], usual)
    return row | ({"margin": float(found["margin"])} if "margin" in found else {})


def _clean_head(runner: Runner, key: EncoderKey, decay: float) -> dict[str, Tensor]:
    path = runner.work / "rows" / f"{key.folder}--clean-decay-{decay:g}.safetensors"
    if not path.exists():
        encoder = load_encoder(EncoderSettings(str(runner.encoder(key) / "encoder")))
        data, settings = runner.data("cifar10"), runner.scale.probe
        rest, held_out = data.train.split(settings.validation, seed=runner.seed)
        fit, check = (
            extract_features(encoder.to(runner.device), part, device=runner.device)
            for part in (rest, held_out)
        )
        chosen = replace(settings.head, weight_decay=decay)
        head = train_head(fit, rest.labels, len(rest.classes), chosen, validation=(check, held_out.labels))
        found = runner.judged(with_head(encoder, head), path.stem)
        margin = torch.tensor(feature_margin(head, check, held_out.labels))
        write_tensors(path, {**found, "margin": margin})
    return read_tensors(path)[0]


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
        margin = f"{row['margin']:.2f}" if "margin" in row else ""
        gain = row["against the usual clean head"]
        gained = f"{100 * gain['value']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
        cells.append([f"{row['pretrain']} / {row['head']}", *shares, gained, margin])
    caption = (
        f"In % [95 % interval over test images]; robust: worst case over {summary.settings['attacks']}, "
        f"{summary.threat}; gain: robust, paired, over the usual clean head; margin: median distance to the boundary "
        "in feature space, in deviations."
    )
    return [Table(caption, ["encoder / head", "clean", "robust", "gain", "margin"], cells)]
