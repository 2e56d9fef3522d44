"""``heirloom evaluate``: the robust accuracy of any model, and whether to believe it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heirloom.cli import options
from heirloom.runtime import choices

if TYPE_CHECKING:
    from heirloom.evaluation.audit import Finding
    from heirloom.results.schema import Summary


def evaluate(
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
        Path | None, typer.Option(help="Folder for the figures. Default: evaluation/ in the defence's.")
    ] = None,
    norm: Annotated[choices.Norm | None, typer.Option(help="Default: the defence's, else Linf.")] = None,
    eps: Annotated[
        str | None, typer.Option(help="Radius in pixel units. Default: the defence's, else 8/255.")
    ] = None,
    attacks: options.Attacks = "pgd-10,pgd-20,cascade",
    limit: Annotated[
        int | None,
        typer.Option("--limit-test", "--limit", min=1, help="At most so many test images, drawn at random."),
    ] = None,
    batch_size: options.EvalBatchSize = None,
    seed: options.Seed = 0,
    seeds: Annotated[int, typer.Option(help="Repeat with so many seeds; their spread is told apart.")] = 1,
    device: options.Device = "auto",
    dtype: Annotated[
        choices.Dtype, typer.Option(help="Type that the model is converted to and judged in.")
    ] = "float32",
    attack_dtype: options.PassDtype = None,
    compile_network: options.Compile = False,
    fsdp: options.Fsdp = False,
    audit: Annotated[bool, typer.Option(help="Look for signs that the figure is wrong.")] = True,
    audit_examples: Annotated[int, typer.Option(help="Images that the audit looks at.")] = 64,
    surrogate: Annotated[
        str | None, typer.Option(help="package.module:factory of another model, for transfer attacks.")
    ] = None,
    adaptive: Annotated[
        bool, typer.Option(help="Attack around what the audit found: EOT, BPDA, transfer.")
    ] = False,
    bpda: Annotated[
        list[str] | None,
        typer.Option(
            help="Part without a gradient: module.path, or module.path=package.module:factory; repeatable."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Score a random model's worst images over so many fresh draws.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Folder of another evaluation: paired differences to it.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Exit with status 1 when the audit finds a sign.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted evaluation in OUT.")] = False,
    image_size: options.ImageSize = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    classes: options.ModelClasses = None,
    trust_remote_code: Annotated[
        bool, typer.Option(help="Let code that the saved defence names run.")
    ] = False,
) -> None:
    """Measure the robust accuracy of a saved defence or of any model, and audit the figure."""
    from dataclasses import replace

    import torch

    from heirloom.cli.plan import announce
    from heirloom.cli.targets import resolve_target
    from heirloom.data.images import are_stored, load_images
    from heirloom.evaluation.askable import askable
    from heirloom.evaluation.job import check_before_work, evaluate_job
    from heirloom.evaluation.plan import plan_of_evaluation
    from heirloom.evaluation.precision import OWN, dtype_named, in_dtype, type_of
    from heirloom.evaluation.preflight import TIMED
    from heirloom.evaluation.settings import EvaluationSettings
    from heirloom.models.factory import module_from_factory
    from heirloom.runs import check_new
    from heirloom.runtime import distributed
    from heirloom.runtime.devices import torch_device
    from heirloom.runtime.errors import reject, renamed, require
    from heirloom.threat import Threat, parse_eps

    device = str(torch_device(device))
    require(seeds >= 1, "seeds", "at least 1", seeds)
    require(audit_examples >= 8, "audit_examples", "at least 8", audit_examples)
    require(adaptive <= audit, "adaptive", "used with the audit", "--no-audit")
    require(adaptive or not bpda, "bpda", "used with --adaptive", "no --adaptive")
    chosen = options.attacks_in(attacks)
    require(draws is None or draws >= 2, "draws", "at least 2", draws)
    require(strict <= audit, "strict", "used with the audit", "--no-audit")
    if eps is not None:
        parse_eps(eps)
    with renamed(model="surrogate"):
        other = module_from_factory(surrogate) if surrogate else None
    target = resolve_target(saved, model, trust_remote_code=trust_remote_code)
    require(classes is None or model is not None, "classes", "left out for a saved defence", classes)
    source, place = data or target.data, out or _place(saved)
    if source is None:
        reject("data", "given with --model", "nothing")
    if place is None:
        reject("out", "given with --model", "nothing")
    check_new(place, resume=resume)
    chosen_norm = norm or (target.threat.norm if target.threat else "Linf")
    trained_eps = target.threat.eps if target.threat else 8 / 255
    threat = options.threat_of(chosen_norm, eps) if eps else Threat(chosen_norm, trained_eps)
    settings = EvaluationSettings(
        name=target.name,
        data=source,
        threat=threat,
        attacks=chosen,
        batch_size=batch_size,
        seed=seed,
        seeds=seeds,
        device=device,
        dtype=dtype,
        attack_dtype="auto" if attack_dtype == "auto" else attack_dtype and dtype_named(attack_dtype),
        compile=compile_network,
        fsdp=fsdp,
        audit_examples=audit_examples if audit else 0,
        limit=limit,
        adaptive=adaptive,
        bpda=tuple(bpda or ()),
        draws=draws,
    )
    own_size = None if saved is None and are_stored(source) else target.image_size  # a model resizes inside
    images = load_images(
        source,
        image_size=image_size or own_size,
        limit_test=limit,
        only_test=True,
        seed=seed,
        image_column=image_column,
        label_column=label_column,
    ).test
    few = images.select(torch.arange(min(TIMED, len(images)))).images
    whole = target.on(images, classes)
    if (converted := in_dtype(whole, dtype_named(dtype), few)) is whole and type_of(whole) != torch.float32:
        settings = replace(settings, dtype=OWN)
    judged = askable(converted, few, device)
    check_before_work(judged, images.pair, settings, against)
    announce(place, lambda: plan_of_evaluation(judged, few, settings, len(images)))
    distributed.join()
    with _progress(distributed.rank() == 0) as progress:
        summary, findings = evaluate_job(
            judged,
            images.pair,
            settings,
            place,
            resume=resume,
            against=against,
            progress=progress,
            surrogate=other,
        )
    first = distributed.rank() == 0
    distributed.leave()
    if first:
        print_evaluation(summary, findings, place)
    if strict and any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


def print_adaptive(details: dict[str, Any]) -> None:
    """What the adaptive attack differentiated, and the scores over draws."""
    from heirloom.report.tables import shown

    if "adaptive" in details:
        print(f"adaptive: {'; '.join(details['adaptive']['sources'])}; Square Attack.")
    if "draws" in details:
        found = details["draws"]
        scores = ", ".join(f"{name} {shown(found[name])}" for name in ("mean", "majority", "worst"))
        print(f"Worst images over {found['draws']} fresh draws, in %: {scores}.")


def _place(saved: str | None) -> Path | None:
    """Beside a saved defence, where it is a folder."""
    return Path(saved) / "evaluation" if saved and Path(saved).is_dir() else None


def _progress(shown: bool) -> Any:
    from contextlib import nullcontext

    from heirloom.cli.progress import stage_progress

    return stage_progress() if shown else nullcontext(lambda *_: None)


def print_evaluation(summary: Summary, findings: list[Finding], out: Path) -> None:
    """The table, what the audit found, and where the files lie."""
    from heirloom.cli.output import print_table
    from heirloom.evaluation.audit import failed
    from heirloom.report.tables import accuracy_table

    columns, rows = accuracy_table(summary.rows, "model", summary.details.get("single_draw", ()))
    count = summary.rows[0]["clean"]["n"]
    print_table(f"Accuracy in % [95 % interval], {summary.threat}, {count} test images", columns, rows)
    print("Each column is the worst case over its attack and all before it.")
    if said := summary.details["evaluation"].get("model"):
        print(said)
    for told in summary.details.get("caveats", []):
        print(told)
    print_adaptive(summary.details)
    for finding in failed(findings):
        print(f"\nAUDIT, {finding.check}: {finding.cause}\n  Remedy: {finding.remedy}")
    if findings and not failed(findings):
        print(f"Audit: none of {len(findings)} signs of a wrong figure was found.")
    options.files_written(summary, out)
