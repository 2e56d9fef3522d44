"""The main job: a frozen foundation model and images in, a defended model with its figures out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.named import named_attack
from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.choose import Trials, choose
from heirloom.defence.controls import STAND_IN, own_head, save_stand_in, student_alone, student_of
from heirloom.defence.page import defence_page
from heirloom.defence.remarks import packed, remarks, unpacked
from heirloom.defence.saved import DefendedModel
from heirloom.defence.settings import AUTO
from heirloom.defence.train_preprocessor import (
    METHODS,
    DefenceSettings,
    fresh_preprocessor,
    train_preprocessor,
)
from heirloom.evaluation.audit import audit, audit_details
from heirloom.evaluation.details import examples, per_class
from heirloom.evaluation.security_curve import security_curve
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.heads.linear import HeadSettings, extract_features, train_adversarial_head, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import parameter_count
from heirloom.results.provenance import Stopwatch
from heirloom.results.schema import Summary, to_plain
from heirloom.runtime.errors import InputError, require
from heirloom.runtime.files import read_json, write_json
from heirloom.threat import Threat

Progress = Callable[[str, int, int, str], None]  # (stage, done, in all, a few words)
SHOWN_IMAGES = 6
CURVE_IMAGES = 256


@dataclass(frozen=True)
class DefendSettings:
    """Everything that decides the result, besides data and foundation model.

    Attributes:
        threat: for training and for evaluation.
        defence: the preprocessor that is saved.
        compare: other methods trained and measured in the same way, for the table.
        head: of each of them. robust_head: train it on adversarial examples too (CRoPD, Table 1, "robust").
        attacks: columns of the table, each the worst case over it and those before it.
        validation: share of the training images held out; heads are selected on it.
        batch_size: of evaluation. audit_examples: test images that the audit of the saved defence looks at;
            0: no audit.
    """

    threat: Threat
    defence: DefenceSettings
    compare: tuple[str, ...] = ("identity",)
    head: HeadSettings = field(default_factory=HeadSettings)
    robust_head: bool = False
    attacks: tuple[str, ...] = ("pgd-10", "pgd-20", "strong")
    validation: float = 0.1
    batch_size: int = 256
    audit_examples: int = 64

    def __post_init__(self) -> None:
        for method in self.compare:
            require(method in METHODS, "compare", f"among {', '.join(METHODS)}", method)
        require(0 < self.validation < 1, "validation", "a share between 0 and 1", self.validation)

    @property
    def methods(self) -> list[str]:
        """The compared ones first, the defence that is saved last."""
        return [m for m in dict.fromkeys(self.compare) if m != self.defence.method] + [self.defence.method]


def defend(
    encoder: FrozenEncoder,
    data: ImageSource,
    settings: DefendSettings,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> tuple[DefendedModel, Summary]:
    """Train, measure, save.

    ``out`` becomes a hub-style folder (config.json, model.safetensors, README.md) with summary.json, report.html
    and the work in progress under ``work/``. With ``resume``, finished stages are read from there and the
    interrupted one goes on; the numbers are those of a run that was never interrupted.

    Raises:
        InputError: ``out`` holds another run's work and ``resume`` is off, or was made with other settings.
    """
    stopwatch = stopwatch or Stopwatch()
    train, validation = data.train.split(settings.validation, seed=settings.defence.training.seed)
    _check_before_anything_is_written(encoder, train, settings)
    work = _open_work(out, settings, encoder, data, resume)
    seen = {}
    if settings.defence.method == AUTO:
        trials = Trials(encoder, train, validation, settings.threat, settings.head, settings.batch_size)
        chosen, seen["trials"] = choose(trials, settings.defence, work / "trials", progress)
        settings = replace(settings, defence=chosen)
    job = _Job(encoder, train, validation, data.test, settings, work, progress or _silent)
    spent = work / "seconds.json"
    earlier = read_json(spent)["seconds"] if spent.exists() else 0.0
    rows, details = [], []
    for method in settings.methods:
        model, row, detail = job.measured(method)
        rows.append(row)
        details.append(detail)
        if method == settings.defence.method:
            stand_ins = job.controls(model)
            rows[-1:-1] = [control["row"] for control in stand_ins]
            verdicts = {d["defence"]: unpacked(d["right"]) for d in [*details, *stand_ins]}
            warned = to_plain(remarks(method, verdicts, settings.attacks))
        write_json(spent, {"seconds": earlier + stopwatch.seconds})
    audited = job.audited(model, settings.defence.method)
    model.save_pretrained(out)
    save_stand_in(model.preprocessor, out / STAND_IN, {"teacher": encoder.settings.source})
    summary = stopwatch.summary(
        seed=settings.defence.training.seed,
        device=settings.defence.training.device,
        settings=_shown_settings(settings, encoder, data, train),
        rows=rows,
        details={
            "classes": list(data.test.classes),
            "defences": details,
            "remarks": warned,
            **seen,
            **audited,
        },
        earlier_seconds=earlier,
    )
    publish(model, summary, out)
    return model, summary


def publish(model: DefendedModel, summary: Summary, out: Path) -> None:
    """Write summary.json (and results/defend.json, beside later measurements), model card and report.html."""
    summary.write(out / "summary.json")
    summary.write(out / "results" / "defend.json")
    model.summary = summary.model_dump()
    model.generate_model_card().save(out / "README.md")
    defence_page(summary, out / "report.html")


class _Job:
    """The stages of one defence, each kept in ``work`` once it is finished."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        train: LabelledImages,
        validation: LabelledImages,
        test: LabelledImages,
        settings: DefendSettings,
        work: Path,
        progress: Progress,
    ) -> None:
        self.encoder, self.train, self.validation, self.test = encoder, train, validation, test
        self.settings, self.work, self.progress = settings, work, progress
        self.device = settings.defence.training.device

    def measured(self, method: str) -> tuple[DefendedModel, dict[str, Any], dict[str, Any]]:
        """The trained model, its row of the table, and what the page shows of it."""
        folder = self.work / method
        stored = folder / "figures.json"
        if stored.exists():
            figures = read_json(stored)
            model = DefendedModel.from_pretrained(folder, encoder=self.encoder)
            return model, figures["row"], figures["detail"]
        model, history = self._trained(method, folder)
        evaluation = self._evaluated(model, method)
        row: dict[str, Any] = {"defence": method, **evaluation.row()}
        detail = {
            "defence": method,
            "parameters": parameter_count(model.preprocessor),
            "right": packed(evaluation.correct),
            "history": history,
            "per_class": per_class(evaluation, self.test),
            "curve": security_curve(
                model,
                self._first(CURVE_IMAGES),
                self.settings.threat,
                batch_size=self.settings.batch_size,
                device=self.device,
            ),
            "examples": examples(model, evaluation, self.test, SHOWN_IMAGES, self.device),
        }
        figures = to_plain({"row": row, "detail": detail})
        write_json(stored, figures)
        return model, figures["row"], figures["detail"]

    def controls(self, model: DefendedModel) -> list[dict[str, Any]]:
        """Rows and verdicts of what ``distil`` must stand beside, none for other methods."""
        student, own = student_of(model.preprocessor), own_head(self.encoder)
        if student is None:
            return []
        beside: dict[str, nn.Module] = {
            "student alone": student_alone(
                student, self.train, self.validation, self.settings.head, device=self.device
            )
        }
        if own is not None and own.out_features == len(self.train.classes):
            beside["original head"] = Defended(model.preprocessor, self.encoder, own).eval()
        found = []
        for name, whole in beside.items():
            evaluation = self._evaluated(whole, name)
            found.append(
                {
                    "defence": name,
                    "row": {"defence": name, **evaluation.row()},
                    "right": packed(evaluation.correct),
                }
            )
        return found

    def _trained(self, method: str, folder: Path) -> tuple[DefendedModel, list[dict[str, float]]]:
        settings = self.settings.defence
        if method != settings.method:  # lambda belongs to the defence that is saved
            settings = replace(settings, method=method, weight=None, radius=None, steps=None)
        preprocessor, history = train_preprocessor(
            self.train,
            self.settings.threat,
            settings,
            encoder=self.encoder,
            validation=self.validation,
            checkpoint=folder / "checkpoint.safetensors",
            resume=True,
            report=lambda done, total, losses: self.progress(f"train {method}", done, total, _losses(losses)),
        )
        head = self._head(preprocessor, method)
        defence = {
            **{k: v for k, v in asdict(settings).items() if k != "architecture"},
            "weight": settings.chosen_weight,
            "threat": str(self.settings.threat),
        }
        model = DefendedModel(
            preprocessor,
            self.encoder,
            head,
            image_shape=self.train.shape,
            classes=self.train.classes,
            defence=defence,
        )
        model.save_own(folder)
        return model, history

    def _head(self, preprocessor: nn.Module, method: str) -> nn.Linear:
        whole = Defended(preprocessor, self.encoder, nn.Identity()).to(self.device)
        read = [
            (
                extract_features(whole, part, batch_size=self.settings.batch_size, device=self.device),
                part.labels,
            )
            for part in (self.train, self.validation)
        ]
        head = train_head(*read[0], len(self.train.classes), self.settings.head, validation=read[1])
        if self.settings.robust_head:
            whole.head = head
            train_adversarial_head(
                whole,
                self.train,
                self.settings.threat,
                self.settings.head,
                device=self.device,
                report=lambda done, total, losses: self.progress(
                    f"robust head {method}", done, total, _losses(losses)
                ),
            )
        return head.cpu()

    def _evaluated(self, model: nn.Module, method: str) -> Evaluation:
        def report(attack: str, done: int, total: int, robust: float) -> None:
            self.progress(f"evaluate {method}: {attack}", done, total, f"robust {100 * robust:.1f} %")

        return evaluate(
            model,
            (self.test.images, self.test.labels),
            self.settings.threat,
            self.settings.attacks,
            batch_size=self.settings.batch_size,
            device=self.device,
            seed=self.settings.defence.training.seed,
            folder=self.work / method / "verdicts",
            resume=True,
            report=report,
        )

    def audited(self, model: DefendedModel, method: str) -> dict[str, Any]:
        """``{"audit": ...}`` of the defence that is saved, or nothing where none is asked for."""
        stored = self.work / "audit.json"
        if self.settings.audit_examples and not stored.exists():
            self.progress("audit", 0, 1, "")
            findings = audit(
                model,
                (self.test.images, self.test.labels),
                self.settings.threat,
                self._evaluated(model, method),
                device=self.device,
                examples=min(self.settings.audit_examples, len(self.test)),
                seed=self.settings.defence.training.seed,
            )
            write_json(stored, to_plain(audit_details(findings)))
            self.progress("audit", 1, 1, "")
        return {"audit": read_json(stored)} if stored.exists() else {}

    def _first(self, count: int) -> tuple[Tensor, Tensor]:
        chosen = self.test.select(torch.arange(min(count, len(self.test))))
        return chosen.images, chosen.labels


def _check_before_anything_is_written(
    encoder: FrozenEncoder, train: LabelledImages, settings: DefendSettings
) -> None:
    """Names, sizes and the foundation model's output, in a second rather than after an hour."""
    for attack in settings.attacks:
        named_attack(attack)
    for method in settings.methods:
        fresh_preprocessor(train, replace(settings.defence, method=method), encoder)
    with torch.no_grad():
        encoder(train.select(torch.arange(1)).images)


def _open_work(
    out: Path, settings: DefendSettings, encoder: FrozenEncoder, data: ImageSource, resume: bool
) -> Path:
    """The folder for work in progress, marked with what the run is."""
    identity = to_plain(
        {
            "settings": asdict(settings),
            "encoder": encoder.fingerprint(),
            "data": [data.name, len(data.train), len(data.test)],
        }
    )
    marker = out / "work" / "run.json"
    if marker.exists() and not resume:
        raise InputError("out", "a new folder unless resume is given", f"{out}, which holds a run")
    if marker.exists() and _deciding(read_json(marker)) != _deciding(identity):
        raise InputError("resume", f"of the run in {out}", "other settings, model or data")
    write_json(marker, identity)
    return out / "work"


def _deciding(identity: Any) -> Any:
    training = identity["settings"]["defence"]["training"]
    kept = {k: v for k, v in training.items() if k not in ("device", "checkpoint_seconds")}
    settings = identity["settings"]
    return {**identity, "settings": {**settings, "defence": {**settings["defence"], "training": kept}}}


def _shown_settings(
    settings: DefendSettings, encoder: FrozenEncoder, data: ImageSource, train: LabelledImages
) -> dict[str, Any]:
    defence = settings.defence
    return {
        "model": encoder.settings.source,
        "data": f"{data.name}: {len(train)} training, {len(data.train) - len(train)} validation, "
        f"{len(data.test)} test images of {' x '.join(map(str, train.shape))}",
        "threat": str(settings.threat),
        "attacks": ", ".join(settings.attacks),
        "architecture": defence.architecture,
        "weight": defence.chosen_weight,
        "temperature": defence.temperature,
        "head": "clean and adversarial" if settings.robust_head else "clean",
        "epochs": defence.training.epochs,
        "batch_size": defence.training.batch_size,
        "learning_rate": defence.training.learning_rate,
        "augmentation": str(defence.augmentation) if defence.augmentation else "none",
        "mixed_precision": defence.training.mixed_precision,
    }


def _losses(losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in losses.items())


def _silent(stage: str, done: int, total: int, words: str) -> None:
    pass
