"""``heirloom features``: data sets of robust and of non-robust features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heirloom.cli import options
from heirloom.cli.shared import App
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.results.schema import Summary

features_app = App(
    help="Data sets of robust and of non-robust features, made by inverting an encoder's representations.",
    no_args_is_help=True,
)


@features_app.callback()
def features() -> None:
    """Data sets of robust and of non-robust features, made by inverting an encoder's representations."""


@features_app.command()
def build(
    encoder: Annotated[
        str,
        typer.Option(help="OUT/encoder of pretrain, Transformers folder, hub id, or package.module:factory."),
    ],
    data: options.Data,
    out: Annotated[
        Path, typer.Option(help="Folder for the data set: datasets.load_dataset and --data read it.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Of the features, on card and page [default: the encoder's source].")
    ] = None,
    variant: Annotated[choices.FeatureVariant, typer.Option(help="What becomes of each image.")] = "inverted",
    start: Annotated[choices.FeatureStart, typer.Option(help="Where the descent begins.")] = "other",
    steps: Annotated[int, typer.Option(help="Of the descent; a forward and a backward pass each.")] = 1000,
    step_size: Annotated[
        float | None,
        typer.Option(
            help="L2 length in pixel units [default: .03 root of pixels; targets: 2.5 eps / steps]."
        ),
    ] = None,
    step_rule: Annotated[choices.StepRule, typer.Option(help="constant: Ilyas et al.'s.")] = "decaying",
    eps: Annotated[
        str | None, typer.Option(help="Radius of the -target variants [default: 0.5 in L2].")
    ] = None,
    norm: Annotated[choices.Norm, typer.Option(help="Norm of the -target variants.")] = "L2",
    beside: Annotated[
        Path | None,
        typer.Option(help="A build of the same pairs by another encoder, to stand beside it on the page."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images inverted at once.")] = 250,
    limit: options.Limit = None,
    limit_test: options.LimitTest = None,
    image_size: options.ImageSize = None,
    revision: options.Revision = None,
    pooling: options.Pooling = "auto",
    normalisation: options.Normalisation = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
) -> None:
    """Build the data set of what an encoder sees: robust features if it was trained adversarially, else others.

    After Ilyas et al. (NeurIPS 2019). Each image of OUT gives the encoder the representation of an image of DATA, and
    has its label; it was reached from another image.
    """
    from heirloom.cli.plan import announce
    from heirloom.cli.progress import stage_progress
    from heirloom.data.images import load_images
    from heirloom.features.job import build_features, paired
    from heirloom.features.plan import plan_of_build
    from heirloom.features.settings import BuildSettings
    from heirloom.models.encoder import EncoderSettings, load_encoder
    from heirloom.runs import check_new
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import renamed

    device = str(torch_device(device))
    check_new(out, resume=resume)
    settings = BuildSettings(variant, start, steps, step_size, step_rule, batch_size, seed, device)
    threat = options.threat_of(norm, eps or "0.5") if settings.is_targeted else None
    reading = EncoderSettings(encoder, revision, pooling, normalisation)
    with renamed(model="encoder"):
        frozen = load_encoder(reading, trust_remote_code=trust_remote_code)
    images = load_images(data, image_size=image_size, limit=limit, limit_test=limit_test, seed=seed)
    paired(images, settings, beside)  # or says what is wrong
    with renamed(model="encoder"):
        announce(out, lambda: plan_of_build(frozen, images, settings))
    with stage_progress() as progress:
        summary = build_features(
            frozen,
            name or encoder,
            images,
            settings,
            out,
            threat=threat,
            beside=beside,
            resume=resume,
            progress=progress,
        )
    _print(summary, out)


@features_app.command()
def measure(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Folders of pretrain (all epochs that it kept), saved defences, hub classifiers, or "
            "package.module:factory.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")],
    robust: Annotated[
        Path | None, typer.Option(help="A data set of robust features, made by features build.")
    ] = None,
    non_robust: Annotated[
        Path | None, typer.Option(help="A data set of non-robust features, made by features build.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Test images whose clean accuracy stands beside them.")
    ] = None,
    limit_test: options.LimitTest = None,
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: options.Resume = False,
) -> None:
    """What classifiers have learned of robust and of non-robust features, along a training where its epochs were kept.

    Li and Li (arXiv 2410.08503), Definition 4.1: accuracy on images in which one kind of feature alone is present.
    """
    from heirloom.cli.output import print_table
    from heirloom.cli.progress import stage_progress
    from heirloom.cli.targets import checkpoints_of
    from heirloom.data.images import load_images
    from heirloom.features.measure import measure_features, table
    from heirloom.runs import check_new
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import renamed

    device = str(torch_device(device))
    sets = {name: place for name, place in (("robust", robust), ("non-robust", non_robust)) if place}
    check_new(out, resume=resume)
    with renamed(model="models"):
        checkpoints = [c for model in models for c in checkpoints_of(model, trust_remote_code)]
    images = None if data is None else load_images(data, limit=1, limit_test=limit_test, seed=seed)
    with stage_progress() as progress:
        summary = measure_features(
            checkpoints, sets, out, data=images, device=device, resume=resume, progress=progress
        )
    shown = table(summary.rows)
    print_table(shown.caption, shown.columns, shown.rows)
    options.files_written(summary, out)


def _print(summary: Summary, out: Path) -> None:
    from heirloom.cli.output import print_table
    from heirloom.features.page import quality

    table = quality(summary.rows)
    print_table(table.caption, table.columns, table.rows)
    options.files_written(summary, out, out / "README.md")
