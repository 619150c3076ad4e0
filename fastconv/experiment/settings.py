"""The settings of a run: one table, `SETTINGS`.

A setting is one field of `RunConfig`, or of `ImageOptions` if it says how to read the user's own
images. The field's type checks every value. Its `Setting` gives the option, the recipe's key, the
default of a new run, what may change when a run goes on, and the text of the account. A new setting
is one entry, and the code that uses its value.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from .. import config as process
from .. import selection
from .._version import __version__
from ..config import MOST_THREADS
from ..datasets import DATASETS
from ..datasets.record import ImageFacts
from ..errors import ArgumentError, suggestion
from ..geometry import LARGEST
from ..io.paths import user_path
from ..io.records import NotNegative, Positive, Within
from ..models import MODELS
from ..network.views import Views
from ..optimizer import OPTIMIZERS
from ..training.augment import Augmentation
from ..training.schedules import SCHEDULES
from .data import OWN_EPOCHS, Data, ImageOptions
from .setting import REQUIRED, setting, settings_of

__all__ = [
    *("LARGEST_SEED", "SETTINGS", "RunConfig", "account", "continued_config", "expect_known"),
    *("new_config", "resumed_config", "set_process"),
]

LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy's RandomState takes, which draws the first weights."""

MOST_MEMBERS = 1000

Positives = Annotated[int, Meta(ge=1, le=LARGEST)]
Seed = Annotated[int, Meta(ge=0, le=LARGEST_SEED)]


def _members(text: str) -> int | tuple[str, ...]:
    """``5`` as 5, ``deepconvnet,lenet`` as the models' names."""
    try:
        names, count = tuple[str, ...](), int(text)
    except ValueError:
        names = tuple(name.strip() for name in text.split(","))
        count = len(names)
        if unknown := [name for name in names if name not in MODELS]:
            raise ArgumentError(
                f"must be a whole number or names of models, got {unknown[0]!r}; known: "
                f"{', '.join(MODELS)}{suggestion(unknown[0], MODELS)}"
            ) from None
    if not 2 <= count <= MOST_MEMBERS:
        limits = "at least 2" if count < 2 else f"at most {MOST_MEMBERS}"
        raise ArgumentError(f"must be {limits}, got {count}")
    return names or count


def _place(folder: Path, text: str) -> str:
    return str(folder / user_path(text))


def _largest_seed(settings: dict[str, Any]) -> int:
    """The largest seed of a run: each member of an ensemble takes the next one."""
    return LARGEST_SEED - len(settings.get("members") or (0,)) + 1


EPOCHS = ", ".join(f"{name} {dataset.epochs}" for name, dataset in DATASETS.items())


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The configuration of a run; two runs of equal configuration are equal.

    A field is None if its setting is not used, or if ``config.json`` is older than the field.
    Fields that came after the first version have defaults, with which older runs go on.
    """

    model: str = setting(
        f"network: {', '.join(MODELS)} (default: deepconvnet)",
        "NAME",
        choices=MODELS,
        new="deepconvnet",
        default=REQUIRED,
    )
    data: str = setting(
        f"{', '.join(DATASETS)}, or images of your own: a folder with one for each class, "
        "a .csv of paths and labels, an .npz (default: digits)",
        "DATA",
        beside=lambda folder, text: Data(text).beside(folder),
        settle=lambda text: Data(text).settled(),
        new="digits",
        # Such data are checked by content.
        may_change=lambda before, now: Data(before).own and Data(now).own,
        default=REQUIRED,
    )
    data_dir: str | None = setting(
        "folder of the data set's files (all but digits)",
        "FOLDER",
        beside=_place,
        belongs_to="data",
        may_change=True,  # what is in it is checked by content
    )
    epochs: Positives = setting(
        f"epochs (default: {EPOCHS}, your own {OWN_EPOCHS})",
        "N",
        new=lambda before: Data(before["data"]).epochs,
        default=REQUIRED,
    )
    batch_size: Positives = setting(
        "images per step (default: 100)", "N", new=100, default=REQUIRED
    )
    optimizer: str = setting(
        "default: adam", choices=OPTIMIZERS, parse=str.lower, new="adam", default=REQUIRED
    )
    lr: Positive = setting(
        "learning rate, the highest of the run (default: the optimizer's own)",
        "X",
        new=lambda before: OPTIMIZERS[before["optimizer"]]().lr,
        default=REQUIRED,
    )
    schedule: str = setting(
        "how the learning rate goes over the run (default: constant)",
        choices=SCHEDULES,
        default="constant",
    )
    rise: Within | None = setting(
        "part of one-cycle that goes up (default: 0.3)", "X", belongs_to="schedule"
    )
    augment: str | None = setting(
        f"random changes of each training image: {', '.join(Augmentation.names())}",
        "NAME=NUMBER,...",
        parse=lambda text: str(Augmentation.parse(text)),
    )
    weight_decay: NotNegative | None = setting(
        "shrink the weights: sgd, momentum, adamw (default: the optimizer's own)",
        "X",
        account="weight decay {:g}",
    )
    label_smoothing: Annotated[float, Meta(ge=0, lt=1)] = setting(
        "spread this share of each label over all classes (default: 0)",
        "X",
        account="label smoothing {:g}",
        default=0.0,
    )
    class_weight: Literal["balanced"] | None = setting(
        "weigh the images in the loss, so that each class counts alike", account="{} class weights"
    )
    clip_norm: Positive | None = setting(
        "limit the norm of each step's gradients", "X", account="gradients clipped at norm {:g}"
    )
    ema: Within | None = setting(
        "test and keep a moving average of the weights, such as 0.999",
        "DECAY",
        instead_of="swa",
        account="weights averaged with decay {:g}",
    )
    swa: Positives | None = setting(
        "test and keep the mean of the weights at the ends of epochs, from this one on",
        "EPOCH",
        instead_of="ema",
        account="weights averaged from epoch {} on",
    )
    balanced: bool = setting(
        "train on images of each class equally often, whatever the sizes of the classes",
        flag=True,
        account="classes drawn equally often",
        default=False,
    )
    sync_batchnorm: bool = setting(
        "let batch normalisation take the statistics of whole batches on several processes, not "
        "of each one's share",
        flag=True,
        account="batch normalisation synchronised",
        default=False,
    )
    gradients: Literal["bfloat16"] | None = setting(
        "send gradients between several processes in 16 bits, half of the bytes; what rounding "
        "keeps back is added to the next step's",
        account="gradients sent as {}",
    )
    validation: Within | None = setting(
        "set this share of the training images apart, and watch the run on them",
        "SHARE",
        account="a share of {:g} of the training images for validation",
    )
    patience: Positives | None = setting(
        "end after N epochs that validation finds no better; keep the best epoch's weights",
        "N",
        account="patience {}",
    )
    init: str | None = setting(
        "start from a file's weights, where name and shape agree",
        "WEIGHTS",
        beside=_place,
    )
    freeze: str | None = setting("do not train what these match: W1, features.*", "PATTERN,...")
    members: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MOST_MEMBERS)] | None = (
        setting(
            "train K networks, of seeds that follow each other, and let them answer together; "
            "or their models, with commas between them",
            "K",
            parse=_members,
            written=int | Annotated[list[str], Meta(min_length=1)],
        )
    )
    views: str | None = setting(
        "answer on each image as it is and on others, on average: shift=PIXELS (4 more), "
        "rotate=DEGREES (2), scale=SHARE (2), mirror (twice as many), or none",
        "NAME=NUMBER,...",
        parse=lambda text: str(Views.parse(text)),
        may_change=True,  # views do not affect training
    )
    dtype: Literal["float32", "float64"] = setting(
        "default: float32", new="float32", default=REQUIRED
    )
    seed: Seed = setting(
        "repeat the run of this seed (default: drawn, and kept in the run's config.json)",
        "N",
        new=lambda before: secrets.randbelow(_largest_seed(before) + 1),
        default=REQUIRED,
    )
    backend: str = setting(
        "numpy, numba, cython or another (default: auto)",
        "NAME",
        settle=selection.resolve,
        new=lambda before: selection.resolve(None),
        computed_with="--backend",
        default=REQUIRED,
    )
    threads: Annotated[int, Meta(ge=1, le=MOST_THREADS)] = setting(
        "threads (default: one for each CPU)",
        "N",
        new=lambda before: process.get_num_threads(),
        computed_with="--threads",
        default=REQUIRED,
    )
    ranks: Positives = setting(
        "processes that train together",
        found="of the launcher",
        new=lambda before: 1 if before.get("members") else process.launched().size,
        computed_with="ranks",
        default=1,
    )
    math: Literal["default", "fast", "bf16"] | None = setting(
        "fast: convolutions may round more, to about 1e-5 in float32; bf16: products of "
        "bfloat16s, a few 1e-3 (default: default)",
        new=lambda before: process.get_math_mode(),
        computed_with="--math",
    )
    image_facts: ImageFacts | None = setting(
        "what the user's own images are", found="when they are loaded"
    )
    data_seed: Seed | None = setting(
        "set images apart, for validation and testing, by this seed (default: by --seed; members "
        "of an ensemble share one): so runs learn from the same images, and can answer together",
        "N",
        # Of an earlier version's ensemble, members drew by their own seeds: theirs stays None.
        new=lambda before: (
            before["seed"] if before["members"] and before["validation"] is not None else None
        ),
    )
    recipe: str | None = setting(
        "name or path of the recipe", found="by --recipe, which gives all others"
    )
    isa: str | None = setting(
        "instruction set of the backend",
        found="of the processor and the environment",
        new=lambda before: selection.instruction_set(before["backend"]),
        computed_with="instruction set",
    )
    algorithm: str | None = setting(
        "which algorithms convolutions may run by",
        found="of the environment",
        new=lambda before: process.get_conv_algorithm(),
        computed_with="convolution algorithm",
    )

    @property
    def split_seed(self) -> int:
        """The seed that sets images apart: for validation, and for testing if nothing else does."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def facts(self) -> ImageFacts:
        """The facts of the images; for a named set, those of its entry in the table."""
        return self.image_facts or Data(self.data).facts

    @property
    def where(self) -> str:
        """Where and how the run computes, for people."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        ranks = f"{self.ranks} ranks of " if self.ranks > 1 else ""
        math = "" if self.math in (None, "default") else f", math {self.math}"
        return f"{self.backend}, {self.dtype}, {ranks}{threads}{math}"

    def __post_init__(self) -> None:
        if self.image_facts is not None and self.image_facts.fingerprint is None:
            raise ArgumentError("RunConfig: image_facts of a user's images need a fingerprint")

    def plain(self) -> dict[str, Any]:
        """Plain data that JSON can hold, with the version of fastconv."""
        return {"fastconv": __version__} | asdict(self)


_OF_RUN = settings_of(RunConfig)
SETTINGS = {name: _OF_RUN[name] for name in ("model", "data")} | settings_of(ImageOptions) | _OF_RUN
"""All settings of a run, by name, in the order of ``fastconv train --help``."""


def _with_members(given: dict[str, Any], model: str) -> dict[str, Any]:
    """What the user gave, with an ensemble's members as models: `model` if they are only counted.

    A model besides members that name theirs is an `ArgumentError`.
    """
    members = given.get("members")
    if members is None:
        return given
    if isinstance(members, int):
        return given | {"members": (given.get("model", model),) * members}
    if given.get("model", members[0]) != members[0]:
        raise ArgumentError("--members names models already; leave --model out")
    return given | {"model": members[0]}


def new_config(given: dict[str, Any]) -> RunConfig:
    """The configuration that the user gave, with defaults for the rest.

    A seed that would be too large for an ensemble's last member is an `ArgumentError`.
    """
    given = _with_members(given, SETTINGS["model"].new)
    largest = _largest_seed(given)
    if given.get("seed", 0) > largest:
        raise ArgumentError(
            f"--seed {given['seed']}: each member takes the next one, and the last may be "
            f"{LARGEST_SEED}; expected at most {largest}"
        )
    settings: dict[str, Any] = {}
    for name, entry in _OF_RUN.items():
        settings[name] = given[name] if name in given else entry.of_new_run(settings)
    return RunConfig(**settings)


def resumed_config(
    stored: RunConfig, given: dict[str, Any], warn: Callable[[str], None]
) -> RunConfig:
    """Return `continued_config` with what the user gives and the process decides now."""
    given = _with_members(given, stored.model)
    now: dict[str, Any] = {"backend": selection.resolve(given.get("backend", stored.backend))}
    found = [each for each in _OF_RUN.values() if each.found and each.computed_with]
    now |= {entry.name: entry.of_new_run({"members": stored.members, **now}) for entry in found}
    if now["ranks"] != stored.ranks and "threads" not in given:  # ranks share the CPUs
        now["threads"] = process.get_num_threads()
    return continued_config(stored, given | now, warn)


def continued_config(
    stored: RunConfig, given: dict[str, Any], warn: Callable[[str], None]
) -> RunConfig:
    """Return the configuration to go on with: `stored`, with the fields that are `given` now.

    `warn` is called if the weights will not be, bit for bit, those of an uninterrupted run. A
    field that would make it another run is an `ArgumentError`.
    """
    changed = {name: value for name, value in given.items() if value != getattr(stored, name)}
    for name, value in changed.items():
        entry, before = SETTINGS[name], getattr(stored, name)
        if name == "epochs":
            if value < before:
                raise ArgumentError(
                    f"{entry.option} {value}: the run was started for {before}; it can only be "
                    "raised"
                )
            if stored.schedule != "constant":
                warn(
                    f"the {stored.schedule} schedule of {before} epochs is stretched over {value}: "
                    "the learning rate goes on where the longer one would be"
                )
        elif entry.computed_with is not None:
            if value is None or (before is None and name != "math"):
                continue  # one of the two is unknown
            instead = "what it was started with" if before is None else before
            warn(
                f"continuing with {entry.computed_with} {value} instead of {instead}: the "
                "weights will not be those of an uninterrupted run to the last bit"
            )
        elif not entry.allows(before, value):
            started = "without" if before is None else f"with {before}"
            raise ArgumentError(
                f"{entry.option} {value}: the run to resume was started {started}; "
                "leave it out, or start another run"
            )
    return dataclasses.replace(stored, **changed)


def expect_known(config: RunConfig) -> None:
    """Raise an `ArgumentError` if a setting is an unknown name or text."""
    for model in config.members or ():
        SETTINGS["model"].expect_known(model)
    for name, entry in _OF_RUN.items():
        value = getattr(config, name)
        if isinstance(value, str):
            entry.expect_known(value)
            try:
                entry.parsed(value)
            except ArgumentError as error:
                raise ArgumentError(f"{name}: {error}") from None


def account(config: RunConfig) -> str:
    """Report in words the settings that differ from the default, if they have an `account`."""
    told = ((each, getattr(config, name)) for name, each in _OF_RUN.items() if each.account)
    return ", ".join(
        str(each.account).format(value) for each, value in told if value != each.default
    )


def set_process(config: RunConfig) -> None:
    """Let this process compute with the run's threads and math mode."""
    process.set_num_threads(config.threads)
    process.set_math_mode(config.math)
