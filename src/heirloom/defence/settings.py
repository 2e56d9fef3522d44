"""How a preprocessor is made, and what the whole job is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from heirloom.attacks.named import attack_list
from heirloom.data.augmentation import Augmentation
from heirloom.heads.linear import HeadSettings
from heirloom.networks.student_painter import STUDENTS
from heirloom.objectives.defences import DEFENCES
from heirloom.objectives.objective import Objective
from heirloom.runtime.choices import Activation, Autoencoder, DefenceMethod, PassDtype, Targets
from heirloom.runtime.errors import require
from heirloom.runtime.kinds import check_kinds
from heirloom.threat import Threat
from heirloom.training.loop import TrainingSettings

INFINITY = float("inf")
AUTO = "auto"  # trials decide: heirloom.defence.choose
METHODS: tuple[str, ...] = tuple(m for m in get_args(DefenceMethod) if m != AUTO)


@dataclass(frozen=True)
class DistilSettings:
    """What ``distil`` alone has to be told.

    Attributes:
        student: ``resnet10`` of ``width`` (and twice and four times it), or ``resnet18``; its ``activation``.
        targets: what the student learns to say under attack: the teacher's ``features`` and their similarities to
            prototypes (k-means centres, so many as ``count``), or the class probabilities of the frozen
            classifier's own ``head``.
        delay: share of the student's training that passes before it is attacked; over as much again the radius rises to
            its full size (delayed adversarial training: Gupta, Dube and Verma, 2020, arXiv 2002.04237).
        paints: False: the student alone is kept, an encoder that stands in for the frozen model.
        painter_share: of the training that the painter gets.
        thumbnail: side of a coarse picture (the image averaged down) that the painter sees as well; 0: none.
        fidelity: weight of the paintings' likeness to the images (:func:`heirloom.objectives.distil.likeness`).
    """

    student: str = "resnet10"
    width: int = 32
    activation: Activation = "silu"
    targets: Targets = "features"
    count: int = 10
    delay: float = 0.2
    paints: bool = True
    painter_share: float = 0.15
    thumbnail: int = 0
    fidelity: float = 0.0

    def __post_init__(self) -> None:
        check_kinds(self)
        require(self.student in STUDENTS, "student", f"one of {', '.join(STUDENTS)}", self.student)
        require(
            self.targets in get_args(Targets),
            "targets",
            f"one of {', '.join(get_args(Targets))}",
            self.targets,
        )
        known = get_args(Activation)
        require(self.activation in known, "student_activation", f"one of {', '.join(known)}", self.activation)
        require(4 <= self.width <= 4096, "student_width", "from 4 to 4096 channels", self.width)
        require(self.count >= 2, "prototypes", "at least 2", self.count)
        require(0 <= self.delay <= 0.5, "delay", "a share between 0 and 0.5", self.delay)
        require(0 <= self.thumbnail <= 1024, "thumbnail", "from 0 to 1024 pixels", self.thumbnail)
        require(0 <= self.fidelity < INFINITY, "fidelity", "at least 0", self.fidelity)
        require(0 < self.painter_share < 1, "painter_share", "a share between 0 and 1", self.painter_share)


PHASES = (1, 2)  # of training: distil has two


@dataclass(frozen=True)
class PreprocessorSettings:
    """How a preprocessor is made.

    Attributes:
        method: ``identity`` (nothing in front), a filter (``jpeg``, ``bit-depth``, ``median``: nothing to train)
            or an objective of :mod:`heirloom.objectives.defences`, where each
            says what it reads, costs and gives.
        architecture: see :func:`heirloom.models.preprocessor.build_preprocessor`; ``distil`` has its own.
        weight: lambda of CRoPD, gamma of ARAE, ...; radius: of the training attack, in eps. None: the objective's.
        attack_steps: of the training attack: one of 1.25 radius, or several of half a radius.
        temperature: tau of the contrastive loss.
        sigma: standard deviation of the Gaussian noise of ``denoise``, in pixel units.
        vae: hub id or folder of the AutoencoderKL of method ``vae``, which is not trained.
        augmentation: of those objectives that augment (Table 5; never ARAE). None: none.
        training: epochs, batch size, learning rate, seed, device, precision.
        minutes: train for about so long in place of ``training.epochs``: speed is measured on the first steps,
            and the number of steps that follows is kept, so that the run can be resumed, and recorded.
        steps: exactly so many steps (of each phase), whatever ``minutes`` and epochs say: what was recorded.
    """

    method: DefenceMethod = "cropd"
    architecture: str = "mlp"
    weight: float | None = None
    radius: float | None = None
    attack_steps: int = 1
    temperature: float = 0.5
    sigma: float = 0.25
    vae: str = "stabilityai/sd-vae-ft-mse"
    augmentation: Augmentation | None = None
    distil: DistilSettings = field(default_factory=DistilSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    minutes: float | None = None
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_kinds(self)
        known = (*METHODS, AUTO)
        require(self.method in known, "method", f"one of {', '.join(known)}", self.method)
        shapes = get_args(Autoencoder)
        named = self.architecture in ("auto", *shapes)
        require(named, "architecture", f"one of {', '.join(shapes)}", self.architecture)
        require(self.weight is None or 0 <= self.weight < INFINITY, "weight", "at least 0", self.weight)
        require(self.radius is None or 0 < self.radius < INFINITY, "radius", "above 0, in eps", self.radius)
        require(self.attack_steps >= 1, "attack_steps", "at least 1", self.attack_steps)
        require(0 < self.sigma < INFINITY, "sigma", "above 0, in pixel units", self.sigma)
        require(0 < self.temperature < INFINITY, "temperature", "above 0", self.temperature)
        one = self.method != AUTO or self.weight is None
        require(one, "weight", "left out with auto, whose candidates weigh different things", self.weight)
        require(self.minutes is None or 0 < self.minutes < INFINITY, "minutes", "above 0", self.minutes)
        counted = self.steps is None or (len(self.steps) in PHASES and min(self.steps) >= 1)
        allowed = "at least 1 each, one number or two: the student's and the painter's"
        require(counted, "steps", allowed, self.steps)

    @property
    def objective(self) -> Objective | None:
        """None where there is nothing to train."""
        return DEFENCES.get(self.method)

    @property
    def chosen_weight(self) -> float:
        default = self.objective.weight if self.objective else 0.0
        return default if self.weight is None else self.weight

    @property
    def chosen_radius(self) -> float:
        default = self.objective.radius if self.objective else 1.0
        return default if self.radius is None else self.radius

    def facts(self) -> dict[str, Any]:
        """What decides the weights besides ``training``, as JSON."""
        deciding = {**asdict(self), "weight": self.chosen_weight, "radius": self.chosen_radius}
        if self.method != "distil":
            del deciding["distil"]
        if not self.method.startswith("denoise"):
            del deciding["sigma"]
        if self.method != "vae":
            del deciding["vae"]
        return {k: v for k, v in deciding.items() if k not in ("training", "minutes", "steps")}


@dataclass(frozen=True)
class DefendSettings:
    """Everything that decides the result, besides data and foundation model.

    Attributes:
        threat: for training and for evaluation.
        defence: the preprocessor that is saved.
        compare: other methods trained and measured in the same way, for the table.
        head: of each of them; the command line gives it the weight decay of
            :func:`heirloom.defence.choose.head_weight_decay_for`.
        robust_head: train it on adversarial examples too (CRoPD, Table 1, "robust").
        attacks: columns of the table, each the worst case over it and those before it.
        validation: share of the training images held out; heads are selected on it.
        eval_batch_size: images at once in evaluation and in features; None: as the memory has room for
            (:mod:`heirloom.models.memory`). audit_examples: test images that the audit of the saved defence looks at;
            0: no audit. curve_images: that the security curve is measured on; 0: no curve.
        attack_dtype: of the attacks' passes in evaluation; verdicts stay the model's. ``auto``: measured
            (:mod:`heirloom.evaluation.pass_dtype`). compile: those passes, by ``torch.compile``.
        fsdp: spread the frozen model's weights over the processes of ``torchrun`` (:mod:`heirloom.models.sharded`).
    """

    threat: Threat
    defence: PreprocessorSettings
    compare: tuple[DefenceMethod, ...] = ("identity",)
    head: HeadSettings = field(default_factory=HeadSettings)
    robust_head: bool = False
    attacks: tuple[str, ...] = ("pgd-10", "pgd-20", "cascade")
    validation: float = 0.1
    eval_batch_size: int | None = None
    audit_examples: int = 64
    curve_images: int = 256
    attack_dtype: PassDtype | None = None
    compile: bool = False
    fsdp: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        for method in self.compare:
            require(method in METHODS, "compare", f"among {', '.join(METHODS)}", method)
        alike = len(set(self.compare)) < len(self.compare)
        require(not alike, "compare", "different from each other", ", ".join(self.compare))
        require(len(self.attacks) > 0, "attacks", "at least one", self.attacks)
        attack_list(self.attacks)
        known = get_args(PassDtype)
        require(
            self.attack_dtype in (None, *known),
            "attack_dtype",
            f"one of {', '.join(known)}",
            self.attack_dtype,
        )
        size = self.eval_batch_size
        require(size is None or size >= 1, "eval_batch_size", "at least 1", size)
        require(self.curve_images >= 0, "curve_images", "at least 0", self.curve_images)
        require(self.audit_examples >= 0, "audit_examples", "at least 0", self.audit_examples)
        wanted = "distil for an encoder"
        require(self.defence.distil.paints or self.is_encoder, "method", wanted, self.defence.method)
        require(0 < self.validation < 1, "validation", "a share between 0 and 1", self.validation)

    @property
    def is_encoder(self) -> bool:
        """Whether what is saved is an encoder in the frozen model's place, not a preprocessor in front of it."""
        return self.defence.method == "distil" and not self.defence.distil.paints

    @property
    def methods(self) -> list[DefenceMethod]:
        """The compared ones first, the defence that is saved last."""
        return [m for m in dict.fromkeys(self.compare) if m != self.defence.method] + [self.defence.method]
