"""The command line. Thin: each command parses, calls the library, prints. Heavy imports stay inside.

A command lives in the file of its own name; this file only lists them, so that ``--help`` stays fast.
"""

from __future__ import annotations

import sys

from heirloom.cli import common
from heirloom.cli.certify import certify
from heirloom.cli.defend import defend
from heirloom.cli.demo import demo
from heirloom.cli.evaluate import evaluate
from heirloom.cli.export import export
from heirloom.cli.features import features_app
from heirloom.cli.inspect import inspect
from heirloom.cli.leaderboard import leaderboard
from heirloom.cli.predict import predict
from heirloom.cli.pretrain import pretrain
from heirloom.cli.probe import probe
from heirloom.cli.report import report
from heirloom.cli.reproduce import reproduce
from heirloom.cli.rerun import rerun
from heirloom.cli.shared import App
from heirloom.cli.show import show
from heirloom.cli.theory import theory_app

app = App(
    name="heirloom",
    help="Adversarial robustness for a frozen vision foundation model: given, measured, explained.",
    no_args_is_help=True,
)
app.callback()(common.top_level)
for command in (
    demo,
    defend,
    evaluate,
    certify,
    leaderboard,
    show,
    predict,
    export,
    report,
    rerun,
    pretrain,
    probe,
    inspect,
    reproduce,
):
    app.command()(command)
app.add_typer(features_app, name="features")
app.add_typer(theory_app, name="theory")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 a negative verdict, 2 wrong input or interruption."""
    sys.exit(common.run(app, arguments))
