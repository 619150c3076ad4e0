"""What all layers share.

A layer is ``forward``, then ``backward``, with its state on itself. So a layer is for one thread
at a time, and copies, pickled or not, begin with a ``forward`` of their own.
"""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from ..errors import StateError
from ..ops.arrays import as_array, common_dtype, expect_shape

__all__ = ["Array", "Layer", "running_statistic"]

Array = NDArray[Any]


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
        Whether the parameters stay as they are; see `fastconv.network.Network.freeze`.
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
    _context: Any = None

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend
        self._context = None

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not what the last forward kept, which lies as kernels need it."""
        return vars(self) | {"_context": None}

    def forget(self) -> None:
        """Drop what the last forward kept."""
        self._context = None

    def _forward_context(self) -> Any:
        if self._context is None:
            raise StateError(f"{type(self).__name__}: backward was called before forward")
        return self._context


def running_statistic(op: str, layer: Layer, name: str, batch: Array) -> Array:
    """A layer's running statistic, once it is an array like that of a batch, or a number."""
    array = as_array(getattr(layer, name))
    common_dtype(op, array)
    if array.ndim:
        expect_shape(op, name, array, batch.shape)
    return array
