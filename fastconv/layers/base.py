"""What all layers share.

A layer's ``forward`` keeps on the layer what its ``backward`` needs. So one thread at a time may
use a layer, and a copy, pickled or not, begins with a ``forward`` of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import StateError
from ..ops.arrays import as_array, common_dtype, expect_shape

__all__ = [
    *("Array", "Layer", "buffer_names", "has_modes", "line", "made", "parameter_names"),
    "running_statistic",
]

Array = NDArray[Any]

TRANSIENT = ("_kept", "_lost", "_context")
"""Attributes that copies do not get. Pickles of earlier versions have the last one."""


BOOKS_PARAMETERS = ("W", "b", "gamma", "beta")
"""What the book's layers call their parameters."""

BOOKS_BUFFERS = ("running_mean", "running_var")
"""What its batch normalisation calls its statistics, of gamma's shape."""


def parameter_names(layer: Any) -> tuple[str, ...]:
    """The attributes that an optimizer trains.

    A layer in the book's style does not say; it has them by the book's names.
    """
    if hasattr(layer, "parameter_names"):
        return layer.parameter_names
    return tuple(
        name for name in BOOKS_PARAMETERS if isinstance(getattr(layer, name, None), np.ndarray)
    )


def buffer_names(layer: Any) -> tuple[str, ...]:
    """The attributes that are saved with the weights but not trained, likewise."""
    if hasattr(layer, "parameter_names"):
        return getattr(layer, "buffer_names", ())
    own = ("gamma", *BOOKS_BUFFERS)
    return BOOKS_BUFFERS if all(hasattr(layer, name) for name in own) else ()


def has_modes(layer: Any) -> bool:
    """Whether training and evaluation differ, so that `forward` takes ``train_flg``."""
    if hasattr(layer, "has_modes"):
        return layer.has_modes
    return "train_flg" in inspect.signature(layer.forward).parameters


def line(layer: Any) -> str:
    """A layer in one line: its class, the shapes of its parameters, settings unlike the default."""
    names = parameter_names(layer)
    words = [f"{name} {getattr(getattr(layer, name, None), 'shape', ())}" for name in names]
    for name, argument in inspect.signature(type(layer)).parameters.items():
        value = getattr(layer, name, None)
        if name not in names and isinstance(value, bool | int | float | str):
            words += [f"{name}={value}"] if value != argument.default else []
    return f"{type(layer).__name__}({', '.join(words)})"


class made:
    """An attribute that is computed each time it is read, unless it has been set.

    A property could not be set, and the book's layers set such attributes in `forward`.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.function(instance)


class Layer:
    """What the layers share.

    Attributes
    ----------
    backend : str or None
        Backend that this layer runs on; None follows the surrounding choice.
    parameter_names : tuple of str
        Attributes that an optimizer trains; the gradient of ``W`` is ``dW``. A layer without a
        bias has fewer than its class.
    buffer_names : tuple of str
        Attributes that are saved with the weights but not trained: statistics of the data.
    frozen : bool
        Whether the parameters stay as they are; see `fastconv.network.network.Network.freeze`.
    has_modes : bool
        Whether training and evaluation differ: `forward` takes ``train_flg``.
    stands_for : Layer or None
        The layer that this one replaces while a network evaluates.
    """

    parameter_names: tuple[str, ...] = ()
    buffer_names: ClassVar[tuple[str, ...]] = ()
    has_modes: ClassVar[bool] = False

    frozen: bool = False
    stands_for: Layer | None = None
    # On the class too: a subclass in the book's style calls no constructor but its own.
    backend: str | None = None
    _kept: tuple[int, Any] | None = None  # thread, 0 after its backward; and the context
    _lost: frozenset[int] = frozenset()  # threads whose context another thread has replaced

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend

    @property
    def _context(self) -> Any:
        """What the last forward kept for backward."""
        return None if self._kept is None else self._kept[1]

    @_context.setter
    def _context(self, context: Any) -> None:
        thread, before = get_ident(), self._kept
        if before is not None and before[0] not in (thread, 0):
            self._lost |= {before[0]}
        self._kept = None if context is None else (thread, context)
        if self._lost and context is not None:
            self._lost -= {thread}

    def __repr__(self) -> str:
        return line(self)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: not what the last forward kept, whose memory order kernels rely on."""
        return {k: value for k, value in vars(self).items() if k not in TRANSIENT}

    def forget(self) -> None:
        """Drop what the last forward kept."""
        self._context = None

    def _forward_context(self) -> Any:
        if self._kept is None:
            raise StateError(f"{type(self).__name__}: backward was called before forward")
        context = self._kept[1]
        if self._lost and get_ident() in self._lost:
            raise StateError(
                f"{type(self).__name__}: another thread has called forward since this one did, and "
                "a layer keeps one; give each thread a network of its own by copy.deepcopy"
            )
        self._kept = 0, context
        return context


def running_statistic(op: str, layer: Layer, name: str, batch: Array) -> Array:
    """A layer's running statistic, checked: a number, or an array of a batch's shape."""
    array = as_array(getattr(layer, name))
    common_dtype(op, array)
    if array.ndim:
        expect_shape(op, name, array, batch.shape)
    return array
