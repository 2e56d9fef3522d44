"""Which method: the one recommended for such images, or, by ``--method auto``, the best of short trials that are judged
on the validation images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.attacks.named import named_attack
from heirloom.defence.budget import steps_of
from heirloom.defence.controls import target_head
from heirloom.defence.remarks import needs_control, packed, unpacked
from heirloom.defence.settings import AUTO, PreprocessorSettings
from heirloom.defence.shares import Shares
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.columns import words
from heirloom.evaluation.verdicts import evaluate
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import to_plain
from heirloom.results.statistics import paired_difference
from heirloom.runs import Progress, silent
from heirloom.runtime import distributed
from heirloom.runtime.choices import DefenceMethod
from heirloom.runtime.files import read_json, write_json
from heirloom.threat import Threat

CANDIDATES: tuple[DefenceMethod, ...] = (
    "adversarial-reconstruction",
    "stability",
    "feature-stability",
    "distil",
    "cropd",
    "noise",
)
# of the budget, for each trial, on top of it: shorter trials chose badly (docs/lab-notes/remedy.md)
PART = 0.25
JUDGED = 256  # validation images that the trials are judged on
SMALLEST = 16  # pixels a side of grey images that a student is better on: between 8, where it is not, and 28


@dataclass(frozen=True)
class Trials:
    """What the choice is made from: the images, the frozen model, the threat, the head that follows, or is ``kept``."""

    encoder: FrozenEncoder
    images: Shares
    threat: Threat
    head: HeadSettings
    batch_size: int | None = None
    kept: nn.Module | None = None


def recommended(shape: tuple[int, int, int]) -> DefenceMethod:
    """The method that stood best against the worst case on images of ``shape`` (C, H, W), as recorded in
    docs/what-a-preprocessor-can-give.md: on grey images of 8 pixels a side to restore them, and not to move under
    attack; on those of 28, and on colour images at 8/255, ``distil``.
    """
    tiny = shape[0] == 1 and max(shape[1:]) < SMALLEST
    return "stability" if tiny else "distil"


def head_weight_decay_for(shape: tuple[int, int, int]) -> float:
    """Of the linear head before images of ``shape`` (C, H, W): shorter weights behind a student hold more than they
    cost; on the smallest grey images they give as little as they cost (docs/what-a-preprocessor-can-give.md).
    """
    return 1.0 if recommended(shape) == "distil" else HeadSettings().weight_decay


def compared_with(method: str) -> tuple[DefenceMethod, ...]:
    """What a defence is measured beside unless told: nothing in front, and, where a preprocessor is trained, the
    control that it must beat: ``noise``, whose training costs at most as many passes, mostly a quarter or half.
    ``distil`` brings its own, its student alone.
    """
    return ("identity", "noise") if method == AUTO or needs_control(method) else ("identity",)


def choose(
    trials: Trials, settings: PreprocessorSettings, folder: Path, told: Progress = silent
) -> tuple[PreprocessorSettings, dict[str, Any]]:
    """``settings`` with the winner in place of ``auto``, what each trial gave (``trials``) and why it won (``choice``:
    :func:`decided`).

    Each candidate is trained for ``PART`` of the budget (minutes, steps or epochs, at least one), gets a head, and is
    attacked (``cascade``'s first look) on at most ``JUDGED`` validation images; what these cannot tell apart from the
    method that is :func:`recommended` goes to that. Test images are not looked at. A finished trial is read from
    ``folder``.

    A short trial favours methods that learn fast: what it saw is part of the result.
    """
    seen = []
    for number, method in enumerate(CANDIDATES):
        place = folder / method / "trial.json"
        told(f"trial of {method}", number, len(CANDIDATES), "")
        kept = place.exists() and "right" in read_json(place)  # a trial of an earlier version has no verdicts
        if not distributed.agreed(kept):
            made = _trial(trials, shortened(settings, method), place, told)
            if distributed.rank() == 0:
                write_json(place, to_plain(made))
            distributed.wait()
        seen.append(read_json(place))
    choice = decided(seen, recommended(trials.images.train.shape))
    chosen = replace(settings, method=choice["method"], steps=steps_of(settings, choice["method"]))
    return chosen, {"trials": seen, "choice": choice}


def decided(seen: Sequence[dict[str, Any]], usual: DefenceMethod) -> dict[str, Any]:
    """Which ``method`` the trials choose, and ``why`` as a sentence, with the ``difference`` that decided.

    The best trial (highest accuracy under attack, then clean) is chosen where it is ahead of the trial of the ``usual``
    method on the same validation images, the lower end of the paired 95 % interval above 0. Else the usual one is: a
    short trial that cannot tell them apart is no reason to leave what longer, recorded runs favour.
    """
    best = max(seen, key=lambda trial: (trial[FIRST_LOOK]["value"], trial["clean"]["value"]))
    name, base = best["defence"], next((trial for trial in seen if trial["defence"] == usual), None)
    if base is None or name == usual:
        known = (
            "the best of the trials"
            if base is None
            else "recommended for such images, best in the trials too"
        )
        return {"method": name, "difference": None, "why": f"'{name}' was trained: {known}."}
    ahead = paired_difference(*(unpacked(trial["right"])[FIRST_LOOK] for trial in (best, base)))
    told = f"{ahead} points on {ahead.n} validation images"
    if ahead.low > 0:
        why = (
            f"'{name}' was trained: its trial is ahead of '{usual}', recommended for such images, by {told}."
        )
    else:
        why = (
            f"'{usual}' was trained, as recommended for such images: no trial is ahead of it beyond chance "
            f"(the best, '{name}': {told})."
        )
    return {"method": name if ahead.low > 0 else usual, "difference": ahead.model_dump(), "why": why}


def shortened(settings: PreprocessorSettings, method: DefenceMethod) -> PreprocessorSettings:
    """The settings of one trial."""
    minutes = None if settings.minutes is None else PART * settings.minutes
    training = replace(settings.training, epochs=max(1, round(PART * settings.training.epochs)))
    steps = steps_of(settings, method, PART)
    return replace(settings, method=method, minutes=minutes, steps=steps, training=training)


def _trial(trials: Trials, settings: PreprocessorSettings, place: Path, told: Progress) -> dict[str, Any]:
    device, name = settings.training.device, f"trial of {settings.method}"
    preprocessor, history = train_preprocessor(
        trials.images.pictures,
        trials.threat,
        settings,
        encoder=trials.encoder,
        head=target_head(settings, trials.encoder, trials.kept, trials.images.train.classes),
        checkpoint=place.with_name("checkpoint.safetensors"),
        resume=True,
        report=lambda done, total, losses: told(f"{name}: train", done, total, words(losses)),
    )
    whole = Defended(preprocessor, trials.encoder, nn.Identity()).to(device)
    if trials.kept is None:
        features = extract_features(whole, trials.images.train, batch_size=trials.batch_size, device=device)
        head: nn.Module = train_head(
            features, trials.images.train.labels, len(trials.images.train.classes), trials.head
        )
    else:
        head = trials.kept
    whole.head = head.to(device)
    held_out = trials.images.validation.limit(JUDGED, settings.training.seed)
    found = evaluate(
        whole,
        held_out.pair,
        trials.threat,
        [named_attack(FIRST_LOOK)],
        batch_size=trials.batch_size,
        seed=settings.training.seed,
        device=device,
        report=lambda attack, done, total, robust: told(f"{name}: {attack}", done, total, ""),
    )
    right = packed(found.correct)
    return {"defence": settings.method, **found.row(), "epochs": len(history), "right": right}
