"""A list of layers as a network: forward, backward, parameters by name.

`Network` does what every network class of the book does by hand. A model builds
the list; names and numbers of the parameters follow from it.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import ArgumentError, WeightsError
from .io import load_params, save_params
from .layers import SoftmaxWithLoss
from .ops import class_indices
from .ops.arrays import as_array
from .plan import Plan

__all__ = ["Network", "network_dtype"]

Array = NDArray[Any]


def network_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype` as float32 or float64, the types that a network can be built in."""
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        resolved = np.dtype(object)
    if resolved not in (np.float32, np.float64):
        raise ArgumentError(f"dtype must be float32 or float64, got {dtype!r}")
    return resolved


class Network:
    """Layers in a row, ended by softmax with loss.

    Parameters
    ----------
    layers : list of Layer
        Run in this order.
    dtype : float32 or float64
        Inputs are brought to it; the layers' parameters should have it.
    backend : str, optional
        Runs every layer on this backend; None follows the surrounding choice.

    Attributes
    ----------
    params : dict of str to array
        The trained arrays, shared with the layers: ``W1``, ``b1`` of the first layer
        that has any, ``W2``, ``b2`` of the second, and so on.
    last_layer : SoftmaxWithLoss
    """

    def __init__(
        self, layers: list[Any], dtype: DTypeLike = "float32", backend: str | None = None
    ) -> None:
        self.layers = layers
        self.last_layer = SoftmaxWithLoss()
        self.dtype = network_dtype(dtype)
        self.backend = backend
        self._plan = Plan()
        trained = [layer for layer in layers if layer.parameter_names]
        self._owners = {
            f"{name}{number}": (layer, name)
            for number, layer in enumerate(trained, start=1)
            for name in layer.parameter_names
        }
        self.params: dict[str, Array] = {
            key: getattr(layer, name) for key, (layer, name) in self._owners.items()
        }

    @property
    def backend(self) -> str | None:
        """Backend of all layers; None follows the surrounding choice."""
        return self._backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        self._backend = name
        for layer in [*self.layers, self.last_layer]:
            layer.backend = name

    def predict(self, x: ArrayLike, train_flg: bool = False) -> Array:
        """Return the scores (N, classes), before softmax, of inputs (N, ...)."""
        out = as_array(x)
        if out.dtype.kind in "fiub":
            out = out.astype(self.dtype, copy=False)
        return self._plan.forward(self.layers, out, train_flg)

    def loss(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the mean cross-entropy of a forward pass in training mode.

        Parameters
        ----------
        x : array (N, ...)
        t : array
            Class indices (N,) or one-hot (N, classes).
        """
        return self.last_layer.forward(self.predict(x, train_flg=True), t)

    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of `loss` under the names of `params`; `last_layer.loss` keeps it."""
        self.loss(x, t)
        self._plan.backward(self.last_layer.backward(1))
        return {key: getattr(layer, "d" + name) for key, (layer, name) in self._owners.items()}

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
        if batch_size < 1:
            raise ArgumentError(f"accuracy: batch_size must be at least 1, got {batch_size}")
        correct = 0
        for start in range(0, len(x), batch_size):
            scores = self.predict(x[start : start + batch_size])
            labels = class_indices("accuracy", t[start : start + batch_size], scores.shape)
            correct += int(np.sum(scores.argmax(axis=1) == labels))
        return correct / len(x) if len(x) else float("nan")

    def save_params(self, file_name: str | PathLike[str], *, allow_pickle: bool = False) -> None:
        """Write `params` to a file that ends in ``.npz`` or ``.safetensors``.

        With `allow_pickle`, also in ``.pkl``, which the book's networks read.
        """
        save_params(file_name, self.params, allow_pickle=allow_pickle)

    def load_params(self, file_name: str | PathLike[str]) -> None:
        """Read `params` from a ``.npz``, a ``.safetensors``, or a ``.pkl`` of the book's.

        None of them runs code.

        Raises
        ------
        DataNotFound, DataCorrupt, UnsafePickle
            No such file, or not one that holds arrays and nothing else.
        WeightsError
            Arrays of another architecture; the network stays as it was.
        """
        self.set_params(load_params(file_name), source=str(file_name))

    def set_params(self, params: dict[str, Array], source: str = "params") -> None:
        """Copy values into the network's parameters, all of them or none.

        Raises
        ------
        WeightsError
            Names or shapes differ from the network's own.
        """
        missing = [key for key in self.params if key not in params]
        extra = [key for key in params if key not in self.params]
        if missing or extra:
            raise WeightsError(
                f"{source}: weights of another architecture: "
                f"missing {', '.join(missing) or 'none'}; unknown {', '.join(extra) or 'none'}"
            )
        for key, own in self.params.items():
            if params[key].shape != own.shape:
                raise WeightsError(
                    f"{source}: {key} has shape {params[key].shape}, expected {own.shape}"
                )
        for key, (layer, name) in self._owners.items():
            self.params[key] = np.array(params[key], self.dtype)
            setattr(layer, name, self.params[key])
