"""How a table can show AutoAttack above PGD-10: two mistakes, switched on and off on our own models.

    python -m heirloom_recipes.cropd.mistakes --run runs/demo --out runs/mistakes

``--run`` is a finished ``heirloom demo``: its foundation, its CRoPD and its identity row are used as they are; a
masked auto-encoder is trained beside them (10 s). About two minutes on one thread.

1. Random masks in eval mode, and the attack's images scored again under fresh ones. An attack that stops at its
   first success keeps images that were wrong under ONE mask; scored again, many are right, so the strongest attack
   looks the weakest. With the masks fixed the figures fall in order, and to what the defence really gives.
2. An attack that sees the model and not the preprocessor. Transferred, it measures nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.data.labelled import ImageSource
from heirloom.defence.saved import DefendedModel
from heirloom.evaluation.verdicts import evaluate
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import EncoderSettings, load_encoder
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary
from heirloom.results.statistics import proportion
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings
from heirloom_recipes.cropd.masks import masked_autoencoder, own_number, right, whole

THREAT = Threat("Linf", 0.15)
Row = dict[str, Any]


def measure(run: Path, out: Path, *, seed: int = 0, epochs: int = 150, limit: int | None = None) -> Summary:
    """Both mistakes on the models of the finished demo in ``run``; writes ``out``/summary.json."""
    is_demo = (run / "foundation").is_dir() and (run / "work" / "cropd").is_dir()
    require(is_demo, "run", "the folder of a finished heirloom demo", str(run))
    stopwatch = Stopwatch()
    encoder = load_encoder(EncoderSettings(str(run / "foundation")))
    saved = {
        name: DefendedModel.from_pretrained(run / "work" / name, encoder=encoder)
        for name in ("identity", "cropd")
    }
    data = load_images("digits")
    train, _ = data.train.split(0.1, seed=seed)
    images = ImageSource(data.name, train, data.test.limit(limit))
    rows = [
        *transferred(saved["cropd"], saved["identity"], images, seed),
        *random_masks(saved["identity"], images, seed, epochs),
    ]
    summary = stopwatch.summary("benchmark", rows, seed=seed, threat=THREAT, data=images.used())
    summary.write(out / "summary.json")
    return summary


def transferred(cropd: nn.Module, bare: nn.Module, images: ImageSource, seed: int) -> list[Row]:
    """CRoPD under PGD-20 on the model without it, and under attacks on the whole."""
    x, y = images.test.images, images.test.labels
    blind = pgd(bare, x, y, THREAT, steps=20, generator=generator_of(seed, "blind"))
    honest = evaluate(cropd, (x, y), THREAT, ("pgd-20", "strong"), seed=seed)
    return [
        _row("CRoPD", "PGD-20 on the model alone, transferred", True, right(cropd, blind, y)),
        *(
            _row("CRoPD", f"{name} on the whole", False, honest.correct[name])
            for name in ("pgd-20", "strong")
        ),
    ]


def random_masks(bare: Defended, images: ImageSource, seed: int, epochs: int) -> list[Row]:
    """A masked auto-encoder in front, its masks random and then fixed."""
    training = TrainingSettings(epochs=epochs, batch_size=128, learning_rate=3e-3, warmup=0.1, seed=seed)
    preprocessor = masked_autoencoder(images.train, training)
    x, y = images.test.images, images.test.labels
    rows = []
    for fixed in (False, True):
        model = whole(preprocessor, bare, fixed=fixed)
        features = extract_features(model, images.train)
        model.head = train_head(
            features, images.train.labels, len(images.train.classes), HeadSettings(seed=seed)
        )
        masks = "fixed" if fixed else "random"
        name = f"masked auto-encoder, {masks} masks"
        rows.append(_row(name, "clean", not fixed, right(model, x, y)))
        for steps in (10, 20):
            found = pgd(model, x, y, THREAT, steps=steps, generator=generator_of(seed, "pgd"))
            rows.append(_row(name, f"PGD-{steps}, scored again", not fixed, right(model, found, y)))
        standing, kept = own_number(model, (x, y), THREAT, 20, restarts=5, seed=seed)
        rows.append(_row(name, "PGD-20 x 5, its own number", not fixed, standing))
        rows.append(_row(name, "PGD-20 x 5, scored again", not fixed, right(model, kept, y)))
    honest = evaluate(model, (x, y), THREAT, ("strong",), seed=seed)
    return [*rows, _row(name, "strong", False, honest.correct["strong"])]


def _row(defence: str, attack: str, mistaken: bool, verdicts: Tensor) -> Row:
    return {"defence": defence, "attack": attack, "mistaken": mistaken, "accuracy": proportion(verdicts)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    try:
        found = measure(chosen.run, chosen.out, seed=chosen.seed)
    except InputError as error:
        parser.error(error.sentence(f"--{error.argument}"))
    for row in found.rows:
        print(f"{row['defence']:42} {row['attack']:42} {100 * row['accuracy']['value']:5.1f}")


if __name__ == "__main__":
    main()
