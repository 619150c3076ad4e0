"""Detached parameters: arrays that are trained although no layer computes with them any longer.

A network in the book's style names each array twice, in ``params`` and on a layer. Pickle and
`copy.deepcopy` copy such an array once; joblib and others make two arrays of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import StateError
from ..layers import Layer
from ..layers.tree import leaves
from .parameters import Parameters

__all__ = ["Detached", "layers_of"]


def layers_of(network: Any) -> list[Layer]:
    """The fastconv layers in a network's ``layers``, a list or a dict as in the book."""
    return [layer for _, layer in leaves(network) if isinstance(layer, Layer)]


@dataclass(frozen=True)
class _Pair:
    """A parameter, and a layer's array with the same values that is another object."""

    key: str
    layer: Layer
    name: str
    array: NDArray[Any]
    before: NDArray[Any]


class Detached:
    """Notices updates of a run that do not reach the layers.

    A network may give its layers new arrays in each ``gradient``. So there is an error only when
    an update has changed a parameter and the next gradient still used the old values.
    """

    def __init__(self) -> None:
        self._pairs: list[_Pair] = []
        self._handed_over = False

    def before_update(self, network: Any) -> None:
        """Check a network between its gradient and the update.

        Raises
        ------
        StateError
            The last update changed parameters, but not the arrays that the layers compute with.
        """
        for pair in self._pairs:
            same = getattr(pair.layer, pair.name) is pair.array
            changed = not np.array_equal(network.params[pair.key], pair.before)
            if same and changed and np.array_equal(pair.array, pair.before):
                raise StateError(
                    f"Trainer: params[{pair.key!r}] is trained, but {type(pair.layer).__name__} "
                    "computes with another array, which does not change; joblib and others copy "
                    "an array with two names as two, so after loading a network of your own class "
                    f"give its layers their arrays again: layer.{pair.name} = "
                    f"network.params[{pair.key!r}]"
                )
            self._handed_over = self._handed_over or changed
        self._pairs = [] if self._handed_over else _pairs(network)


def _pairs(network: Any) -> list[_Pair]:
    if isinstance(network.params, Parameters):
        return []
    places = [(layer, name) for layer in layers_of(network) for name in layer.parameter_names]
    arrays: list[tuple[Layer, str, Any]] = [(x, name, getattr(x, name, None)) for x, name in places]
    on_layers = {id(array) for *_, array in arrays}
    named = {id(value) for value in network.params.values()}
    loose = [
        place for place in arrays if isinstance(place[2], np.ndarray) and id(place[2]) not in named
    ]
    return [
        _Pair(key, layer, name, array, array.copy())
        for key, value in network.params.items()
        if isinstance(value, np.ndarray) and id(value) not in on_layers
        for layer, name, array in loose
        if array.shape == value.shape and np.array_equal(array, value)
    ]
