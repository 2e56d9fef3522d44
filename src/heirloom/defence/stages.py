"""The stages of a defence: each method trained, given a head, measured; its controls; its audit."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from heirloom.defence.budget import steps_of
from heirloom.defence.controls import (
    controls_of,
    in_its_place,
    own_head,
    save_stand_in,
    target_head,
)
from heirloom.defence.description import head_kind
from heirloom.defence.examples import examples
from heirloom.defence.remarks import packed
from heirloom.defence.saved import LOCAL_ENCODER, DefendedModel
from heirloom.defence.settings import DefendSettings
from heirloom.defence.shares import Shares
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.audit import audit, audit_details
from heirloom.evaluation.columns import words
from heirloom.evaluation.confusion import confusion
from heirloom.evaluation.pass_dtype import passes_in
from heirloom.evaluation.per_class import per_class
from heirloom.evaluation.precision import dtype_named
from heirloom.evaluation.security_curve import security_curve
from heirloom.evaluation.verdicts import Evaluation, evaluate
from heirloom.heads.adversarial import train_adversarial_head
from heirloom.heads.linear import extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.models.preprocessor import parameter_count
from heirloom.runs import Progress, Run
from heirloom.runtime import distributed
from heirloom.runtime.choices import DefenceMethod
from heirloom.runtime.errors import renamed

SHOWN_IMAGES = 6


class Stages:
    """The stages of one defence."""

    def __init__(
        self,
        encoder: FrozenEncoder,
        images: Shares,
        settings: DefendSettings,
        run: Run,
        progress: Progress,
        head: nn.Module | None = None,
    ) -> None:
        self.kept = head
        self.encoder, self.settings, self.run, self.progress = encoder, settings, run, progress
        self.images = images
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
                "per_class": per_class(evaluation, self.images.test),
                "confusion": confusion(model, evaluation, self.images.test, self.device),
                "curve": self._curve(model),
                "examples": examples(model, evaluation, self.images.test, SHOWN_IMAGES, self.device),
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
            (self.images.train, self.images.validation),
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
        return own_head(self.encoder, self.kept, self.images.train.classes)

    def audited(self, model: DefendedModel) -> dict[str, Any] | None:
        """The audit of the defence that is saved."""
        evaluation = self._evaluated(model, self.settings.defence.method)
        if not distributed.takes_part():
            return None
        self.progress("audit", 0, 1, "")
        findings = audit(
            model,
            self.images.test.pair,
            self.settings.threat,
            evaluation,
            device=self.device,
            batch_size=min(evaluation.batch, 64),
            examples=min(self.settings.audit_examples, len(self.images.test)),
            seed=self.seed,
            folder=self.run.path("audit"),
        )
        self.progress("audit", 1, 1, "")
        return audit_details(findings)

    def _trained(self, method: DefenceMethod) -> tuple[DefendedModel, list[dict[str, float]]]:
        settings = self.settings.defence
        if method != settings.method:  # lambda belongs to the defence that is saved
            steps = steps_of(settings, method)  # but not the length of the training
            settings = replace(settings, method=method, weight=None, radius=None, steps=steps)
        preprocessor, history = train_preprocessor(
            self.images.pictures,
            self.settings.threat,
            settings,
            encoder=self.encoder,
            head=target_head(settings, self.encoder, self.kept, self.images.train.classes),
            validation=self.images.validation,
            checkpoint=self.run.path(method, "checkpoint.safetensors"),
            resume=True,
            report=lambda done, total, losses: self.progress(f"train {method}", done, total, words(losses)),
        )
        encoder = self.encoder
        if self._is_encoder(method):
            own = self.run.path(method, LOCAL_ENCODER)
            if distributed.rank() == 0:
                save_stand_in(preprocessor, own, encoder, self.kept, self.images.train.classes)
            distributed.wait()
            preprocessor, encoder = nn.Identity(), in_its_place(own)
        model = DefendedModel(
            preprocessor,
            encoder,
            self._head(preprocessor, encoder, method),
            image_shape=self.images.train.shape,
            classes=self.images.train.classes,
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
            for name, part in (("features", self.images.train), ("held-out", self.images.validation))
        )
        head = train_head(
            features,
            self.images.train.labels,
            len(self.images.train.classes),
            self.settings.head,
            validation=(held_out, self.images.validation.labels),
        )
        if self.settings.robust_head:
            whole.head = head
            train_adversarial_head(
                whole,
                self.images.train,
                self.settings.threat,
                self.settings.head,
                device=self.device,
                mixed_precision=self.settings.defence.training.mixed_precision,
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

        with renamed(batch_size="eval_batch_size"):
            return evaluate(
                model,
                self.images.test.pair,
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
        name = passes_in(
            asked, self.run, f"attack-dtype-{method}", model, self.images.test.pair, self.device, size
        )
        return None if name is None else dtype_named(name)

    def _curve(self, model: nn.Module) -> list[dict[str, Any]]:
        """On the first test images; nothing where it was not asked for."""
        if not self.settings.curve_images:
            return []
        few = self.images.test.select(torch.arange(min(self.settings.curve_images, len(self.images.test))))
        size = self.settings.eval_batch_size
        return security_curve(model, few.pair, self.settings.threat, batch_size=size, device=self.device)
