"""Options that several commands share, each written once; and the checks that only a command line needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heirloom.cli.voice import told
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.results.schema import Summary
    from heirloom.threat import Threat

Model = Annotated[
    str, typer.Option(help="Foundation model: hub id, Transformers folder, package.module:factory.")
]
Data = Annotated[str, typer.Option(help="Images: hub id, folder, .npz or .parquet file, or digits.")]
Eps = Annotated[str, typer.Option(help="Radius in pixel units, e.g. 8/255.")]
Norm = Annotated[choices.Norm, typer.Option(help="Norm of the perturbation.")]
Attacks = Annotated[str, typer.Option(help="Attacks by commas, weakest first.")]
AttackSteps = Annotated[int, typer.Option(help="PGD steps in training.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many training images.")]
LimitTest = Annotated[int | None, typer.Option(min=1, help="At most so many test images.")]
ImageSize = Annotated[
    int | None, typer.Option(min=1, max=4096, help="Side that images are resized and cropped to.")
]
ImageColumn = Annotated[str | None, typer.Option(help="Column of the images, where it is not found.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the labels, where it is not found.")]
ModelClasses = Annotated[
    Path | None,
    typer.Option(help="Names of MODEL's logits, one a line, where DATA's classes are among them."),
]
Revision = Annotated[str | None, typer.Option(help="Revision of the foundation model on the hub.")]
Pooling = Annotated[choices.Pooling, typer.Option(help="How features are read off the model.")]
Normalisation = Annotated[choices.Normalisation, typer.Option(help="Of pixels; auto: the checkpoint's.")]
TrustRemoteCode = Annotated[bool, typer.Option(help="Let a hub repository's own code run.")]
Validation = Annotated[float, typer.Option(help="Share of the training images held out.")]
ValidationImages = Annotated[int, typer.Option(help="At most so many are attacked after an epoch.")]
MixedPrecision = Annotated[choices.MixedPrecision, typer.Option(help="Of training.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Resume = Annotated[bool, typer.Option(help="Go on with the interrupted run in OUT.")]
EvalBatchSize = Annotated[
    int | None, typer.Option(help="Images at once in evaluation [default: as memory and speed allow].")
]
PassDtype = Annotated[
    choices.PassDtype | None,
    typer.Option(help="Type of the attacks' passes; auto: bfloat16 where it is faster here."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="torch.compile the attacked model; verdicts stay its own.")
]
Fsdp = Annotated[
    bool, typer.Option("--fsdp", help="Under torchrun: spread the frozen model's weights over the processes.")
]
ResultFolder = Annotated[Path, typer.Option(help="Folder for summary.json and report.html.")]


def threat_of(norm: choices.Norm, eps: str) -> Threat:
    """The threat that ``--norm`` and ``--eps`` name."""
    from heirloom.threat import parse_threat

    return parse_threat(norm, eps)


def step_size_of(text: str | None) -> float | None:
    """``--attack-step-size`` in pixel units, None where it is left to the attack."""
    from heirloom.threat import parse_eps

    return None if text is None else parse_eps(text, "attack_step_size")


def names_in(text: str) -> tuple[str, ...]:
    """``"pgd-10,strong"`` as names."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def attacks_in(text: str) -> tuple[str, ...]:
    """The names of ``--attacks``: at least one, all known, no two alike."""
    from heirloom.attacks.named import attack_list
    from heirloom.runtime.errors import require

    names = names_in(text)
    require(bool(names), "attacks", "at least one", "none")
    attack_list(names)
    return names


def files_written(summary: Summary, out: Path, *more: Path) -> None:
    """Tell where the figures lie, one file a line."""
    told(summary, out, *more)
    print("\n".join(str(path) for path in (out / "summary.json", out / "report.html", *more)))
