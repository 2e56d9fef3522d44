"""``heirloom certify``: a radius that no attack can cross, for the smoothed model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heirloom.cli import options


def certify(
    saved: Annotated[
        str | None, typer.Argument(help="Folder (or hub id) of a defence that heirloom saved.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead: package.module:factory of any model of [0, 1] pixels.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Images: hub id, folder, .npz or .parquet file, digits. Default: the defence's."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the figures. Default: certified/ in the defence's.")
    ] = None,
    sigma: Annotated[float, typer.Option(help="Standard deviation of the noise, in pixel units.")] = 0.25,
    n: Annotated[int, typer.Option(help="Draws for each image.")] = 1000,
    n0: Annotated[int, typer.Option(help="Draws that choose the class.")] = 100,
    alpha: Annotated[float, typer.Option(help="Probability that a certificate is wrong.")] = 0.001,
    limit: Annotated[
        int | None,
        typer.Option("--limit-test", "--limit", min=1, help="At most so many test images, drawn at random."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Noisy images at once.")] = 256,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in OUT.")] = False,
    image_size: options.ImageSize = None,
    classes: options.ModelClasses = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Let code that the saved defence names run.")
    ] = False,
) -> None:
    """Certify the smoothed model in L2 (randomised smoothing), for a saved defence or any model."""
    import torch

    from heirloom.cli.output import print_table
    from heirloom.cli.plan import announce
    from heirloom.cli.progress import stage_progress
    from heirloom.cli.targets import resolve_target
    from heirloom.data.images import load_images
    from heirloom.evaluation.askable import askable
    from heirloom.evaluation.certify import CertifySettings
    from heirloom.evaluation.certify_job import WHAT, certify_job
    from heirloom.evaluation.plan import plan_of_certification
    from heirloom.evaluation.precision import in_dtype
    from heirloom.evaluation.preflight import TIMED
    from heirloom.report.tables import accuracy_table
    from heirloom.runs import check_new
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import reject, require

    device = str(torch_device(device))
    settings = CertifySettings(sigma, n, n0, alpha, seed, batch_size, device)
    target = resolve_target(saved, model, trust_remote_code=trust_remote_code)
    require(classes is None or model is not None, "classes", "left out for a saved defence", classes)
    source = data or target.data or reject("data", "given with --model", "nothing")
    place = out or (Path(saved) / "certified" if saved and Path(saved).is_dir() else None)
    place = place or reject("out", "given with --model", "nothing")
    check_new(place, resume=resume)
    images = load_images(
        source, image_size=image_size or target.image_size, limit_test=limit, only_test=True, seed=seed
    ).test
    few = images.select(torch.arange(min(TIMED, len(images)))).images
    model_at_hand = askable(in_dtype(target.on(images, classes), torch.float32, few), few, device)
    announce(place, lambda: plan_of_certification(model_at_hand, few, settings, len(images)))
    with stage_progress() as progress:
        summary = certify_job(
            model_at_hand,
            target.name,
            images.pair,
            settings,
            place,
            source=source,
            resume=resume,
            report=lambda done, total: progress("certify", done, total, ""),
        )
    columns, rows = accuracy_table(summary.rows, "model")
    print_table(f"Certified accuracy in % [95 % interval], L2, sigma {sigma:g}, n {n}", columns, rows)
    print(WHAT)
    for told in summary.details.get("caveats", []):
        print(told)
    options.files_written(summary, place)
