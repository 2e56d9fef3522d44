"""``heirloom theory``: the papers' simulations. Each laboratory adds its own group here."""

from __future__ import annotations

from heirloom.cli.shared import App
from heirloom.cli.theory_cropd import cropd_bound
from heirloom.cli.theory_patches import patches_app
from heirloom.cli.theory_sparse_coding import sparse_coding_app

theory_app = App(
    help="The papers' simulations: sparse coding (purification) and patch data (feature learning).",
    no_args_is_help=True,
)


@theory_app.callback()
def theory() -> None:
    """The papers' simulations: sparse coding (purification) and patch data (feature learning)."""


theory_app.add_typer(sparse_coding_app, name="sparse-coding")
theory_app.add_typer(patches_app, name="patches")
theory_app.command("cropd-bound")(cropd_bound)
