"""What ``heirloom evaluate`` does with what the audit found: the adaptive attack, and scores over draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.data.unit_images import Pair
from heirloom.evaluation.adaptive.attack import STEPS, Draws, Setting, adaptive, drawn
from heirloom.evaluation.adaptive.sources import judged, sources, with_bpda
from heirloom.evaluation.adversarial_images import AdversarialImages
from heirloom.evaluation.askable import inside
from heirloom.evaluation.audit import Finding, failed
from heirloom.evaluation.chunks import seeded
from heirloom.evaluation.settings import EvaluationSettings
from heirloom.evaluation.verdicts import Evaluation
from heirloom.models.factory import module_from_factory
from heirloom.runs import Progress
from heirloom.runtime import distributed
from heirloom.runtime.errors import reject, renamed, require
from heirloom.runtime.randomness import seed_of

DRAWS = 20
RANDOM = {"randomness", "eval-mode"}
ASKED = 64  # times: a model that draws in one call of ten is taken for a deterministic one in one run of a thousand


def further(
    model: nn.Module,
    data: Pair,
    settings: EvaluationSettings,
    findings: Sequence[Finding],
    evaluation: Evaluation,
    *,
    folder: Path,
    surrogate: nn.Module | None = None,
    pristine: nn.Module | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """``{"row": further columns, "adaptive": ..., "draws": ...}`` for the result; what was not asked for is absent.

    ``pristine``: as in :func:`heirloom.evaluation.audit.audit`.
    ``folder`` keeps what the adaptive attack found, to go on after an interruption. ``row["adaptive"]`` is the share
    of right answers on the worst images that the evaluation and the adaptive attack found: over images for a
    deterministic model, over images and ``settings.draws`` fresh draws for a random one.
    """
    found = {finding.check for finding in failed(findings)}
    place = distributed.local_device(settings.device)
    model = model.to(place).eval()
    random = bool(found & RANDOM) and _differs(model, data[0][:8].to(place))
    result: dict[str, Any] = {"row": {}}
    if random:
        result["single_draw"] = list(evaluation.correct)
    if not settings.adaptive and not (random and settings.draws):
        return result
    together = "eval-mode" in found and not random
    few = data[0][:32].to(place)
    scored_on = judged(model, found, few[:8], None if pristine is None else pristine.to(place).eval())
    setting = Setting(scored_on, (), settings.threat, settings.seed, random, together, place)
    x_adv = evaluation.x_adv
    if settings.adaptive:
        parts = [_part(text) for text in settings.bpda]
        chosen = sources(model, found, few, random=random, surrogate=surrogate, bpda=parts)
        report = (lambda name, done, total: progress(name, done, total, "")) if progress else None
        setting = replace(setting, sources=chosen)
        size = evaluation.batch
        x_adv = adaptive(setting, data, x_adv, batch_size=size, folder=folder, report=report)
        result["adaptive"] = {
            "sources": [s.name for s in chosen],
            "steps": STEPS,
            "judged": type(setting.model).__name__,
        }
    scored = _scored(setting, data, x_adv, (settings.draws or DRAWS) if random else 1, evaluation.batch)
    if random:
        result["draws"] = scored.details()
    if settings.adaptive:
        result["row"]["adaptive"] = scored.mean()
    return result


@torch.no_grad()
def _differs(model: nn.Module, x: Tensor) -> bool:
    first = model(x)
    return any(not torch.equal(first, model(x)) for _ in range(ASKED))


def _scored(
    setting: Setting, data: Pair, x_adv: Tensor | AdversarialImages, draws: int, batch_size: int
) -> Draws:
    """Over fresh draws, other ones than those by which ``x_adv`` was chosen."""
    with seeded(torch.device(setting.device), seed_of(setting.seed, "scores")):
        return drawn(setting.model, x_adv, data[1], draws, batch_size, setting.device)


def _part(text: str) -> tuple[str, Any]:
    """``preprocessor=package.module:factory`` or ``preprocessor`` alone (the identity)."""
    name, _, factory = text.partition("=")
    if not name or (factory and ":" not in factory):
        reject("bpda", "module.path or module.path=package.module:factory", text)
    with renamed(model="bpda"):
        return name, module_from_factory(factory) if factory else None


def check_parts(model: nn.Module, texts: Sequence[str], x: Tensor) -> None:
    """Raise :class:`heirloom.InputError` where ``texts`` (of ``bpda``) name no part of ``model``, no factory, or a
    stand-in that gives another shape than its part (shown by a pass of the images ``x``).
    """
    known = [name for name, _ in inside(model).named_modules() if name]
    for text in texts:
        name, factory = _part(text)
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        require(name in known, "bpda", f"the name of a part of the model ({shown})", name)
        with renamed(backward="bpda"), torch.no_grad():
            around = with_bpda(model, name, factory).eval()
            try:
                around(x)
            except (RuntimeError, TypeError) as error:
                why = str(error).partition("\n")[0]
                reject(
                    "bpda", f"a stand-in that takes the input of `{name}`", f"{text}, which does not: {why}"
                )
