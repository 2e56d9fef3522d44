"""Full AutoAttack standard, ours (float32 and bfloat16 passes) and pyautoattack's, example by example, on three
networks of the digits.

    python benchmarks/agreement.py --out results/benchmarks/agreement

The networks are those of tests/attacks/small.py (seed 0), attacked on the 297 digits that they did not see, with the
eps of tests/attacks/test_peers.py. Some five minutes on one idle thread.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import warnings
from pathlib import Path

import torch
from pyautoattack import AutoAttack

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.attacks.small import digits
from tests.attacks.test_peers import NETWORKS, network

from heirloom.cli.output import print_table
from heirloom.evaluation.verdicts import evaluate
from heirloom.results.provenance import Stopwatch
from heirloom.threat import Threat


def compare(name: str, threat: Threat) -> dict[str, object]:
    model, (x, y) = network(name), digits()
    x, y = x[1500:], y[1500:]
    used = time.process_time()
    ours = evaluate(model, (x, y), threat, ["autoattack"], batch_size=300).correct["autoattack"]
    between = time.process_time()
    low = evaluate(
        model, (x, y), threat, ["autoattack"], batch_size=300, attack_dtype=torch.bfloat16
    ).correct["autoattack"]
    before = time.process_time()
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack = AutoAttack(model, eps=threat.eps, norm=threat.norm, seed=0)
        theirs = model(attack.run_standard_evaluation(x, y, batch_size=300)[0]).argmax(1) == y
    ended = time.process_time()
    return {
        "network": name,
        "threat": str(threat),
        "n": len(x),
        "clean": round(float((model(x).argmax(1) == y).double().mean()), 4),
        "heirloom": round(float(ours.double().mean()), 4),
        "pyautoattack": round(float(theirs.double().mean()), 4),
        "agreement": round(float((ours == theirs).double().mean()), 4),
        "ours alone robust": int((ours & ~theirs).sum()),
        "theirs alone robust": int((theirs & ~ours).sum()),
        "bf16": round(float(low.double().mean()), 4),
        "bf16 agrees with theirs": round(float((low == theirs).double().mean()), 4),
        "bf16 alone robust": int((low & ~theirs).sum()),
        "theirs alone robust against bf16": int((theirs & ~low).sum()),
        "cpu ours": round(between - used, 1),
        "cpu bf16": round(before - between, 1),
        "cpu theirs": round(ended - before, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--norms", nargs="+", default=["Linf", "L2"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    watch, rows = Stopwatch(), []
    for norm in options.norms:
        for name, (_, _, radius) in NETWORKS.items():
            rows.append(compare(name, Threat(norm, radius[norm])))
            watch.summary("benchmark", rows, seed=0).write(options.out / "summary.json")
    print_table("AutoAttack standard", list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    main()
