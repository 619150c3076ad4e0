"""Checkpoints of a Trainer: everything that the rest of a run depends on, in one file."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import ArgumentError, DataCorrupt, FastconvError, StateError, WeightsError
from ..io.arrays import load_arrays, save_arrays, under
from ..io.records import Count, NotNegative, record_of
from .batches import Batches
from .learned import Arrays, all_finite, parameters
from .optimizer_base import Optimizer
from .ranks import Ranks
from .weights import RunWeights

__all__ = ["Checkpoints"]

LISTS = ("train_loss_list", "train_acc_list", "test_acc_list", "_epoch_norms")
"""Attributes of a Trainer that are saved as arrays, since JSON has no NaN; older files use JSON."""

Number = float | None
"""null if it is not finite, or missing."""

Position = Annotated[int, Meta(ge=1, le=2**53)]


@dataclass(frozen=True)
class _Epoch:
    """What a Trainer itself records of a finished epoch; see `Trainer.history`."""

    epoch: Position
    iteration: Position
    train_loss: Number
    seconds: NotNegative
    images_per_second: NotNegative
    train_accuracy: Number = None
    validation_accuracy: Number = None
    validation_loss: Number = None
    test_accuracy: Number = None
    gradient_norm: Number = None
    learning_rate: Number = None

    def plain(self) -> dict[str, Any]:
        """The record before it became JSON: NaN for a loss that was not finite."""
        lost = {"train_loss"}
        if self.validation_accuracy is not None:
            lost.add("validation_loss")
        return {
            name: math.nan if value is None and name in lost else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class _Progress:
    """The progress of a Trainer, without `LISTS`."""

    current_iter: Count
    current_epoch: Count
    history: list[dict[str, Any]] = field(default_factory=list)
    _epoch_seconds: NotNegative = 0.0
    _evaluation: tuple[Number, Number] = (None, None)
    train_loss_list: list[Number] | None = None
    train_acc_list: list[Number] | None = None
    test_acc_list: list[Number] | None = None
    _epoch_norms: list[Number] | None = None


@dataclass(frozen=True)
class _PCG64:
    """The state of NumPy's default generator: two numbers of 128 bits, the second odd."""

    state: int
    inc: int

    def __post_init__(self) -> None:
        if not (0 <= self.state < 2**128 and 0 <= self.inc < 2**128 and self.inc % 2):
            raise ArgumentError("not the numbers of a PCG64 generator")


@dataclass(frozen=True)
class _Generator:
    """``bit_generator.state`` of NumPy's default generator."""

    bit_generator: Literal["PCG64"]
    state: _PCG64
    has_uint32: Annotated[int, Meta(ge=0, le=1)]
    uinteger: Annotated[int, Meta(ge=0, lt=2**32)]


@dataclass(frozen=True)
class _Metadata:
    """What a checkpoint holds besides arrays of weights."""

    optimizer: str
    generator: _Generator
    progress: _Progress
    batch_seed: Annotated[int, Meta(ge=0)] | None = None


class Checkpoints:
    """The part of a Trainer that writes and reads its checkpoints."""

    network: Any
    optimizer: Any
    current_iter: int
    max_iter: int
    _generator: np.random.Generator | None
    _weights: RunWeights
    _batches: Batches
    ranks: Ranks
    _unsent: Any = None
    last_checkpoint: tuple[str, int] | None = None
    """The last checkpoint with finite weights that was saved or loaded: its file, and its step."""

    def save_checkpoint(self, path: str | PathLike[str]) -> None:
        """Write everything that the rest of the run depends on, atomically.

        Of several ranks, the first writes; but where gradients are sent in 16 bits, all of them
        have to call this.

        Parameters
        ----------
        path : path
            An ``.npz`` file.

        Raises
        ------
        StateError
            The optimizer has no ``state`` to save, or the run draws from NumPy's global
            generator, which the Trainer does not own.
        """
        if not hasattr(self.optimizer, "state"):
            raise StateError(
                f"save_checkpoint: {type(self.optimizer).__name__} has no state() to save"
            )
        if self._generator is None:
            raise StateError("save_checkpoint: only a Trainer with a seed can be continued exactly")
        unsent = None if self._unsent is None else self._unsent.state(self.ranks)
        if not self.ranks.first:
            self._note_checkpoint(path)
            return
        arrays = self._weights.state()
        for key, value in self.optimizer.state().items():
            arrays[f"optimizer/{key}"] = value
        for key, value in (unsent or {}).items():
            arrays[f"unsent/{key}"] = value
        for name in LISTS:
            arrays[f"progress/{name}"] = np.array(getattr(self, name), np.float64)
        names = {field.name for field in fields(_Progress)} - set(LISTS)
        progress = {name: getattr(self, name) for name in sorted(names)}
        save_arrays(
            path,
            arrays,
            {
                "optimizer": type(self.optimizer).__name__,
                "max_iter": self.max_iter,
                "generator": self._generator.bit_generator.state,
                "batch_seed": self._batches.seed,
                "progress": progress,
            },
        )
        self._note_checkpoint(path)

    def _note_checkpoint(self, path: str | PathLike[str]) -> None:
        if all_finite(parameters(self.network)):
            self.last_checkpoint = str(path), self.current_iter

    def load_checkpoint(self, path: str | PathLike[str]) -> None:
        """Go back to where `save_checkpoint` was called; `train` then continues from there.

        The weights at the end are those of the run that was not interrupted, bit for bit, on
        the same machine with the same backend and number of threads. Of several ranks, the first
        reads for all; another number of ranks may go on, with weights that are equal to rounding.

        Raises
        ------
        DataNotFound, DataCorrupt
            No such file, or not a checkpoint.
        WeightsError
            The checkpoint is of another network, optimizer, kind of average or validation
            split, or only one of the two runs has augmentation.
        """
        if self._generator is None:
            raise StateError("load_checkpoint: only a Trainer with a seed can be continued exactly")
        arrays, plain = self.ranks.of_first(lambda: load_arrays(path))
        if "progress" not in plain or "generator" not in plain:
            raise WeightsError(f"{path}: not a checkpoint of a Trainer")
        metadata = record_of(plain, _Metadata, str(path))
        if metadata.optimizer != type(self.optimizer).__name__:
            raise WeightsError(
                f"{path}: a checkpoint of {metadata.optimizer}, expected "
                f"{type(self.optimizer).__name__}"
            )
        progress = _checked_progress(metadata.progress, arrays, str(path))
        batch_seed = self._batches.same_seed(metadata.batch_seed, str(path))
        # Each of these takes everything or raises. The optimizer is tried on a copy first, so that
        # nothing has changed if the weights are refused.
        state = under("optimizer/", arrays)
        self._load_optimizer(copy.copy(self.optimizer), state, path)
        unsent = under("unsent/", arrays)
        if bool(unsent) != (self._unsent is not None):
            here, there = ("without", "with") if unsent else ("with", "without")
            raise WeightsError(
                f"{path}: of a run {there} gradients in 16 bits, but this one is {here}"
            )
        if self._unsent is not None:
            self._unsent.load_state(unsent, str(path))
        self._weights.load_state(arrays, str(path))
        self._load_optimizer(self.optimizer, state, path)
        self._generator.bit_generator.state = asdict(metadata.generator)
        self._batches.seed = batch_seed
        for name, value in progress.items():
            setattr(self, name, value)
        self._note_checkpoint(path)

    def _load_optimizer(self, optimizer: Any, state: Arrays, path: str | PathLike[str]) -> None:
        """Restore an optimizer's state; for fastconv's own, only if it fits the network."""
        if not isinstance(optimizer, Optimizer):
            optimizer.load_state(state)
            return
        try:
            optimizer.load_state(state, parameters(self.network))
        except FastconvError as error:
            raise WeightsError(f"{path}: {error}") from error


def _checked_progress(
    progress: _Progress, arrays: dict[str, NDArray[Any]], source: str
) -> dict[str, Any]:
    """Return the attributes of a Trainer that a checkpoint sets; it may lack some.

    Raises
    ------
    DataCorrupt
        Lists of another type or length than the run's; epochs out of order.
    """
    values = {field.name: getattr(progress, field.name) for field in fields(progress)}
    for name in LISTS:
        if (array := arrays.get(f"progress/{name}")) is not None:
            if array.ndim != 1 or array.dtype != np.float64:
                raise DataCorrupt(
                    f"{source}: progress/{name} must be a row of float64, got shape "
                    f"{array.shape} and {array.dtype}"
                )
            values[name] = array.tolist()
        elif values[name] is None:
            del values[name]
        else:
            values[name] = [math.nan if value is None else value for value in values[name]]
    steps = len(values.get("train_loss_list", ()))
    if steps != progress.current_iter:
        raise DataCorrupt(f"{source}: {steps} losses after {progress.current_iter} steps")
    last, epochs = 0, []
    for number, facts in enumerate(progress.history, start=1):
        epoch = record_of(facts, _Epoch, f"{source}: history")
        if epoch.epoch != number or not last < epoch.iteration <= progress.current_iter:
            raise DataCorrupt(
                f"{source}: history: epoch {epoch.epoch} ends with step {epoch.iteration}: "
                f"expected epoch {number}, ending after step {last} and not after step "
                f"{progress.current_iter}"
            )
        last = epoch.iteration
        epochs.append(facts | epoch.plain())  # with what callbacks have added
    values["history"], values["_evaluation"] = epochs, list(progress._evaluation)
    return values
