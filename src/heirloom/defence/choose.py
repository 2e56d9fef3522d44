"""Which method: the one recommended for such images, or, by ``--method auto``, the best of short trials that are judged
on the validation images alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from heirloom.attacks.cascade import FIRST_LOOK
from heirloom.attacks.named import named_attack
from heirloom.defence.budget import steps_of
from heirloom.defence.controls import own_head
from heirloom.defence.remarks import needs_control
from heirloom.defence.settings import AUTO, PreprocessorSettings
from heirloom.defence.shares import Shares
from heirloom.defence.train_preprocessor import train_preprocessor
from heirloom.evaluation.verdicts import evaluate
from heirloom.heads.linear import HeadSettings, extract_features, train_head
from heirloom.models.defended import Defended
from heirloom.models.encoder import FrozenEncoder
from heirloom.results.schema import to_plain
from heirloom.runs import Progress
from heirloom.runtime import distributed
from heirloom.runtime.choices import DefenceMethod
from heirloom.runtime.files import read_json, write_json
from heirloom.threat import Threat

CANDIDATES: tuple[DefenceMethod, ...] = (
    "adversarial-reconstruction",
    "stability",
    "distil",
    "cropd",
    "noise",
)
PART = 0.25  # of the budget, for each trial, on top of it: at a twentieth the trials chose badly (docs/lab-notes)
JUDGED = 256  # validation images that the trials are judged on


@dataclass(frozen=True)
class Trials:
    """What the choice is made from: the images, the frozen model, the threat, the head that follows, or is ``kept``."""

    encoder: FrozenEncoder
    images: Shares
    threat: Threat
    head: HeadSettings
    batch_size: int | None = None
    kept: nn.Module | None = None

    @property
    def own(self) -> nn.Module | None:
        """The frozen model's classifier of these classes, which ``distil`` may learn from."""
        return own_head(self.encoder, self.kept, len(self.images.train.classes))


def recommended(shape: tuple[int, int, int]) -> DefenceMethod:
    """The method that stood best against the worst case on images of ``shape`` (C, H, W), as recorded in
    docs/what-a-preprocessor-can-give.md: on grey images to restore them, and not to move under attack; on colour images
    at 8/255 nothing but ``distil`` gave anything.
    """
    return "distil" if shape[0] == 3 else "stability"


def compared_with(method: str) -> tuple[DefenceMethod, ...]:
    """What a defence is measured beside unless told: nothing in front, and, where a preprocessor is trained, the
    control that it must beat: ``noise``, whose training costs at most as many passes, mostly a quarter or half.
    ``distil`` brings its own, its student alone.
    """
    return ("identity", "noise") if method == AUTO or needs_control(method) else ("identity",)


def choose(
    trials: Trials, settings: PreprocessorSettings, folder: Path, report: Progress | None = None
) -> tuple[PreprocessorSettings, list[dict[str, Any]]]:
    """``settings`` with the winner in place of ``auto``, and what each trial gave.

    Each candidate is trained for ``PART`` of the budget (minutes, steps or epochs, at least one), gets a head, and is
    attacked (``cascade``'s first look) on at most ``JUDGED`` validation images; the highest accuracy under attack
    wins, clean accuracy breaks ties. Test images are not looked at. A finished trial is read from ``folder``.

    A short trial favours methods that learn fast: what it saw is part of the result.
    """
    seen = []
    for number, method in enumerate(CANDIDATES):
        place = folder / method / "trial.json"
        if report is not None:
            report(f"trial of {method}", number, len(CANDIDATES), "")
        if not distributed.agreed(place.exists()):
            made = _trial(trials, shortened(settings, method), place)
            if distributed.rank() == 0:
                write_json(place, to_plain(made))
            distributed.wait()
        seen.append(read_json(place))
    best = max(seen, key=lambda trial: (trial[FIRST_LOOK]["value"], trial["clean"]["value"]))
    return replace(settings, method=best["defence"], steps=steps_of(settings, best["defence"])), seen


def shortened(settings: PreprocessorSettings, method: DefenceMethod) -> PreprocessorSettings:
    """The settings of one trial."""
    minutes = None if settings.minutes is None else PART * settings.minutes
    training = replace(settings.training, epochs=max(1, round(PART * settings.training.epochs)))
    steps = steps_of(settings, method, PART)
    return replace(settings, method=method, minutes=minutes, steps=steps, training=training)


def _trial(trials: Trials, settings: PreprocessorSettings, place: Path) -> dict[str, Any]:
    device = settings.training.device
    preprocessor, history = train_preprocessor(
        trials.images.pictures,
        trials.threat,
        settings,
        encoder=trials.encoder,
        head=trials.own,
        checkpoint=place.with_name("checkpoint.safetensors"),
        resume=True,
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
    )
    return {"defence": settings.method, **found.row(), "epochs": len(history)}
