"""A counter-attack at test time in front of a frozen model: by its own protocol, end to end, and attacked adaptively.

python benchmarks/counter_attack.py --out results/audit/counter-attack      # a minute on one thread
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from heirloom.attacks.losses import cross_entropy
from heirloom.attacks.pgd import pgd
from heirloom.data.images import load_images
from heirloom.evaluation import broken
from heirloom.evaluation.adaptive.job import further
from heirloom.evaluation.audit import audit, failed, fresh_copy
from heirloom.evaluation.chunks import margins_of
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.provenance import Stopwatch
from heirloom.results.statistics import proportion
from heirloom.runtime.randomness import generator_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/audit/counter-attack"))
    parser.add_argument("--examples", type=int, default=100)
    arguments = parser.parse_args()
    stopwatch = Stopwatch()
    test = load_images("digits", limit_test=arguments.examples, seed=0).test
    x, y, threat = test.images, test.labels, broken.THREAT
    model, undefended = broken.counter_attack(), broken.clean_net()
    pristine = fresh_copy(model)
    # the published protocol: the attacker knows the frozen model and not what stands in front of it
    unaware = pgd(
        undefended, x, y, threat, loss=cross_entropy, steps=10, generator=generator_of(0, "unaware")
    )
    asked = {
        "clean, undefended": (undefended, x),
        "PGD-10 on the undefended model, judged on it": (undefended, unaware),
        "clean, defended": (model, x),
        "the same images, judged by the defence (its own protocol)": (model, unaware),
    }
    rows = [
        {"asked": name, "right": proportion(margins_of(judge, images, y) < 0)}
        for name, (judge, images) in asked.items()
    ]
    evaluation = evaluate(model, (x, y), threat, ["pgd-20", "strong"])
    rows += [
        {"asked": f"{name}, end to end", "right": evaluation.accuracy(name)} for name in ("pgd-20", "strong")
    ]
    findings = audit(model, (x, y), threat, evaluation, pristine=pristine)
    settings = EvaluationSettings("counter_attack", "digits", threat, ("pgd-20", "strong"), adaptive=True)
    with tempfile.TemporaryDirectory() as folder:
        found = further(model, (x, y), settings, findings, evaluation, folder=Path(folder))
    rows.append({"asked": "adaptive, from what the audit found", "right": found["row"]["adaptive"]})
    details = {
        "audit": [finding.check for finding in failed(findings)],
        "sources": found["adaptive"]["sources"],
    }
    shown = {"data": "digits", "examples": arguments.examples, "threat": str(threat)}
    stopwatch.summary("counter-attack", rows, seed=0, settings=shown, details=details).write(
        arguments.out / "summary.json"
    )
    for row in rows:
        print(row["asked"], row["right"])
    print(details)


if __name__ == "__main__":
    main()
