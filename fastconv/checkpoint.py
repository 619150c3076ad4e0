"""Checkpoints of a Trainer: all that the rest of a run depends on, in one file."""

from __future__ import annotations

import copy
from os import PathLike
from typing import Any

import numpy as np

from .batches import Batches
from .errors import FastconvError, StateError, WeightsError
from .io.arrays import load_arrays, save_arrays
from .learned import Arrays, parameters, under
from .optimizer_base import Optimizer
from .run_weights import RunWeights

__all__ = ["Checkpoints"]

PROGRESS = (
    "current_iter",
    "current_epoch",
    "train_loss_list",
    "train_acc_list",
    "test_acc_list",
    "history",
    "_epoch_seconds",
    "_epoch_norms",
    "_evaluation",
)
"""Attributes of a Trainer; a file of before there was one lacks it, and its own stays."""


class Checkpoints:
    """The part of a Trainer that saves it and brings it back."""

    network: Any
    optimizer: Any
    max_iter: int
    _generator: np.random.Generator | None
    _weights: RunWeights
    _batches: Batches

    def save_checkpoint(self, path: str | PathLike[str]) -> None:
        """Write everything that the rest of the run depends on, atomically.

        Parameters
        ----------
        path : path
            An ``.npz`` file.

        Raises
        ------
        StateError
            The optimizer has no ``state`` to save, or the run draws from NumPy's global
            generator, whose state is not the Trainer's to keep.
        """
        if not hasattr(self.optimizer, "state"):
            raise StateError(
                f"save_checkpoint: {type(self.optimizer).__name__} has no state() to save"
            )
        if self._generator is None:
            raise StateError("save_checkpoint: only a Trainer with a seed can be continued exactly")
        arrays = self._weights.state()
        for key, value in self.optimizer.state().items():
            arrays[f"optimizer/{key}"] = value
        progress = {name: getattr(self, name) for name in PROGRESS}
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

    def load_checkpoint(self, path: str | PathLike[str]) -> None:
        """Go back to where `save_checkpoint` was called; `train` then continues from there.

        The weights at the end are those of the run that was not interrupted, bit for bit, on
        the same machine with the same backend and number of threads.

        Raises
        ------
        DataNotFound, DataCorrupt
            No such file, or not a checkpoint.
        WeightsError
            The checkpoint of another network, optimizer, kind of average or validation split,
            or with augmentation if this run has none, or the other way round.
        """
        if self._generator is None:
            raise StateError("load_checkpoint: only a Trainer with a seed can be continued exactly")
        arrays, metadata = load_arrays(path)
        if "progress" not in metadata or "generator" not in metadata:
            raise WeightsError(f"{path}: not a checkpoint of a Trainer")
        if metadata["optimizer"] != type(self.optimizer).__name__:
            raise WeightsError(
                f"{path}: a checkpoint of {metadata['optimizer']}, expected "
                f"{type(self.optimizer).__name__}"
            )
        batch_seed = self._batches.same_seed(metadata.get("batch_seed"), str(path))
        # Each of these takes everything or raises; the first try is on a copy, so that a
        # file refused by the second leaves nothing changed.
        state = under("optimizer/", arrays)
        self._load_optimizer(copy.copy(self.optimizer), state, path)
        self._weights.load_state(arrays, str(path))
        self._load_optimizer(self.optimizer, state, path)
        self._generator.bit_generator.state = metadata["generator"]
        self._batches.seed = batch_seed
        for name in PROGRESS:
            if name in metadata["progress"]:
                setattr(self, name, metadata["progress"][name])

    def _load_optimizer(self, optimizer: Any, state: Arrays, path: str | PathLike[str]) -> None:
        """Let an optimizer take its state; one of fastconv's, only what fits the network."""
        if not isinstance(optimizer, Optimizer):
            optimizer.load_state(state)
            return
        try:
            optimizer.load_state(state, parameters(self.network))
        except FastconvError as error:
            raise WeightsError(f"{path}: {error}") from error
