"""How much each sample counts in the loss: its own weight, and that of its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, LabelError
from ..ops import expect_weights
from ..ops.arrays import as_array
from .validation import class_labels

__all__ = ["ClassWeight", "sample_weights"]

ClassWeight = Literal["balanced"] | Mapping[int, float] | Sequence[float]
"""'balanced'; weights by class, 1 where there is none; or a weight for each class."""


def sample_weights(
    t: NDArray[Any], class_weight: ClassWeight | None, sample_weight: ArrayLike | None
) -> NDArray[np.floating[Any]] | None:
    """Return the weight of each sample: its own times that of its class; None without any.

    Raises
    ------
    ArgumentError, LabelError, DTypeError, ShapeError
        Weights that are not numbers from 0 on, or for other classes or another number of samples
        than there are; all of them 0.
    """
    if class_weight is None and sample_weight is None:
        return None
    given = np.ones(len(t)) if sample_weight is None else sample_weight
    weights = expect_weights("Trainer", given, len(t))
    if class_weight is not None:
        weights *= _of_classes(t, class_weight)
    if not weights.any():
        raise ArgumentError("Trainer: the weights of all samples are zero, so there is no loss")
    return weights


def _of_classes(t: NDArray[Any], class_weight: ClassWeight) -> NDArray[np.floating[Any]]:
    """The weight (N,) of each sample's class; balanced ones have a mean of 1."""
    labels = class_labels(t)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ArgumentError(
                "Trainer: class_weight must be 'balanced', a dict of weights by class or a weight "
                f"for each class, got {class_weight!r}"
            )
        _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return (len(t) / (len(counts) * counts))[classes]
    numbers = labels.dtype.kind in "biuf"
    if not numbers or np.any(labels != np.floor(labels)) or labels.min(initial=0) < 0:
        raise LabelError("Trainer: class_weight needs labels that are whole numbers from 0 on")
    labels = labels.astype(np.int64)
    classes = t.shape[1] if t.ndim == 2 and t.shape[1] > 1 else labels.max(initial=0) + 1
    table = class_weight
    if isinstance(class_weight, Mapping):
        if unknown := [key for key in class_weight if key not in range(classes)]:
            raise ArgumentError(
                f"Trainer: class_weight has the class {unknown[0]!r}, expected classes from 0 to "
                f"{classes - 1}, as in the labels"
            )
        table = [class_weight.get(label, 1.0) for label in range(classes)]
    by_class = as_array(table)
    if by_class.ndim != 1 or len(by_class) < classes:
        raise ArgumentError(
            f"Trainer: class_weight has shape {by_class.shape}, expected a weight for each of "
            f"{classes} classes"
        )
    return expect_weights("Trainer: class_weight", by_class, len(by_class))[labels]
