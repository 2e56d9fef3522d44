"""Which options of ``defend`` have an effect on a run: one that was typed and can have none is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from heirloom.runtime.errors import require

if TYPE_CHECKING:
    from heirloom.defence.settings import DefendSettings

STUDENTS = (
    "student",
    "student_width",
    "student_activation",
    "delay",
    "targets",
    "saved_as",
    "prototypes",
    "thumbnail",
    "fidelity",
)
TRAININGS = ("batch_size", "learning_rate", "mixed_precision", "checkpoint_seconds")
IMAGES = ("unlabelled", "limit_unlabelled")


def check_effects(context: Any, settings: DefendSettings, head: str) -> None:
    """Refuse what was typed on the line and nothing in the run reads, in one sentence that names the option.

    Options from a ``--config`` are not looked at: a recorded run names every option that its command has.

    Args:
        context: typer's, of the command line. settings: with the method that the images recommend.
        head: as ``--head`` says.
    """
    for names, holds, needs in _effects(settings, head):
        for name in names:
            value, source = context.params.get(name), context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE" and value is not False:
                require(holds, name, f"left out {needs}", value)
    if settings.defence.steps is not None:
        count, allowed = len(settings.defence.steps), _phases(settings)
        words = {1: "one number here", 2: "two numbers: the student's and the painter's"}
        wanted = words[allowed[0]] if len(allowed) == 1 else "one number or two"
        require(count in allowed, "steps", wanted, settings.defence.steps)


def _effects(settings: DefendSettings, head: str) -> list[tuple[Sequence[str], bool, str]]:
    """(options, whether any method in the run reads them, what they need)."""
    from heirloom.objectives.defences import DEFENCES

    defence, distil = settings.defence, settings.defence.distil
    saved, methods = _methods(settings)
    found = [DEFENCES[method] for method in methods if method in DEFENCES]
    chosen = [DEFENCES[method] for method in saved if method in DEFENCES]
    pixels = [objective for objective in found if objective.name != "distil"]
    student = "distil" in methods

    def read(setting: str) -> tuple[list[str], str]:
        return [setting], "unless a method reads it: " + ", ".join(
            name for name, objective in DEFENCES.items() if setting in objective.reads
        )

    own = [(*read(name), any(name in each.reads for each in chosen)) for name in ("weight", "radius")]
    shared = ("attack_steps", "temperature", "sigma")
    own += [(*read(name), any(name in each.reads for each in found)) for name in shared]
    return [
        *((names, holds, needs) for names, needs, holds in own),
        (["vae"], "vae" in methods, "unless the method is vae"),
        (STUDENTS, student, "unless the method is distil"),
        (["student_width"], distil.student == "resnet10", "unless student is resnet10"),
        (["thumbnail", "fidelity"], distil.paints, "for an encoder, which has no painter"),
        (["prototypes"], distil.targets == "features", "unless targets is features"),
        (["architecture"], bool(pixels), "unless an auto-encoder is trained"),
        (["augment"], any(each.augments for each in chosen), "unless the method augments"),
        (TRAININGS, bool(found), "where nothing is trained but the head"),
        (IMAGES, bool(found), "where nothing learns from images"),
        (["steps", "minutes", "epochs"], bool(found), "where nothing is trained but the head"),
        (["minutes", "epochs"], defence.steps is None, "with steps, which decide"),
        (["epochs"], defence.minutes is None, "with minutes, which decide"),
        (["head_epochs", "head_weight_decay"], head == "linear", "for a head that is kept"),
    ]


def _methods(settings: DefendSettings) -> tuple[list[str], list[str]]:
    """What may be saved, and all that are made."""
    from heirloom.defence.choose import CANDIDATES
    from heirloom.defence.settings import AUTO

    saved: list[str] = list(CANDIDATES) if settings.defence.method == AUTO else [settings.defence.method]
    return saved, [*settings.compare, *saved]


def _phases(settings: DefendSettings) -> tuple[int, ...]:
    """How many numbers of steps may be given."""
    if not settings.defence.distil.paints:
        return (1,)
    if settings.defence.method == "distil":
        return (2,)
    return (1, 2) if "distil" in _methods(settings)[1] else (1,)
