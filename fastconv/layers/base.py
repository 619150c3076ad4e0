"""What all layers share.

A layer is ``forward``, then ``backward``, with its state on itself. So a layer is for one thread
at a time, and copies, pickled or not, begin with a ``forward`` of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any, ClassVar

from numpy.typing import NDArray

from ..errors import StateError
from ..ops.arrays import as_array, common_dtype, expect_shape

__all__ = ["Array", "Layer", "made", "running_statistic"]

Array = NDArray[Any]

TRANSIENT = ("_kept", "_lost", "_context")
"""Attributes that no copy takes over; the last is one in pickles of earlier versions."""


class made:
    """An attribute that is computed at each look, where a subclass has not set one of its own.

    A property would refuse to be set, and the book's layers set such attributes in `forward`.
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
        Attributes that an optimizer trains; the gradient of ``W`` is ``dW``. Of a layer
        without a bias it is shorter than of its class.
    buffer_names : tuple of str
        Attributes that are kept with the weights, but not trained: statistics of the data.
    frozen : bool
        Whether the parameters stay as they are; see `fastconv.network.network.Network.freeze`.
    has_modes : bool
        Whether training and evaluation differ: `forward` takes ``train_flg``.
    stands_for : Layer or None
        The layer in whose place this one runs, in a network's evaluation.
    """

    parameter_names: tuple[str, ...] = ()
    buffer_names: ClassVar[tuple[str, ...]] = ()
    has_modes: ClassVar[bool] = False

    frozen: bool = False
    stands_for: Layer | None = None
    # On the class too: a subclass in the book's style calls no constructor but its own.
    backend: str | None = None
    _kept: tuple[int, Any] | None = None  # by which thread, 0 once its backward has come
    _lost: frozenset[int] = frozenset()  # threads whose forward another's came after

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

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not what the last forward kept, which lies as kernels need it."""
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
    """A layer's running statistic, once it is an array like that of a batch, or a number."""
    array = as_array(getattr(layer, name))
    common_dtype(op, array)
    if array.ndim:
        expect_shape(op, name, array, batch.shape)
    return array
