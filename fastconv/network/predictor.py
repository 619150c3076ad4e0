"""The common base of networks, ensembles and prepared networks: they predict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..functions import softmax
from ..geometry import as_int
from ..ops import class_indices
from ..ops.arrays import as_array

__all__ = ["Predictor"]

Array = NDArray[Any]


class Predictor(ABC):
    """Base class of networks, ensembles and prepared networks."""

    @abstractmethod
    def predict(self, x: ArrayLike, train_flg: bool = False) -> Array:
        """Return the scores (N, classes) of inputs (N, ...)."""

    def predict_proba(self, x: ArrayLike) -> Array:
        """Return the probabilities (N, classes) of inputs (N, ...)."""
        return softmax(self.predict(x))

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int = 100) -> float:
        """Return the share of correct predictions (nan for no samples).

        Parameters
        ----------
        x : array (N, ...)
        t : array
            Class indices (N,) or one-hot (N, classes).
        batch_size : int
            How many samples to predict at a time; the last batch may be smaller.
        """
        x, t = as_array(x), as_array(t)
        batch_size = as_int("accuracy", "batch_size", batch_size, 1)
        correct = 0
        for start in range(0, len(x), batch_size):
            scores = self.predict(x[start : start + batch_size])
            labels = class_indices("accuracy", t[start : start + batch_size], scores.shape)
            correct += int(np.sum(scores.argmax(axis=1) == labels))
        return correct / len(x) if len(x) else float("nan")
