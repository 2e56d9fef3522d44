"""The app of ``heirloom show``: Gradio on this machine alone, no analytics, no font or script from elsewhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from heirloom.objectives.defences import caveats
from heirloom.report.tables import accuracy_table
from heirloom.runtime.errors import InputError
from heirloom.show.attacked import ATTACKS, TARGETS, Asked, Outcome, attack_sample, verdict
from heirloom.show.opened import Opened, Sample, as_array, eight_bit, sample_of

ADDRESS = "127.0.0.1"
HEIGHT = 260  # pixels: an 8-pixel digit would be a dot otherwise
STYLE = """
.picture img { image-rendering: pixelated; width: 100%; height: 100%; object-fit: contain;
  box-sizing: border-box; padding-top: 2rem; }
.pictures img { image-rendering: pixelated; }
footer { display: none !important; }
"""
FONTS = ["system-ui", "sans-serif"]
OUT_OF_REACH = (
    "The frozen model that this defence stands in for is not within reach: it cannot be attacked alone."
)


def build_app(opened: Sequence[Opened], pictures: Sequence[Sample]) -> Any:
    """The app as ``gradio.Blocks``, not launched: a tab to attack, one of figures, one that compares.

    Args:
        opened: the saved defences, the first one is shown first. pictures: to start from; more can be uploaded.
    """
    gradio = _gradio()
    with gradio.Blocks(title="heirloom", analytics_enabled=False) as app:
        gradio.Markdown(f"# {opened[0].name}: try it out\nEverything is computed on this machine.")
        with gradio.Tab("Attack"):
            _attack_tab(gradio, app, opened, pictures)
        with gradio.Tab("Figures"):
            for found in opened:
                _figures(gradio, found)
        if len(opened) > 1:
            with gradio.Tab("Compare"):
                _compare_tab(gradio, app, opened, pictures)
    return app


def is_free(port: int) -> bool:
    """Whether nobody listens on ``port`` of this machine."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def launch(app: Any, *, port: int | None = None, browser: bool = False, wait: bool = True) -> str:
    """Serve ``app`` on 127.0.0.1 and return its address; with ``wait`` not before it is stopped."""
    gradio = _gradio()
    _, address, _ = app.launch(
        server_name=ADDRESS,
        server_port=port,
        share=False,
        ssr_mode=False,
        inbrowser=browser,
        quiet=True,
        prevent_thread_lock=not wait,
        enable_monitoring=False,
        theme=gradio.themes.Base(font=FONTS, font_mono=["ui-monospace", "monospace"]),
        css=STYLE,
    )
    return str(address)


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio
    except ImportError as error:
        raise InputError("html", "given, or heirloom-robust[app] installed", str(error)) from None
    return gradio


def _attack_tab(gradio: Any, app: Any, opened: Sequence[Opened], pictures: Sequence[Sample]) -> None:
    inputs = _controls(gradio, opened, pictures)
    words = gradio.Markdown(elem_id="verdict")
    with gradio.Row():
        shown = [
            _image(gradio, label, opened[0])
            for label in ("before", "after: the adversarial picture", "change, amplified")
        ]
    with gradio.Row():
        shown += [
            _image(gradio, f"{when}, as the preprocessor hands it on", opened[0])
            for when in ("before", "after")
        ]
    with gradio.Row():
        bars = [gradio.Label(label=label, num_top_classes=5) for label in _LABELS]
    _on_every_change(app, partial(attacked, opened, pictures), inputs, [words, *shown, *bars], "attack")


_LABELS = (
    "with the defence, before",
    "with the defence, after",
    "without it, before",
    "without it, after",
)


def _controls(
    gradio: Any, opened: Sequence[Opened], pictures: Sequence[Sample], *, one: bool = True
) -> list[Any]:
    """Defence, picture, upload, attack, eps, steps, target: the inputs of :func:`attacked` in its order. ``one``: of
    several defences one is chosen."""
    names, eps = [found.name for found in opened], opened[0].threat.eps
    with gradio.Row():
        with gradio.Column():
            defence = gradio.Dropdown(
                names, value=names[0], label="saved defence", visible=one and len(names) > 1
            )
            choices = [sample.name for sample in pictures]
            picked = gradio.Dropdown(choices, value=choices[0] if choices else None, label="test picture")
            upload = gradio.Image(
                label="or a picture of your own",
                type="filepath",
                image_mode=None,
                format="png",
                sources=["upload", "clipboard"],
                height=HEIGHT // 2,
                elem_classes="picture",
            )
        with gradio.Column():
            attack = gradio.Dropdown(list(ATTACKS), value=next(iter(ATTACKS)), label="attack")
            radius = gradio.Slider(
                0, 4 * eps, value=eps, step=eps / 32, label=f"eps ({opened[0].threat.norm})"
            )
            steps = gradio.Slider(1, 100, value=20, step=1, label="steps")
            target = gradio.Radio(list(TARGETS), value=TARGETS[0], label="what the attack knows")
    return [defence, picked, upload, attack, radius, steps, target]


def _on_every_change(app: Any, function: Any, inputs: list[Any], outputs: list[Any], name: str) -> None:
    """Compute when anything is moved, and once at the start; of many moves the last one counts."""
    first, *events = [getattr(part, "release", part.change) for part in inputs]
    options = {"trigger_mode": "always_last", "show_progress": "minimal"}
    first(function, inputs, outputs, api_name=name, **options)
    for event in [*events, app.load]:
        event(function, inputs, outputs, api_visibility="private", **options)


def _image(gradio: Any, label: str, opened: Opened) -> Any:
    """A picture as it is, bit for bit: PNG, never a lossy format."""
    return gradio.Image(
        label=label,
        format="png",
        type="numpy",
        image_mode="L" if opened.model.image_shape[0] == 1 else "RGB",
        height=HEIGHT,
        interactive=False,
        buttons=["download", "fullscreen"],  # sharing would send the picture elsewhere
        elem_classes="picture",
    )


def attacked(
    opened: Sequence[Opened],
    pictures: Sequence[Sample],
    defence: str,
    picked: str | None,
    upload: str | None,
    attack: str,
    eps: float,
    steps: float,
    target: str,
) -> list[Any]:
    """What the attack tab shows: the verdict, five pictures, four lists of probabilities."""
    chosen = next(found for found in opened if found.name == defence)
    sample = _sample(chosen, pictures, picked, upload)
    if sample is None:
        return ["Pick a picture, or upload one.", *[None] * (5 + len(_LABELS))]
    asked = Asked(attack, float(eps), int(steps), target == TARGETS[0])
    if chosen.bare is None and not asked.whole:
        return [OUT_OF_REACH, *[None] * (5 + len(_LABELS))]
    outcome = attack_sample(chosen, sample, asked)
    return [f"### {verdict(chosen, outcome)}", *_arrays(outcome), *_bars(chosen, outcome)]


def _sample(
    opened: Opened, pictures: Sequence[Sample], picked: str | None, upload: str | None
) -> Sample | None:
    """The uploaded picture where there is one, else the one that was picked."""
    if upload:
        return Sample("your own", sample_of(upload, opened.model.image_shape), None)
    return next((sample for sample in pictures if sample.name == picked), None)


def _arrays(outcome: Outcome) -> list[Any]:
    drawn = [outcome.change, outcome.seen_before, outcome.seen_after]
    return [as_array(pixels) for pixels in (outcome.before, outcome.after, *map(eight_bit, drawn))]


def _bars(opened: Opened, outcome: Outcome) -> list[dict[str, float] | None]:
    pairs = [*outcome.probabilities["with"], *outcome.probabilities.get("without", (None, None))]
    return [
        values if values is None else dict(zip(opened.model.classes, map(float, values), strict=True))
        for values in pairs
    ]


def _figures(gradio: Any, found: Opened) -> None:
    """The saved table with its intervals, and how it came about."""
    gradio.Markdown(f"## {found.name}")
    if found.summary is None:
        gradio.Markdown("This folder has no summary.json: nothing was measured.")
        return
    columns, rows = accuracy_table(found.summary.rows)
    gradio.Dataframe(rows, headers=columns, interactive=False, label="accuracy in % [95 % interval]")
    remarks = [remark["warning"] for remark in found.summary.details.get("remarks", [])]
    gradio.Markdown(
        "\n\n".join(
            [
                f"{found.summary.threat}, {found.summary.data}. Each column is the worst case over its attack and all "
                f"before it. `{found.summary.command}`",
                *caveats(row.get("defence", "") for row in found.summary.rows),
                *remarks,
            ]
        )
    )


def _compare_tab(gradio: Any, app: Any, opened: Sequence[Opened], pictures: Sequence[Sample]) -> None:
    inputs = _controls(gradio, opened, pictures, one=False)[1:]
    table = gradio.Dataframe(
        headers=list(COMPARED),
        interactive=False,
        wrap=True,
        column_widths=["20%", "60%", "20%"],
        label="the same picture, each defence attacked",
    )
    gallery = gradio.Gallery(
        label="each adversarial picture",
        format="png",
        columns=min(4, len(opened)),
        object_fit="contain",
        buttons=["download", "fullscreen"],
        elem_classes="pictures",
    )
    _on_every_change(app, partial(compared, opened, pictures), inputs, [table, gallery], "compare")


COMPARED = ("defence", "verdict", "worst measured accuracy")


def compared(
    opened: Sequence[Opened],
    pictures: Sequence[Sample],
    picked: str | None,
    upload: str | None,
    attack: str,
    eps: float,
    steps: float,
    target: str,
) -> list[Any]:
    """A row a defence, each attacked by itself, and the pictures that came of it."""
    rows, shown = [], []
    for found in opened:
        sample = _sample(found, pictures, picked, upload)
        if sample is None:
            return [[], []]
        asked = Asked(attack, float(eps), int(steps), target == TARGETS[0])
        if found.bare is None and not asked.whole:
            rows.append([found.name, OUT_OF_REACH, worst(found)])
            continue
        outcome = attack_sample(found, sample, asked)
        rows.append([found.name, verdict(found, outcome), worst(found)])
        shown.append((as_array(outcome.after), found.name))
    return [rows, shown]


def worst(found: Opened) -> str:
    """The last column of the saved defence's row, with its interval."""
    if found.summary is None:
        return "not measured"
    method = found.model.defence.get("method")
    rows = [row for row in found.summary.rows if row.get("defence") == method]
    columns, cells = accuracy_table(rows or found.summary.rows[-1:])
    return f"{cells[0][-1]} ({columns[-1]})"
