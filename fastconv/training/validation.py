"""Validation: samples set apart from training, which decide when a run ends.

The test set decides nothing.
"""

from __future__ import annotations

import math
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops
from ..errors import ArgumentError, ShapeError, WeightsError
from ..geometry import as_int
from ..ops.arrays import as_array, expect_numbers
from ..randomness import stratified
from .learned import Arrays, all_finite, checksum, learned
from .ranks import Ranks

__all__ = ["Samples", "Validation", "class_labels", "held_out", "samples", "set_apart"]

Samples = tuple[NDArray[Any], NDArray[Any]]

BATCH = 100


def samples(name: str, x: ArrayLike, t: ArrayLike) -> Samples:
    """Return samples and labels as arrays of equal length.

    Raises
    ------
    ShapeError
        Their numbers differ; the message names the set.
    """
    x, t = as_array(x), as_array(t)
    if len(x) != len(t):
        raise ShapeError(f"Trainer: {len(x)} {name} samples but {len(t)} {name} labels")
    return x, t


def class_labels(t: NDArray[Any]) -> NDArray[Any]:
    """Labels (N,) as they are, one-hot ones (N, classes) as class indices (N,)."""
    return t.argmax(axis=1) if t.ndim == 2 and t.shape[1] > 1 else t.reshape(len(t))


def set_apart(
    network: Any,
    training: tuple[NDArray[Any], ...],
    validation: float | tuple[ArrayLike, ArrayLike] | None,
    *,
    patience: int | None,
    seed: int | None,
) -> tuple[tuple[NDArray[Any], ...], Validation | None]:
    """Return the samples left to train on, and the validation that a Trainer was asked for.

    Parameters
    ----------
    network : object
        With a method ``predict(x)``.
    training : (x, t), or (x, t, weights)
    validation : float or (x, t) or None
        A share of `training`, or samples of their own.
    patience, seed : int or None
        As `Validation` and `held_out` take them.

    Raises
    ------
    ArgumentError, ShapeError
        A share or a patience is out of range; numbers of samples and labels differ or are 0;
        patience without validation; a network that cannot predict.
    """
    if patience is not None:
        patience = as_int("Trainer", "early_stopping", patience, 1)
    if validation is None:
        if patience is not None:
            raise ArgumentError("Trainer: early_stopping needs validation samples")
        return training, None
    if not hasattr(network, "predict"):
        raise ArgumentError("Trainer: validation needs a network with predict(x)")
    if isinstance(validation, Real):
        x, t = training[:2]
        chosen = held_out(t, float(validation), seed)
        left = tuple(part[~chosen] for part in training)
        return left, Validation(x[chosen], t[chosen], patience)
    if not isinstance(validation, tuple) or len(validation) != 2:
        raise ArgumentError(
            "Trainer: validation must be a share of the training set, or a tuple of samples and "
            f"labels, got {type(validation).__name__}"
        )
    apart = samples("validation", *validation)
    if len(apart[0]) == 0:
        raise ShapeError("Trainer: the validation set is empty")
    return training, Validation(*apart, patience)


def held_out(t: NDArray[Any], share: float, seed: int | None) -> NDArray[np.bool_]:
    """Choose the samples to set apart: the same share of each class, at random.

    Parameters
    ----------
    t : array
        Class indices (N,) or one-hot (N, classes).
    share : float
        Between 0 and 1; round(share * N) samples are chosen, but one of each class stays.
    seed : int or None
        The same seed makes the same choice, whatever else it draws. None draws from NumPy's
        global generator.

    Returns
    -------
    array of bool (N,)
        True where a sample is set apart.

    Raises
    ------
    ArgumentError
        The share is out of range, or too small for a single sample.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"Trainer: validation must lie between 0 and 1, got {share}")
    # A stream of its own, so that the seed gives the same batches as without a split.
    generator: Any = np.random
    if seed is not None:
        generator = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    labels = class_labels(t)
    chosen = stratified(labels, share, generator)
    if not chosen.any():
        classes = len(np.unique(labels))
        raise ArgumentError(
            f"Trainer: validation={share} of {len(t)} samples in {classes} classes sets none apart"
        )
    return chosen


class Validation:
    """The samples set apart, and the results on them so far.

    An epoch is better than another if its accuracy is higher, or equal with a lower loss.

    Parameters
    ----------
    x, t : arrays
        Samples (N, ...), N at least 1, and their labels.
    patience : int or None
        Epochs in a row without a better one after which the run should end; None: the best
        epoch is not looked for.

    Attributes
    ----------
    best_epoch : int
        From 1; 0 before the first. One whose weights are NaN or infinite is never the best.
    best : dict of str to array or None
        What the network had learned then, named as by `fastconv.training.learned.learned`.
    """

    def __init__(self, x: NDArray[Any], t: NDArray[Any], patience: int | None) -> None:
        self.x, self.t = x, t
        self.patience = patience
        self.best_epoch = 0
        self.best: Arrays | None = None
        self._best_result = (-math.inf, -math.inf)
        self._epochs = 0

    def measure(self, network: Any, ranks: Ranks) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy, in evaluation and without label smoothing."""
        correct, loss = 0.0, 0.0
        for start in ranks.blocks(len(self.x), BATCH):
            scores = network.predict(self.x[start : start + BATCH])
            labels = ops.class_indices("validation", self.t[start : start + BATCH], scores.shape)
            correct += int(np.sum(scores.argmax(axis=1) == labels))
            loss += ops.softmax_cross_entropy_forward(scores, labels)[0] * len(labels)
        correct, loss = ranks.total(correct, loss)
        return correct / len(self.x), loss / len(self.x)

    def note(self, network: Any, accuracy: float, loss: float) -> None:
        """Keep what the network has learned if this epoch is the best, and all numbers finite."""
        self._epochs += 1
        result = (accuracy, -math.inf if math.isnan(loss) else -loss)
        better = self.best is None or result > self._best_result
        if self.patience is not None and better and all_finite(learned(network)):
            self._best_result, self.best_epoch = result, self._epochs
            self.best = {name: value.copy() for name, value in learned(network).items()}

    @property
    def exhausted(self) -> bool:
        """Whether `patience` epochs in a row have brought nothing better."""
        return self.patience is not None and self._epochs - self.best_epoch >= self.patience

    def state(self) -> Arrays:
        """Return the state, for a checkpoint."""
        numbers = [self._checksum, self._epochs, self.best_epoch, *self._best_result]
        return {"progress": np.array(numbers, np.float64), **(self.best or {})}

    def load_state(self, arrays: Arrays) -> None:
        """Restore what `state` returned.

        Raises
        ------
        WeightsError
            The state is damaged, or of other samples.
        """
        progress = arrays.get("progress")
        if progress is None or progress.shape != (5,) or progress.dtype.kind != "f":
            got = "none" if progress is None else f"dtype {progress.dtype}, shape {progress.shape}"
            raise WeightsError(
                f"the checkpoint's progress of validation must be 5 floats, got {got}"
            )
        checksum, epochs, best_epoch, *result = progress.tolist()
        if checksum != self._checksum:
            raise WeightsError(
                "the checkpoint's validation samples are not those of this run: "
                "the same seed and the same share give the same samples"
            )
        best = {key: value for key, value in arrays.items() if key != "progress"}
        whole = epochs.is_integer() and best_epoch.is_integer()
        if not whole or not 0 <= best_epoch <= epochs or bool(best) != bool(best_epoch):
            raise WeightsError(
                f"the checkpoint's best epoch is {best_epoch:g} of {epochs:g}, with "
                f"{len(best)} arrays"
            )
        for name, value in best.items():
            expect_numbers(f"the best epoch's {name}", value)
        self._epochs, self.best_epoch = int(epochs), int(best_epoch)
        self._best_result = (result[0], result[1])
        self.best = best or None

    @cached_property
    def _checksum(self) -> int:
        """CRC-32 of the samples, which tells another choice."""
        return checksum(self.t, self.x)
