"""The main job: a frozen foundation model and images in, a defended model with its figures out."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heirloom.data.labelled import ImageSource, LabelledImages
from heirloom.defence.card import HEADS
from heirloom.defence.choose import Trials, choose
from heirloom.defence.controls import (
    STAND_IN,
    controls_of,
    in_its_place,
    keep_head,
    pretrained_head,
    save_stand_in,
)
from heirloom.defence.examples import examples
from heirloom.defence.remarks import packed, remarks, unpacked
from heirloom.defence.saved import LOCAL_ENCODER, DefendedModel
from heirloom.defence.settings import AUTO, DefendSettings
from heirloom.defence.train_preprocessor import fresh_preprocessor, train_preprocessor
from heirloom.evaluation.audit import audit, audit_details
from heirloom.evaluation.columns import words
from heirloom.evaluation.confusion import confusion
from heirloom.evaluation.pass_dtype import AUTO as MEASURED
from heirloom.evaluation.pass_dtype import passes_in
from heirloom.evaluation.per_class import per_class
from heirloom.evaluation.precision import dtype_named
from heirloom.evaluation.security_curve import security_curve
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.heads.adversarial import train_adversarial_head
from heirloom.heads.linear import extract_features, train_head
from heirloom.models.defended import Defended, OwnLogits, check_whole
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import parameter_count
from heirloom.models.sharded import check_shardable
from heirloom.results.schema import Summary
from heirloom.runs import Progress, Run, silent
from heirloom.runtime import distributed
from heirloom.runtime.choices import DefenceMethod
from heirloom.runtime.errors import require
from heirloom.runtime.identity import deciding, module_facts

SHOWN_IMAGES = 6


def defend(
    encoder: FrozenEncoder,
    data: ImageSource,
    settings: DefendSettings,
    out: Path,
    *,
    head: nn.Module | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> tuple[DefendedModel, Summary]:
    """Train, measure, save. Under ``torchrun`` all processes train and measure, and the first one writes.

    ``head`` is kept as it is (:mod:`heirloom.heads.ready`): nothing but preprocessors is trained then, and no label
    is read but for the figures.

    ``out`` becomes a hub-style folder (config.json, model.safetensors, README.md) with summary.json, report.html
    and the work in progress under ``work/``. With ``resume``, finished stages are read from there and the
    interrupted one goes on; the numbers are those of a run that was never interrupted.

    Raises:
        InputError: ``out`` holds another run's work and ``resume`` is off, or was made with other settings.
    """
    training = settings.defence.training
    train, validation = data.train.split(settings.validation, seed=training.seed)
    pictures = learned_from(data, train)
    check_before_work(encoder, train, pictures, settings, head)
    facts = run_facts(encoder, data, settings)
    run = Run(out, {**facts, "head": module_facts(head)} if head else facts, resume=resume)
    if settings.fsdp:
        encoder.shard(distributed.local_device(training.device))
    told, seen = progress or silent, dict[str, Any]()
    if settings.defence.method == AUTO:
        size = settings.eval_batch_size
        trials = Trials(encoder, pictures, train, validation, settings.threat, settings.head, size, head)
        chosen, seen["trials"] = choose(trials, settings.defence, run.path("trials"), told)
        settings = replace(settings, defence=chosen)
    method = settings.defence.method
    job = _Job(encoder, (pictures, train, validation, data.test), settings, run, told, head)
    measured = [run.stage(f"measured-{name}", partial(job.measured, name)) for name in settings.methods]
    model = job.model(method)
    beside = run.stage("controls", job.controls)
    rows = [found["row"] for found in measured]
    if beside:
        place = settings.methods.index("distil")
        rows[place:place] = [control["row"] for control in beside]
    details = {
        "classes": list(data.test.classes),
        "defences": [found["detail"] for found in measured],
        **seen,
    }
    verdicts = {found["defence"]: unpacked(found["right"]) for found in [*details["defences"], *beside]}
    details["beside"] = [{key: found[key] for key in ("defence", "right")} for found in beside]
    if settings.attack_dtype == MEASURED:
        kept = {name: run.stage(f"attack-dtype-{name}", dict) for name in settings.methods}
        details["attack_dtype"] = kept
    details["remarks"] = remarks(method, verdicts, settings.attacks)
    if settings.audit_examples:
        details["audit"] = run.stage("audit", lambda: job.audited(model))
    if distributed.rank() == 0:
        model.save_pretrained(out)
        if settings.is_encoder:
            keep_head(encoder, out / LOCAL_ENCODER)
        save_stand_in(model.preprocessor, out / STAND_IN, encoder)
    summary = run.result() or run.finish(
        "defence",
        rows,
        seed=training.seed,
        device=training.device,
        threat=settings.threat,
        data=data.used(),
        settings=_shown_settings(settings, encoder, data, len(validation), head),
        details=details,
    )
    model.summary = summary.model_dump(mode="json")
    if distributed.rank() == 0:
        model.generate_model_card().save(out / "README.md")
    distributed.wait()
    return model, summary


def run_facts(encoder: FrozenEncoder, data: ImageSource, settings: DefendSettings) -> dict[str, Any]:
    """What identifies a defence: the foundation model and how it is read, the images, every setting."""
    reading = {
        k: v for k, v in asdict(encoder.settings).items() if k not in ("source", "revision", "vision_weights")
    }
    chosen = deciding(settings)
    return {
        "model": {**module_facts(encoder), "reading": reading},
        "data": data.facts(),
        "threat": chosen.pop("threat"),
        "seed": chosen["defence"]["training"].pop("seed"),
        "settings": chosen,
    }


class _Job:
    """The stages of one defence."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        images: tuple[LabelledImages, LabelledImages, LabelledImages, LabelledImages],
        settings: DefendSettings,
        run: Run,
        progress: Progress,
        head: nn.Module | None = None,
    ) -> None:
        self.kept = head
        self.encoder, self.settings, self.run, self.progress = encoder, settings, run, progress
        self.pictures, self.train, self.validation, self.test = images
        self.device, self.seed = settings.defence.training.device, settings.defence.training.seed

    def model(self, method: str) -> DefendedModel:
        """The trained model of a finished stage."""
        own = self.run.path(method, LOCAL_ENCODER)
        encoder = in_its_place(own) if self._is_encoder(method) else self.encoder
        return DefendedModel.from_pretrained(self.run.path(method), encoder=encoder)

    def _is_encoder(self, method: str) -> bool:
        return method == "distil" and self.settings.is_encoder

    def measured(self, method: DefenceMethod) -> dict[str, Any]:
        """The trained model's row of the table, and what the page shows of it."""
        model, history = self._trained(method)
        evaluation = self._evaluated(model, method)
        return {
            "row": {"defence": method, **evaluation.row()},
            "detail": {
                "defence": method,
                "parameters": parameter_count(model.preprocessor),
                "right": packed(evaluation.correct),
                **({} if evaluation.compiled is None else {"compiled": evaluation.compiled}),
                "history": history,
                "per_class": per_class(evaluation, self.test),
                "confusion": confusion(model, evaluation, self.test, self.device),
                "curve": self._curve(model),
                "examples": examples(model, evaluation, self.test, SHOWN_IMAGES, self.device),
            },
        }

    def controls(self) -> list[dict[str, Any]]:
        """Rows and verdicts of what ``distil`` must stand beside, none where it is not among the methods."""
        if "distil" not in self.settings.methods:
            return []
        beside = controls_of(
            self.model("distil"),
            self._own_head(),
            self.kept,
            (self.train, self.validation),
            self.settings.head,
            device=self.device,
        )
        found = []
        for name, whole in beside.items():
            evaluation = self._evaluated(whole, name)
            row = {"defence": name, **evaluation.row()}
            found.append({"defence": name, "row": row, "right": packed(evaluation.correct)})
        return found

    def _own_head(self) -> nn.Module | None:
        """The frozen model's classifier of these classes, None where it has none."""
        found = self.kept or pretrained_head(self.encoder)
        fits = not isinstance(found, nn.Linear) or found.out_features == len(self.train.classes)
        return found if fits else None

    def audited(self, model: DefendedModel) -> dict[str, Any] | None:
        """The audit of the defence that is saved."""
        evaluation = self._evaluated(model, self.settings.defence.method)
        if not distributed.takes_part():
            return None
        self.progress("audit", 0, 1, "")
        findings = audit(
            model,
            self.test.pair,
            self.settings.threat,
            evaluation,
            device=self.device,
            examples=min(self.settings.audit_examples, len(self.test)),
            seed=self.seed,
            folder=self.run.path("audit"),
        )
        self.progress("audit", 1, 1, "")
        return audit_details(findings)

    def _trained(self, method: DefenceMethod) -> tuple[DefendedModel, list[dict[str, float]]]:
        settings = self.settings.defence
        if method != settings.method:  # lambda belongs to the defence that is saved
            settings = replace(settings, method=method, weight=None, radius=None, steps=None)
        preprocessor, history = train_preprocessor(
            self.pictures,
            self.settings.threat,
            settings,
            encoder=self.encoder,
            head=self._own_head(),
            validation=self.validation,
            checkpoint=self.run.path(method, "checkpoint.safetensors"),
            resume=True,
            report=lambda done, total, losses: self.progress(f"train {method}", done, total, words(losses)),
        )
        encoder = self.encoder
        if self._is_encoder(method):
            own = self.run.path(method, LOCAL_ENCODER)
            if distributed.rank() == 0:
                save_stand_in(preprocessor, own, encoder)
            distributed.wait()
            preprocessor, encoder = nn.Identity(), in_its_place(own)
        model = DefendedModel(
            preprocessor,
            encoder,
            self._head(preprocessor, encoder, method),
            image_shape=self.train.shape,
            classes=self.train.classes,
            defence={
                **{k: v for k, v in asdict(settings).items() if k != "architecture"},
                "weight": settings.chosen_weight,
                "head": head_kind(self.kept, self.settings),
                "threat": asdict(self.settings.threat),
                "teacher": self.encoder.settings.source,
            },
        )
        if distributed.rank() == 0:
            model.save_own(self.run.path(method))
        distributed.wait()
        return model, history

    def _head(self, preprocessor: nn.Module, encoder: FrozenEncoder, method: str) -> nn.Module:
        if self.kept is not None:
            return self.kept
        whole = Defended(preprocessor, encoder, nn.Identity()).to(self.device)
        size = self.settings.eval_batch_size
        features, held_out = (
            extract_features(
                whole, part, batch_size=size, device=self.device, kept=self.run.path(method, name)
            )
            for name, part in (("features", self.train), ("held-out", self.validation))
        )
        head = train_head(
            features,
            self.train.labels,
            len(self.train.classes),
            self.settings.head,
            validation=(held_out, self.validation.labels),
        )
        if self.settings.robust_head:
            whole.head = head
            train_adversarial_head(
                whole,
                self.train,
                self.settings.threat,
                self.settings.head,
                device=self.device,
                checkpoint=self.run.path(method, "robust-head.safetensors"),
                report=lambda done, total, losses: self.progress(
                    f"robust head {method}", done, total, words(losses)
                ),
            )
            head = whole.head
        return head.cpu()

    def _evaluated(self, model: nn.Module, method: str) -> Evaluation:
        def report(attack: str, done: int, total: int, robust: float) -> None:
            self.progress(f"evaluate {method}: {attack}", done, total, f"robust {100 * robust:.1f} %")

        return evaluate(
            model,
            self.test.pair,
            self.settings.threat,
            self.settings.attacks,
            batch_size=self.settings.eval_batch_size,
            device=self.device,
            seed=self.seed,
            attack_dtype=self._attack_dtype(model, method),
            compile=self.settings.compile,
            folder=self.run.path(method, "verdicts"),
            resume=True,
            report=report,
        )

    def _attack_dtype(self, model: nn.Module, method: str) -> torch.dtype | None:
        """As asked for; measured once where it is to be, and kept for a run that goes on."""
        asked, size = self.settings.attack_dtype, self.settings.eval_batch_size
        name = passes_in(asked, self.run, f"attack-dtype-{method}", model, self.test.pair, self.device, size)
        return None if name is None else dtype_named(name)

    def _curve(self, model: nn.Module) -> list[dict[str, Any]]:
        """On the first test images; nothing where it was not asked for."""
        if not self.settings.curve_images:
            return []
        few = self.test.select(torch.arange(min(self.settings.curve_images, len(self.test))))
        size = self.settings.eval_batch_size
        return security_curve(model, few.pair, self.settings.threat, batch_size=size, device=self.device)


def learned_from(data: ImageSource, train: LabelledImages) -> LabelledImages:
    """What preprocessors learn from: the images from elsewhere where there are some, else ``train``."""
    return train if data.unlabelled is None else data.unlabelled.images


def check_before_work(
    encoder: FrozenEncoder,
    train: LabelledImages,
    pictures: LabelledImages,
    settings: DefendSettings,
    head: nn.Module | None,
) -> None:
    """Names, sizes and the foundation model's output, in a second rather than after an hour."""
    if settings.fsdp:
        check_shardable(encoder.backbone)
    first = train.select(torch.arange(min(2, len(train)))).images.to(settings.defence.training.device)
    whole = Defended(nn.Identity(), encoder, head or nn.Identity()).to(first.device)
    check_whole(whole, first, len(train.classes) if head is not None else None)
    for method in settings.methods:
        fresh_preprocessor(pictures, replace(settings.defence, method=method), encoder)
    needs_head = "distil" in settings.methods and settings.defence.distil.targets == "head"
    own = head or pretrained_head(encoder)
    require(not needs_head or own is not None, "targets", "features for a model without a classifier", "head")
    require(head is None or not settings.robust_head, "robust_head", "off for a head that is kept", True)


def head_kind(kept: nn.Module | None, settings: DefendSettings) -> str:
    """A key of :data:`heirloom.defence.card.HEADS`: a head that is kept, or how one is trained."""
    if kept is not None:
        return "own" if isinstance(kept, OwnLogits) else "zero-shot"
    return "robust" if settings.robust_head else "linear"


def _shown_settings(
    settings: DefendSettings,
    encoder: FrozenEncoder,
    data: ImageSource,
    validation: int,
    head: nn.Module | None,
) -> dict[str, Any]:
    defence, elsewhere = settings.defence, data.unlabelled
    is_timed = defence.steps is not None or defence.minutes is not None
    return {
        "model": encoder.settings.source,
        "validation images": validation,
        **({} if elsewhere is None else {"unlabelled": f"{elsewhere.name}, {len(elsewhere.images)} images"}),
        "attacks": ", ".join(settings.attacks),
        "architecture": defence.architecture,
        "weight": defence.chosen_weight,
        "radius": f"{defence.chosen_radius:g} eps",
        "temperature": defence.temperature,
        **(asdict(defence.distil) if "distil" in settings.methods else {}),
        "head": HEADS[head_kind(head, settings)],
        "epochs": None if is_timed else defence.training.epochs,
        "minutes": defence.minutes,
        "steps": defence.steps,
        "batch_size": defence.training.batch_size,
        "learning_rate": defence.training.learning_rate,
        "augmentation": str(defence.augmentation) if defence.augmentation else "none",
        "mixed_precision": defence.training.mixed_precision,
    }
