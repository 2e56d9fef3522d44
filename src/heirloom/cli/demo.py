"""``heirloom demo``: the main job on the embedded digits, without a download."""

from __future__ import annotations

from pathlib import Path

from heirloom.cli import options


def demo(
    out: options.ResultFolder = Path("runs/demo"),
    seed: options.Seed = 0,
) -> None:
    """The main job on the embedded digits: pre-train, freeze, defend, measure. No download, about two minutes.

    Run again, it prints what is saved; cut off, it goes on.
    """
    import torch

    from heirloom.cli.defend import print_summary
    from heirloom.cli.progress import stage_progress
    from heirloom.defence.demo import run_demo

    torch.set_num_threads(1)  # networks this small lose time to a second thread
    with stage_progress() as progress:
        summary = run_demo(out, seed=seed, progress=progress)
    print_summary(summary, out)
