"""Networks that only predict: everything that does not depend on the images is done beforehand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import config
from ..errors import ArgumentError, ShapeError, suggestion
from ..geometry import as_int
from ..ops.arrays import as_array, common_dtype
from .description import Description
from .predictor import Predictor
from .program import Program

__all__ = ["CHOOSERS", "PreparedNetwork"]

Array = NDArray[Any]

CHOOSERS = ("rule", "measured")
"""What may choose the algorithms of convolutions."""

KEPT = 8
"""Batch sizes whose programs are kept."""


class PreparedNetwork(Predictor):
    """A network's predictions on batches of images of one shape, several times as fast for one.

    `Network.prepare` makes it. Batch normalisation is folded into the convolutions, filters are
    transformed and packed, constants are computed, memory is laid out, and a backend that can
    runs the whole network in one call. What comes out is what `Network.predict` gives, bit for bit,
    if it computes by the same algorithms: on a few images some pay only here, where filters are
    transformed once, or are measured to be faster.

    Parameters
    ----------
    snapshot : callable
        Returns a copy of the layers as they are, and the names of their leaves.
    input_shape : tuple of int
        The largest batch first: ``(100, 1, 28, 28)`` takes 1 to 100 images.
    dtype : float32 or float64
    algorithms : {"rule", "measured"}
        As for `Network.prepare`.

    Attributes
    ----------
    input_shape : tuple of int
    dtype : dtype
        Inputs are converted to it.
    algorithms : str

    Notes
    -----
    It is a snapshot: later changes of the network's weights or layers do not reach it before
    `refresh`. Each batch size is prepared when it is first seen; the last 8 sizes are kept. Where
    threads, math mode or backend change, it is prepared anew.

    Any number of threads may predict at once; each that does at the same time as others takes
    memory of its own. A layer of a class of the user's own runs in Python, between the calls of the
    backend; `parts` says so, and `description`, which shows every step, as text a table.

    Raises
    ------
    ArgumentError
        An input shape that is none, or another word for `algorithms`.
    """

    def __init__(
        self,
        snapshot: Callable[[], tuple[list[Any], list[str]]],
        input_shape: Sequence[int],
        dtype: DTypeLike,
        algorithms: str = "rule",
    ) -> None:
        try:
            shape = tuple(input_shape)
        except TypeError:
            shape = ()
        if len(shape) < 2:
            raise ArgumentError(
                f"prepare: expected an input shape, the largest batch first, got {input_shape!r}"
            )
        if algorithms not in CHOOSERS:
            raise ArgumentError(
                f"prepare: algorithms must be one of {', '.join(CHOOSERS)}, got {algorithms!r}"
                f"{suggestion(algorithms, CHOOSERS)}"
            )
        self.algorithms = algorithms
        self.input_shape = tuple(as_int("prepare", "input_shape", axis, 1) for axis in shape)
        self.dtype = np.dtype(dtype)
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self.refresh()

    def refresh(self) -> None:
        """Take the network's layers and weights as they are now.

        Predictions of other threads that are under way end with what they began with.
        """
        version = config.Process.version
        layers, names = self._snapshot()
        programs: OrderedDict[Any, list[Program]] = OrderedDict()
        n = self.input_shape[0]
        first = self._program(layers, self.input_shape, names)
        programs[n, config.context_backend.get()] = [first]
        with self._lock:
            self._layers = layers, names
            self._programs = programs
            self._version = version

    def __repr__(self) -> str:
        most, *one = self.input_shape
        return (
            f"<PreparedNetwork for 1 to {most} x {' x '.join(map(str, one))}, {self.dtype}; "
            f"{', '.join(self.parts)}>"
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """What runs for the largest batch: a backend with the number of its calls, or a layer."""
        return self._largest().parts

    @property
    def description(self) -> Description:
        """Each step for the largest batch, with its algorithm, and the memory of all."""
        return self._largest().description

    def _largest(self) -> Program:
        program, idle = self._take(self.input_shape[0])
        idle.append(program)
        return program

    def predict(self, x: ArrayLike, train_flg: bool = False) -> Array:
        """Return the scores (N, classes), before softmax, of inputs (N, ...).

        Raises
        ------
        ShapeError
            Inputs of another shape than prepared for, or more than the largest batch.
        ArgumentError
            `train_flg`: a prepared network does not train.
        """
        x = as_array(x)
        if train_flg:
            raise ArgumentError("predict: a prepared network does not train; use the network")
        most, one = self.input_shape[0], self.input_shape[1:]
        if x.ndim == 0 or x.shape[1:] != one or len(x) > most:
            raise ShapeError(
                f"predict: prepared for inputs of shape (1 to {most}, "
                f"{', '.join(map(str, one))}), got {x.shape}"
            )
        if x.dtype != self.dtype:
            common_dtype("predict", x)
        program, idle = self._take(len(x))
        try:
            program.x[...] = x
            program.run()
            return program.out.copy()
        finally:
            idle.append(program)

    def accuracy(self, x: ArrayLike, t: ArrayLike, batch_size: int | None = None) -> float:
        """Return the share of correct predictions, in batches of the largest size by default."""
        most = self.input_shape[0]
        return super().accuracy(x, t, most if batch_size is None else min(batch_size, most))

    def _take(self, n: int) -> tuple[Program, list[Program]]:
        """A program for so many inputs, which no other thread uses, and where it goes back to."""
        key = n, config.context_backend.get()
        with self._lock:
            if self._version != config.Process.version:
                self._programs.clear()
                self._version = config.Process.version
            layers, names = self._layers
            idle = self._programs.setdefault(key, [])
            self._programs.move_to_end(key)
            while len(self._programs) > KEPT:
                self._programs.popitem(last=False)
            if idle:
                return idle.pop(), idle
        return self._program(layers, (n, *self.input_shape[1:]), names), idle

    def _program(self, layers: list[Any], shape: tuple[int, ...], names: list[str]) -> Program:
        return Program(layers, shape, self.dtype, names, self.algorithms)
