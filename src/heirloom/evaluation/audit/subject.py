"""The sample that the audit looks at, and the attacks that its checks share, each run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property

import torch
from torch import Tensor, nn

from heirloom.attacks.apgd import apgd
from heirloom.attacks.engine.gradient import input_gradient
from heirloom.attacks.fgsm import fgsm
from heirloom.attacks.losses import Loss, cross_entropy, margin, misclassified
from heirloom.attacks.pgd import pgd
from heirloom.evaluation.apart import fresh_copy, noticed, separate
from heirloom.evaluation.audit.watch import Trace, merged, watched
from heirloom.evaluation.chunks import margins_of
from heirloom.evaluation.copies import change, fixed, is_generator, logits, own_generators
from heirloom.evaluation.files import read_back
from heirloom.evaluation.reached import Slots
from heirloom.runtime.randomness import generator_of
from heirloom.threat import Threat

PASSES = 12  # a draw between two ways would look fixed once in 2^12
MORE_PASSES = 100  # where draws were seen and no change: what draws may show once in ten calls
OFFSET = 1e4  # the largest logit in units of their spread: float32 keeps seven digits
SLIGHT = 0.1  # of the logits' spread: what moves them by less decides few verdicts
SLIGHTLY = " (slight)"  # of what hides nothing from later checks
JUMP = 1e-6  # in pixel units: moves no logit of a sound model by a hundredth of their spread
JUMPING = 0.2  # share of images; half of them jump where one of two is chosen
RANDOM_ABOVE = 1e-4  # of the logits' spread; sums in another order differ by about 1e-6


class Counted(nn.Module):
    """``model``, counting the images that pass through it forwards, and those with a gradient to follow."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0
        self.guarded = False  # whether it is given copies, since it writes into its input
        self.frozen = False  # whether every pass draws the same

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone() if self.guarded else x
        self.forwards += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            self.backwards += len(x)
        with fixed(x.device) if self.frozen else nullcontext():
            return self.model(x)


class Subject:
    """``examples`` images of the evaluation and what the attacks find on them.

    Attributes:
        index: (K,) which of the evaluation's examples; ``x``, ``y``: they.
        model: in eval mode, counted.
        threat: that of the evaluation.
        pristine: a copy that was never called, None where the model cannot be copied.
        trace: what a forward pass does.
        shared: variables outside the modules that the forward pass changes (:mod:`heirloom.evaluation.apart`): each
            fresh copy has its own.
        files: that it reads back from an earlier pass (:mod:`heirloom.evaluation.files`): all copies share them.
        written: how many of the first images a forward pass changed in place.
        random: whether two passes differ for want of a fixed seed, which hides what compares two passes.
        unfixable: whether they do although torch's, NumPy's and Python's seeds are fixed.
        mend: what eval-mode found, undone: applied to fresh copies, so that later checks see other causes only.
        remembered: what the state check saw change.
        hidden: mechanisms found so far that void the comparison of the loss with its gradient.
        kept: reads or makes a mask of images by its name (:class:`heirloom.evaluation.audit.ledger.Ledger`).
        labels, batch: all labels and the batch of the evaluation.
    """

    remembered: list[str]

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        index: Tensor,
        *,
        threat: Threat,
        seed: int,
        batch_size: int,
        pristine: nn.Module | None = None,
    ) -> None:
        self.pristine = fresh_copy(model) if pristine is None else pristine
        self.model, self.x, self.y, self.index, self.threat = Counted(model).eval(), x, y, index, threat
        self.seed, self.batch_size, self.batch = seed, batch_size, batch_size
        self.hidden: list[str] = []
        self.remembered = []
        self.labels: Tensor | None = None
        self.kept: Callable[[str, Callable[[], Tensor]], Tensor] = lambda name, make: make()
        self.written = self._written()
        self.model.guarded = self.written > 0
        self.mend: Callable[[nn.Module], nn.Module] = lambda copied: copied

    def fresh(self, *, mended: bool = True) -> nn.Module:
        """A copy that was never called (the model itself where it cannot be copied)."""
        if self.pristine is None:
            return self.model.model
        model = separate(self.pristine, self.shared)
        return self.mend(model) if mended else model

    @cached_property
    def shared(self) -> Slots:
        if self.pristine is None:
            return {}
        return noticed(self.pristine, self.x)

    @cached_property
    def files(self) -> list[str]:
        unknown = torch.Generator()
        unknown.seed()  # images that no earlier audit has shown to the model either
        x = torch.rand(self.x[:2].shape, generator=unknown).to(self.x)
        model = self.fresh(mended=False)
        return read_back(lambda: logits(model, x))

    @torch.no_grad()
    def _written(self) -> int:
        given = self.x[:8].clone()
        with fixed(given.device):
            separate(self.pristine, {})(given) if self.pristine is not None else None
        return int((given != self.x[:8]).flatten(1).any(1).sum())

    @cached_property
    def trace(self) -> Trace:
        few = self.x[:2]
        return merged(*(watched(self.fresh(mended=False), few, grad=grad) for grad in (True, False)))

    @cached_property
    def own_generators(self) -> bool:
        """In the modules, or outside of them where the forward pass draws from it."""
        reached = any(is_generator(slot.get()) for slot in self.shared.values())
        return reached or own_generators(self.model.model)

    @cached_property
    def random(self) -> bool:
        """Two passes differ, and the forward pass draws: what differs without drawing is state."""
        model, few = self.fresh(mended=False), self.x[:8]
        first, whole = self.plain(model, few), self.plain(model, self.x)
        moved = float(change(whole, self.plain(model, self.x), self.spread).max())
        for _ in range(PASSES):
            moved = max(moved, float(change(first, self.plain(model, few), self.spread[: len(few)]).max()))
        drawn = bool(self.trace.random) or self.own_generators
        for _ in range(MORE_PASSES if drawn else 0):
            if moved > RANDOM_ABOVE:
                break
            moved = float(change(first, self.plain(model, few), self.spread[: len(few)]).max())
        if moved <= RANDOM_ABOVE:
            return False
        seeded = [logits(self.fresh(mended=False), few) for _ in range(3)]
        seeded.append(logits(model, few))
        steady = all(
            not bool((change(seeded[0], other, self.spread[: len(few)]) > RANDOM_ABOVE).any())
            for other in seeded
        )
        return drawn or steady

    @cached_property
    def unfixable(self) -> bool:
        if not self.random:
            return False
        few, spread = self.x[:4], self.spread[:4]
        first = logits(self.fresh(mended=False), few)
        again = (logits(self.fresh(mended=False), few) for _ in range(PASSES))
        return any(bool((change(first, one, spread) > RANDOM_ABOVE).any()) for one in again)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every pass of a random model draws the same, where seeds fix that: what else is wrong with it shows."""
        self.model.frozen = self.random and self._held
        try:
            yield
        finally:
            self.model.frozen = False

    @cached_property
    def _held(self) -> bool:
        few = [logits(self.model.model, self.x[:8]) for _ in range(PASSES)]  # fewer agree by chance
        return all(bool((change(few[0], one, self.spread[:8]) <= RANDOM_ABOVE).all()) for one in few[1:])

    @property
    def loose(self) -> bool:
        """Two passes differ now."""
        return self.random and not self.model.frozen

    @cached_property
    def shape_threshold(self) -> float:
        """How far logits may move with the batch's shape, in units of their spread.

        Sums in another order differ as images do that lie a millionth apart: no less is asked of a steep model.
        """
        halves = self.trace.halves or any(p.dtype.itemsize < 4 for p in self.model.parameters())
        least = 2e-2 if halves else 5e-3  # in bfloat16 another batch size alone makes 1e-2
        return least if self.random else max(least, 3 * float(self.jumps().median()))

    def beside(self, size: float = JUMP) -> Tensor:
        """:attr:`off_grid`, with every pixel ``size`` further inwards."""
        return torch.where(self.off_grid > 0.5, self.off_grid - size, self.off_grid + size)

    def jumps(self, size: float = JUMP) -> Tensor:
        """How far the logits at :attr:`off_grid` and :meth:`beside` it lie apart (K,)."""
        return change(
            logits(self.fresh(), self.off_grid), logits(self.fresh(), self.beside(size)), self.spread
        )

    @staticmethod
    @torch.no_grad()
    def plain(model: nn.Module, x: Tensor) -> Tensor:
        return model(x.clone()).float()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Logits (K, classes) in float32."""
        return torch.cat([self.model(part).float() for part in x.split(self.batch_size)])

    @cached_property
    def logits(self) -> Tensor:
        return self.predict(self.x)

    @cached_property
    def spread(self) -> Tensor:
        """How far apart the logits of an example lie (K,): what differences are measured against."""
        return self.logits.nan_to_num(0.0, 0.0, 0.0).std(1).clamp_min(torch.finfo(torch.float32).tiny)

    @cached_property
    def offset(self) -> bool:
        """The logits lie so far from zero that float32 rounds their differences."""
        return bool(self.logits.abs().amax(1).median() > OFFSET * self.spread.median())

    @cached_property
    def right(self) -> Tensor:
        """(K,) bool: classified correctly as it stands; only these are attacked."""
        return ~misclassified(self.logits, self.y)

    @cached_property
    def start(self) -> Tensor:
        """A random point of the threat set around each image."""
        return self.threat.random_start(self.x, self.generator("start"))

    @property
    def off_grid(self) -> Tensor:
        """Random points beside :attr:`start`, where no pixel lies exactly on a level that something is rounded at."""
        return 0.0137 + 0.9611 * self.start

    def generator(self, *purpose: object) -> torch.Generator:
        return generator_of(self.seed, "audit", *purpose, device=self.x.device)

    def gradient(self, x: Tensor, loss: Loss) -> Tensor:
        parts = zip(x.split(self.batch_size), self.y.split(self.batch_size), strict=True)
        return torch.cat([input_gradient(self.model, a, b, loss)[0] for a, b in parts])

    def values(self, x: Tensor) -> Tensor:
        """The margin loss (K,)."""
        parts = zip(x.split(self.batch_size), self.y.split(self.batch_size), strict=True)
        return torch.cat([margins_of(self.model, a, b) for a, b in parts])

    def pgd(
        self,
        loss: Loss,
        steps: int,
        *,
        threat: Threat | None = None,
        among: Tensor | None = None,
        model: nn.Module | None = None,
        restarts: int = 1,
    ) -> Tensor:
        """(K,) bool: those of ``among`` (default: the right ones) on which PGD makes the model err.

        ``model``: another one to differentiate; what it finds is tried on the model itself. For L1: APGD.
        """
        threat = threat or self.threat
        generator = self.generator(loss.__name__, steps, threat.eps, restarts)
        source = self.model if model is None else model

        def attack(x: Tensor, y: Tensor) -> Tensor:
            if threat.norm == "L1":  # steps along one coordinate get nowhere: Croce and Hein, ICML 2021
                return apgd(
                    source,
                    x,
                    y,
                    threat,
                    loss=loss,
                    steps=max(steps, 40),
                    restarts=restarts,
                    until=misclassified,
                    generator=generator,
                )
            return pgd(
                source,
                x,
                y,
                threat,
                loss=loss,
                steps=steps,
                restarts=restarts,
                until=misclassified,
                generator=generator,
            )

        return self.fools(attack, among)

    def fools(self, attack: object, among: Tensor | None = None) -> Tensor:
        """(K,) bool: those of ``among`` that are misclassified at ``attack(x, y)``."""
        among = self.right if among is None else among
        fooled = torch.zeros_like(self.right)
        for part in among.nonzero().flatten().split(self.batch_size):
            if not len(part):
                continue
            x, y = self.x[part], self.y[part]
            fooled[part] = ~(margins_of(self.model, attack(x, y), y) < 0)  # type: ignore[operator]
        return fooled

    @cached_property
    def one_step(self) -> Tensor:
        return self.kept("one-step", lambda: self.fools(lambda x, y: fgsm(self.model, x, y, self.threat)))

    @cached_property
    def iterative(self) -> Tensor:
        """PGD-20 on cross-entropy: the field's everyday attack."""
        return self.kept("iterative", lambda: self.pgd(cross_entropy, 20))

    @cached_property
    def white_box(self) -> Tensor:
        """Fooled by PGD-20 on cross-entropy or else by PGD-40 on the margin."""
        seen = self.iterative
        return self.kept("white-box", lambda: seen | self.pgd(margin, 40, among=self.right & ~seen))


def beats(count: int, of: int) -> bool:
    """Whether ``count`` of ``of`` examples is more than rounding and luck: above 2 and above 5 %."""
    return count > 2 and count > 0.05 * of
