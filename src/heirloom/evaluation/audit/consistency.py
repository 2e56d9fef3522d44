"""Does the model answer the same, whatever was asked before, beside it, and in whichever mode?

The harness judges an image in one batch, after many other calls, without gradients; attacks ask in another batch
and with them. Where the answers differ, what is attacked is not what is judged. Everything here is asked of fresh
copies with torch's, NumPy's and Python's generators seeded alike, so that each check sees one cause alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.losses import Loss, margin, misclassified
from heirloom.evaluation.apart import connections
from heirloom.evaluation.audit.findings import Finding
from heirloom.evaluation.audit.subject import JUMPING, RANDOM_ABOVE, SLIGHT, SLIGHTLY, Subject, beats
from heirloom.evaluation.copies import apart, change, facts_of, fixed, logits, tensors_of
from heirloom.evaluation.eval_mode import forced, forced_throughout, is_training
from heirloom.evaluation.verdicts import Evaluation

SAME_SHAPE = RANDOM_ABOVE
CALLS = 24
LATE = 1000  # single images, asked where something counts and nothing shows: what begins after many calls
NEAR = (1e-3, 1e-2)  # in pixel units: caches may answer for a neighbour of what they know
GRADIENT = "its place (gradient)"


def eval_mode(subject: Subject) -> Finding:
    """Modules in train mode whose mode matters: copies forced into eval mode answer differently."""
    throughout = forced_throughout if subject.trace.out_of_reach else forced
    plain, other = subject.fresh(), throughout(subject.fresh())
    training = [name or "the model" for name, module in plain.named_modules() if is_training(module)]
    beyond = list(subject.trace.out_of_reach)
    before = {name: value.clone() for name, value in tensors_of(plain).items()}
    few = subject.x[: max(8, len(subject.x) // 2)]
    difference = change(logits(plain, few), logits(other, few), subject.spread[: len(few)])
    changed = [name for name, value in tensors_of(plain).items() if not _equal(value, before[name])]
    kept = [name for name, value in tensors_of(other).items() if not _equal(value, before[name])]
    moved = largest(difference)
    evidence = {"modules_in_train_mode": training[:5], "state_changed": changed[:5], "change": moved}
    evidence["out_of_reach"] = beyond[:5]
    if not (training or beyond) or not (moved > SAME_SHAPE or set(changed) - set(kept)):
        return _batch_statistics(subject, evidence)
    evidence["mended"] = True  # what is asked below is asked of models in eval mode: only other causes remain
    state = f" A forward pass changes the model's state ({changed[0]})." if changed else ""
    leaf = next((name for name, m in plain.named_modules() if is_training(m) and not list(m.children())), "")
    return Finding(
        "eval-mode",
        "fail",
        cause=f"{_in_train_mode(training, leaf, beyond)}, and the logits are others than in eval mode: batch "
        f"statistics or dropout are at work.{state}",
        remedy="Evaluate with fixed statistics: model.eval() must reach every module (an attribute, "
        "nn.ModuleList), and a forward pass must leave the model as it was.",
        evidence=evidence,
    )


def _in_train_mode(training: list[str], leaf: str, beyond: list[str]) -> str:
    if training:
        return f"{len(training)} modules stay in train mode after model.eval() ({leaf or training[0]})"
    last = next((name for name in beyond if "Dropout" in name or "Norm" in name), beyond[-1])
    return (
        f"model.eval() does not reach all modules: some that the forward pass calls ({last}) are not the model's own "
        "but lie in a list, a closure or a global, or are made at each call, and are in train mode"
    )


def mended_by(finding: Finding) -> Callable[[nn.Module], nn.Module]:
    """What undoes that modules stay in train mode, where ``finding`` (of :func:`eval_mode`) says so."""
    if not finding.evidence.get("mended"):
        return lambda model: model
    return forced_throughout if finding.evidence.get("out_of_reach") else forced


def _batch_statistics(subject: Subject, evidence: dict[str, Any]) -> Finding:
    """BatchNorm that normalises by the batch it is shown although every module says that it is in eval mode."""
    others = subject.x.clone()
    others[1::2] = 1 - subject.x[1::2]
    seen = subject.trace.batch_statistics
    one, two = (logits(subject.fresh(), x) for x in (subject.x, others)) if seen else (None, None)
    if one is None or two is None or subject.unfixable:
        return Finding("eval-mode", "pass", evidence=evidence)
    evidence["change"] = largest(change(one, two, subject.spread)[::2])
    if evidence["change"] <= subject.shape_threshold:
        return Finding("eval-mode", "pass", evidence=evidence)
    return Finding(
        "eval-mode",
        "fail",
        cause=f"BatchNorm works as in train mode although the model is in eval mode ({seen} calls normalise by the "
        "statistics of the batch): an image's logits depend on the other images in the batch.",
        remedy="Normalise by statistics that were fixed in training (track_running_stats, training=False in "
        "batch_norm, no switch of the mode in the forward pass); meanwhile attack and judge the same batches.",
        evidence=evidence,
    )


def state(subject: Subject, evaluation: Evaluation | None) -> Finding:
    """Do earlier calls change an answer? Caches, counters, adaptation at test time, buffers that move."""
    evidence = _after_calls(subject) | _judged_again(subject, evaluation)
    change_seen = max(value for name, value in evidence.items() if name.startswith("change"))
    # verdicts of other batches are others without any state
    explained = bool({"batch", f"batch{SLIGHTLY}"} & set(subject.hidden))
    wrong = 0 if explained else evidence.get("verdicts_changed", 0)
    random = subject.trace.random or subject.own_generators
    evidence["changed"] = subject.remembered[:5]
    if (random and subject.random) or not (
        change_seen > SAME_SHAPE
        or subject.written
        or subject.files
        or beats(wrong, evidence.get("judged_again", 0))
    ):
        cause = "Hidden by randomness." if random and subject.random else ""
        return Finding("state", "skipped" if cause else "pass", cause, evidence=evidence)
    elsewhere = subject.written or subject.files or wrong > 2
    seen_on_repeat = (
        evidence["change_on_repeat"] > SAME_SHAPE
    )  # a cache is not slight because its images lie close
    evidence["slight"] = not elsewhere and seen_on_repeat and change_seen <= SLIGHT
    subject.hidden.append("state")
    if subject.written:
        return _written(evidence)
    what = ", ".join(subject.remembered[:3]) or "outside the module (a global, a closure)"
    return Finding(
        "state",
        "fail",
        cause=f"The answer depends on earlier calls: state that the state dict does not fix ({what}), such as a "
        f"cache, a counter or adaptation at test time.{_in_files(subject)}{_connected(subject)}"
        f"{_adapting(subject)}{_drawn_once(evidence)}"
        f"{_corrected(evidence)}",
        remedy="Remove what is remembered between calls, or reset it before each (a fresh copy for every call), "
        "and attack and judge that; figures from a model that remembers are void.",
        evidence=evidence,
    )


def _written(evidence: dict[str, Any]) -> Finding:
    return Finding(
        "state",
        "fail",
        cause="The forward pass writes into its input: the images are others after a call than before, so that "
        "asking twice is asking two questions, and an attack goes on from an image that it did not make.",
        remedy="Let the forward pass work on a copy (no `.data`, no in-place operation on the input); figures until "
        "then are void.",
        evidence=evidence,
    )


def _after_calls(subject: Subject) -> dict[str, Any]:
    """How far answers move on a repeat, after a neighbour, over many calls, and for the audited model itself."""
    x, few = subject.x, subject.x[:2]
    spread, model = subject.spread, subject.fresh()
    before = facts_of(model) | _numbers(model)
    first, again = logits(model, x), logits(model, x)
    near = [subject.start, *(torch.where(x > 0.5, x - size, x + size) for size in NEAR)]
    moved = [change(logits(model, z), logits(subject.fresh(), z), spread) for z in near]
    logits(model, x, "input")
    third = logits(model, x)
    found = {
        "change_on_repeat": largest(
            torch.maximum(change(first, again, spread), change(first, third, spread))
        ),
        "change_after_a_neighbour": largest(torch.stack(moved)),
    }
    counted = subject.fresh()
    many = [logits(counted, few) for _ in range(2)]
    kept = facts_of(counted) | _numbers(counted) | _outside(subject)
    many += [logits(counted, few) for _ in range(CALLS - 2)]
    counts = facts_of(counted) | _numbers(counted) | _outside(subject) != kept
    found["change_over_calls"] = max(largest(change(many[0], later, spread[:2])) for later in many[1:])
    used = logits(subject.model.model, x)
    found["change_since_the_evaluation"] = largest(
        change(used, logits(subject.fresh(mended=False), x), spread)
    )
    if subject.trace.random and not subject.random:  # it draws, but not at every call
        other = logits(subject.fresh(), x, seed=1)
        found["change_with_the_first_draw"] = largest(change(first, other, spread))
    if counts and max(found.values()) <= SAME_SHAPE:
        found |= _late(subject, counted)
    after = facts_of(model) | _numbers(model)
    subject.remembered = [name for name, value in after.items() if before.get(name) != value]
    subject.remembered = [*subject.files, *subject.shared, *subject.remembered] or _left_behind(subject)
    found["change_of_gradient"] = float(_gradient_change(subject, subject.fresh(), subject.fresh()) > 0.5)
    since = _gradient_change(subject, subject.fresh(mended=False), subject.model.model)
    found["change_of_gradient_since_the_evaluation"] = float(since > 0.5)
    return found


def _left_behind(subject: Subject) -> list[str]:
    """What the audited model remembers otherwise than a fresh copy: gradients may count what logits do not."""
    fresh = facts_of(subject.fresh(mended=False))
    used = facts_of(subject.model.model)
    return [name for name, value in used.items() if name not in fresh or fresh[name] != value]


def _outside(subject: Subject) -> dict[str, Any]:
    """Where what the model shares with its copies stands: it is never the same while something counts."""
    return {"shared": object()} if subject.shared else {}


def _late(subject: Subject, counted: nn.Module) -> dict[str, Any]:
    """What a thousand further calls change in the answer and in the gradient."""
    one, spread = subject.x[:1], subject.spread[:1]
    first = logits(counted, one)
    moved = max(largest(change(first, logits(counted, one), spread)) for _ in range(LATE))
    turned = float(_gradient_change(subject, subject.fresh(), counted) > 0.5)
    return {"change_after_many_calls": moved, "change_of_gradient_after_many_calls": turned}


def _gradient_change(subject: Subject, fresh: nn.Module, asked: nn.Module) -> float:
    """1 - cosine of the gradient on a ``fresh`` copy and on one that was ``asked`` before."""
    few, y = subject.x[:8], subject.y[:8]
    logits(asked, few)
    one, other = (_seeded_gradient(model, few, y, margin).flatten()[None] for model in (fresh, asked))
    return float(apart(one, other)[0]) if bool((one != 0).any()) else 0.0


def _seeded_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    with fixed(x.device):
        return input_gradient(model, x, y, loss)[0]


def _judged_again(subject: Subject, evaluation: Evaluation | None) -> dict[str, Any]:
    """The evaluation's fallen and standing images on a copy taken before any call, and the figure that it gives."""
    if evaluation is None or subject.labels is None:
        return {}
    last = list(evaluation.correct.values())[-1]
    model, right = subject.fresh(mended=False), []
    for x, y in zip(evaluation.x_adv.split(subject.batch), subject.labels.split(subject.batch), strict=True):
        x = x.to(subject.x.device)
        right.append(~misclassified(logits(model, x).cpu(), y.cpu()))
    again = torch.cat(right)
    found = {"judged_again": len(last), "verdicts_changed": int((again != last).sum())}
    found["fallen_that_stand"] = int((again & ~last).sum())
    found["standing_that_fall"] = int((~again & last).sum())
    return found | {"figure": float(last.double().mean()), "figure_corrected": float(again.double().mean())}


def _in_files(subject: Subject) -> str:
    if not subject.files:
        return ""
    return " A forward pass reads back what an earlier one wrote to the disk, which all copies and processes share."


def _connected(subject: Subject) -> str:
    held = connections(subject.model.model)
    if not held:
        return ""
    return f" The model holds a connection ({held[0]}): what remembers may be another process, which all copies share."


def _adapting(subject: Subject) -> str:
    if not subject.trace.gradient_calls:
        return ""
    return (
        " The forward pass computes gradients itself and changes the model by them (an inner optimisation)."
    )


def _drawn_once(evidence: dict[str, Any]) -> str:
    if evidence.get("change_with_the_first_draw", 0) <= SAME_SHAPE:
        return ""
    return " It draws at its first call and keeps what it drew: another process has another model."


def _corrected(evidence: dict[str, Any]) -> str:
    if not evidence.get("verdicts_changed"):
        return ""
    return (
        f" On a copy taken before any call {evidence['verdicts_changed']} of {evidence['judged_again']} verdicts "
        f"are others, and the figure is {100 * evidence['figure_corrected']:.0f} instead of "
        f"{100 * evidence['figure']:.0f} %."
    )


def batch(subject: Subject) -> Finding:
    """Size of the batch, place in it, and its other images: none may change an image's logits or gradient."""
    if subject.random:
        return Finding("batch", "skipped", cause="Hidden by randomness.")
    moved = _over_batches(subject)
    if max(moved.values()) <= subject.shape_threshold:
        moved |= _gradient_over_batches(subject)
    evidence: dict[str, Any] = dict(moved)
    worst = [name for name, value in moved.items() if value > subject.shape_threshold]
    if not worst:
        return Finding("batch", "pass", evidence=evidence)
    evidence["slight"] = GRADIENT not in worst and max(moved.values()) <= SLIGHT
    subject.hidden.append(f"batch{SLIGHTLY * evidence['slight']}")
    seeds = evidence["seeded"] = bool(subject.trace.random) and "its place" in worst
    words = "The model draws noise from a seed that it sets itself: " if seeds else ""
    what = "gradient" if worst == [GRADIENT] else "logits"
    on = " and ".join(name for name in worst).removesuffix(" (gradient)")
    return Finding(
        "batch",
        "fail",
        cause=f"{words}An image's {what} depend{'s' * (what == 'gradient')} on {on} in the batch, so what was "
        f"attacked in one batch is judged in another (batch statistics, position, batch size).{_adapting(subject)}",
        remedy="Make each image's answer its own: statistics fixed at training, noise as a fixed input of the model, "
        "no branch on the batch; meanwhile attack and judge one image at a time.",
        evidence=evidence,
    )


def _over_batches(subject: Subject) -> dict[str, float]:
    x, n = subject.x, len(subject.x)
    spread, full = subject.spread, logits(subject.fresh(), x)
    few = min(8, n)
    shifted = logits(subject.fresh(), x.roll(1, 0)).roll(-1, 0)
    turned = logits(subject.fresh(), x.flip(0)).flip(0)
    others = x.clone()
    others[1::2] = 1 - x[1::2]
    beside = logits(subject.fresh(), others)
    found = {
        "its place": largest(torch.maximum(change(full, shifted, spread), change(full, turned, spread))),
        "the other images": largest(change(full, beside, spread)[::2]),
    }
    times = min(-(-subject.batch // n), 4)
    sizes = [_sizes(subject, size)[:few] for size in (1, 2) if n > size]
    sizes += [logits(subject.fresh(), x.repeat(times, 1, 1, 1))[:few]] if times > 1 else []
    found["the number of images"] = max(
        (largest(change(full[:few], s, spread[:few])) for s in sizes), default=0.0
    )
    if float((subject.jumps() > 1e-2).double().mean()) > JUMPING:
        found["the number of images"] = 0.0  # sums in another order jump as images a millionth apart do
    return found


def _gradient_over_batches(subject: Subject) -> dict[str, float]:
    """The share of images whose gradient points elsewhere from another place in the batch."""
    drawn = [input_gradient(subject.fresh(), subject.x[:4], subject.y[:4], margin)[0] for _ in range(2)]
    if not torch.equal(*drawn):  # a backward pass that draws: another check's finding
        return {GRADIENT: 0.0}
    one = _seeded_gradient(subject.fresh(), subject.x, subject.y, margin)
    other = _seeded_gradient(subject.fresh(), subject.x.roll(1, 0), subject.y.roll(1, 0), margin).roll(-1, 0)
    share = float((apart(one, other) > 0.1).double().mean())
    return {GRADIENT: share if share > 0.1 else 0.0}


def _sizes(subject: Subject, size: int) -> Tensor:
    """Logits of the first 8 images, ``size`` at a time; those of all at once where the model refuses that."""
    try:
        return torch.cat([logits(subject.fresh(), part) for part in subject.x[:8].split(size)])
    except (RuntimeError, ValueError):  # BatchNorm in train mode cannot take one image
        return logits(subject.fresh(), subject.x)[:8]


def _numbers(model: nn.Module) -> dict[str, Any]:
    return {name: float(value.double().nan_to_num().sum()) for name, value in tensors_of(model).items()}


def _equal(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def largest(values: Tensor) -> float:
    found = float(values.max())
    return min(found, 1e30)  # a result file knows no infinity
