"""Layers as a network: forward, backward, parameters by name.

`Network` does what every network class of the book does by hand. A model builds the layers, in a
row or as a graph (`fastconv.layers.containers`); their places give the parameters their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import partial
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..console import html_table
from ..errors import ArgumentError, StateError, WeightsError
from ..io import save_params
from ..io.torch_names import by_own_names
from ..io.weights import load_for
from ..layers import Affine, SoftmaxWithLoss
from ..layers.base import buffer_names, line, parameter_names
from ..layers.containers import AuxiliaryHead, Container
from ..layers.tree import leaves, walk
from ..ops.arrays import as_array, expect_names, expect_numbers, network_dtype
from .exclusive import exclusively
from .executor import Executor
from .parameters import Parameters
from .predictor import Predictor
from .prepared import PreparedNetwork

__all__ = ["Network"]

Array = NDArray[Any]

INDEX = ("heads", "params", "_owners", "_buffers", "_params")
"""Attributes made from the layers. Pickles of earlier versions have `params` as one."""

TORCH_NAMES = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias"}
"""PyTorch's names of the parameters; those of running statistics are the same as ours."""


def _expect_layer(name: str, layer: Any) -> None:
    """Check that a network can run a layer, which may be of a class of the user's own.

    Raises
    ------
    ArgumentError
        A class, something without ``forward``, a loss, or a layer whose parameters are not found.
    """
    op, kind = f"Network: layer {name}", type(layer).__name__
    if isinstance(layer, type):
        raise ArgumentError(f"{op} is a class, expected a layer made of it: {layer.__name__}(...)")
    if not callable(getattr(layer, "forward", None)):
        raise ArgumentError(f"{op}, of the type {kind}, has no forward: {layer!r}")
    if isinstance(layer, SoftmaxWithLoss):
        raise ArgumentError(f"{op} is a {kind}: leave it out, a network ends with one of its own")
    if getattr(layer, "params", None) and not parameter_names(layer):
        raise ArgumentError(
            f"{op}, a {kind}, has its parameters in `params`, where they would not be trained: "
            "expected attributes W, b, gamma or beta, or those that its parameter_names lists"
        )


class Network(Predictor):
    """A network of layers that ends with softmax and cross-entropy.

    Parameters
    ----------
    layers : sequence of Layer, or mapping of str to Layer
        They run in this order; each may hold others (`Chain`, `Branches`, `Shortcut`,
        `AuxiliaryHead`). A class in the book's style, with ``forward`` and ``backward``, is a
        layer too. With a sequence, parameters are numbered as in the book; with a
        mapping, they are named as in PyTorch.
    dtype : float32 or float64
        Inputs are converted to it; the layers' parameters should have it.
    backend : str, optional
        Backend of every layer; None follows the surrounding choice.

    Attributes
    ----------
    layers : list of Layer
    params : dict of str to array
        The arrays that are trained. The layers hold them: ``params["W1"] = array`` and
        ``layer.W = array`` do the same (see `Parameters`). With a sequence of layers: ``W1``,
        ``b1`` of the first layer that has any, ``W2``, ``b2`` of the second, and so on. With a
        mapping: ``layer1.0.conv1.weight``, ``fc.bias``.
    spec : dict or None
        How `fastconv.models.make_model` makes this network; None for other networks.
    last_layer : SoftmaxWithLoss
        Its ``loss`` is the loss of the last forward in training, auxiliary heads included.

    Notes
    -----
    `copy.deepcopy` and pickles of any kind, joblib's included, make an independent network with
    the same weights and settings; what is frozen stays frozen. `copy.copy` makes a second network
    of the same layers: what one learns, both have learned.

    Any number of threads may call `predict` and `accuracy` at once: these leave fastconv's layers
    as they are (layers of a class of the user's own run themselves). `gradient`, `loss` and a
    forward in training keep their state on the layers, so one thread at a time may call them: a
    second thread gets a `StateError`, and needs a copy. A prediction during another thread's
    training may use some weights that are a step older than others.
    """

    def __init__(
        self,
        layers: Sequence[Any] | Mapping[str, Any],
        dtype: DTypeLike = "float32",
        backend: str | None = None,
    ) -> None:
        if not isinstance(layers, Iterable) or isinstance(layers, str):
            raise ArgumentError(f"Network: expected layers in a list or a dict, got {layers!r}")
        self.dotted = isinstance(layers, Mapping)
        named = layers if isinstance(layers, Mapping) else dict(enumerate(layers))
        self.layers = list(named.values())
        self.last_layer = SoftmaxWithLoss()
        self.dtype = network_dtype(dtype)
        self.spec: dict[str, Any] | None = None
        self._executor = Executor()
        self._leaves = dict(leaves(named))
        for name, leaf in self._leaves.items():
            _expect_layer(name, leaf)
        self._index()
        self.backend = backend

    def _index(self) -> None:
        """Find heads, parameters and buffers in the layers."""
        inside = [layer for _, layer in walk(self, Container)]
        self.heads = [layer for layer in inside if type(layer) is AuxiliaryHead]
        self._owners = dict(self._named(parameter_names))
        self._buffers = dict(self._named(buffer_names))
        self._params = Parameters(self._owners)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets; `_index` finds the rest again."""
        state = {key: value for key, value in vars(self).items() if key not in INDEX}
        places: dict[int, list[str]] = {}
        for key, (layer, name) in self._owners.items():
            places.setdefault(id(getattr(layer, name)), []).append(key)
        return state | {"_tied": [keys for keys in places.values() if len(keys) > 1]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy, in which layers that shared an array share one again."""
        tied = state.get("_tied", ())
        vars(self).update({k: v for k, v in state.items() if k not in (*INDEX, "_tied", "_plan")})
        self._executor = state["_plan" if "_plan" in state else "_executor"]  # by its earlier name
        self._index()
        for first, *others in tied:
            layer, name = self._owners[first]
            for key in others:
                setattr(*self._owners[key], getattr(layer, name))

    def __repr__(self) -> str:
        words = [] if self.spec is None else [self.spec["name"]]
        words.append(f"{len(self._leaves)} layer{'s' * (len(self._leaves) != 1)}")
        words.append(f"{sum(map(np.size, self.params.values())):,} parameters")
        if frozen := sum(map(np.size, self.frozen_params.values())):
            words.append(f"{frozen:,} frozen")
        words += [self.dtype.name] if self.backend is None else [self.dtype.name, self.backend]
        return f"{type(self).__name__}({', '.join(words)})"

    def _repr_html_(self) -> str:
        """The layers as a table, for a notebook."""
        rows = [
            (name, line(leaf), f"{size:,}" if size else "")
            for name, leaf in self.named_layers()
            for size in [sum(np.size(getattr(leaf, each)) for each in parameter_names(leaf))]
        ]
        return html_table(repr(self), ("name", "layer", "parameters"), rows)

    @property
    def params(self) -> dict[str, Array]:
        """The arrays that are trained, by name; assigning copies values, as `set_params` does."""
        return self._params

    @params.setter
    def params(self, params: Mapping[str, Array]) -> None:
        self.set_params({**self.frozen_params, **params})

    def named_layers(self) -> Iterator[tuple[str, Any]]:
        """Every layer that is not a container, with its dotted name, in the order they run."""
        return iter(self._leaves.items())

    def named_arrays(self) -> Iterator[tuple[str, Any, str]]:
        """Every parameter and buffer: its name, the layer that has it, and the attribute."""
        for key, (layer, name) in (self._owners | self._buffers).items():
            yield key, layer, name

    def _named(
        self, names_of: Callable[[Any], tuple[str, ...]]
    ) -> Iterator[tuple[str, tuple[Any, str]]]:
        """Each array of a kind: its name, and the layer and the attribute that hold it."""
        number = 0
        for path, layer in self._leaves.items():
            number += bool(parameter_names(layer))
            for name in names_of(layer):
                key = f"{path}.{TORCH_NAMES.get(name, name)}" if self.dotted else f"{name}{number}"
                yield key, (layer, name)

    @property
    def backend(self) -> str | None:
        """Backend of all layers; None follows the surrounding choice."""
        return self._backend

    @backend.setter
    def backend(self, name: str | None) -> None:
        self._backend = name
        inside = [layer for _, layer in walk(self, Container)]
        for layer in [*inside, *(head.last_layer for head in self.heads), self.last_layer]:
            layer.backend = name

    def predict(self, x: ArrayLike, train_flg: bool = False) -> Array:
        """Return the scores (N, classes), before softmax, of inputs (N, ...)."""
        out = as_array(x)
        if out.dtype.kind in "fiub":
            out = out.astype(self.dtype, copy=False)
        if not train_flg:
            return self._executor.forward(self.layers, out, False)
        with self._training("predict(train_flg=True)"):
            return self._executor.forward(self.layers, out, True)

    def prepare(
        self,
        input_shape: Sequence[int],
        *,
        copy: bool = True,
        algorithms: Literal["rule", "measured"] = "rule",
    ) -> PreparedNetwork:
        """Return a snapshot of the network that only predicts, with everything prepared for that.

        Parameters
        ----------
        input_shape : tuple of int
            The largest batch size, then one image's shape: ``(1, 1, 28, 28)`` for single images.
        copy : bool
            False saves the memory of a second set of weights; then the network must not be used
            any longer: a prediction may or may not see changes to it.
        algorithms : {"rule", "measured"}
            What chooses the algorithms of convolutions: the rule by their shape, or the time that
            each takes here. Measuring takes a second or more, for each batch size. Its results
            are kept in the cache folder, for this CPU, and not measured again. A forced algorithm
            (`config.set_conv_algorithm`) goes before both.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import DeepConvNet
        >>> prepared = DeepConvNet(seed=0).prepare((1, 1, 28, 28))
        >>> prepared.predict(np.zeros((1, 1, 28, 28))).shape
        (1, 10)
        """
        return PreparedNetwork(partial(self._snapshot, copy), input_shape, self.dtype, algorithms)

    def _snapshot(self, copy: bool) -> tuple[list[Any], list[str]]:
        """The layers or a copy of them, without gradients, and the names of the leaves."""
        known = {id(leaf): name for name, leaf in self._leaves.items()}
        names = [known.get(id(leaf), place) for place, leaf in leaves(self.layers)]
        layers = deepcopy(self.layers) if copy else list(self.layers)
        for _, leaf in leaves(layers):
            for name in parameter_names(leaf):
                setattr(leaf, f"d{name}", None)
        return layers, names

    def loss(self, x: ArrayLike, t: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the mean cross-entropy of a forward pass in training mode.

        Parameters
        ----------
        x : array (N, ...)
        t : array
            Class indices (N,) or one-hot (N, classes).
        sample_weight : array (N,), optional
            Makes it the weighted mean.
        """
        weights = _given(sample_weight=sample_weight)
        with self._training("loss"):
            loss = self.last_layer.forward(self.predict(x, train_flg=True), t, **weights)
            for head in self.heads:
                head.last_layer.label_smoothing = self.last_layer.label_smoothing
                loss += head.loss(t, **weights)
            self.last_layer.loss = loss
            return loss

    def gradient(
        self, x: ArrayLike, t: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> dict[str, Array]:
        """Return the gradient of `loss` by the names of `params`; see `last_layer.loss`."""
        with self._training("gradient"):
            self.loss(x, t, **_given(sample_weight=sample_weight))
            self._executor.backward(self.last_layer.backward(1))
            return {
                key: _gradient_of(layer, name)
                for key, (layer, name) in self._owners.items()
                if not getattr(layer, "frozen", False)
            }

    @contextmanager
    def _training(self, op: str) -> Iterator[None]:
        """Keep other threads from training these layers, also through another network."""
        if self._executor.in_step():  # `gradient` calls `loss`, and that `predict`
            yield
            return
        layers = [*self._leaves.values(), self.last_layer]
        with exclusively(f"{type(self).__name__}.{op}", layers), self._executor.step():
            yield

    def freeze(self, *patterns: str) -> list[str]:
        """Freeze the layers that these patterns match, and unfreeze all others.

        A layer is frozen as a whole: its parameters leave `params` and get no gradient, and
        batch normalisation uses its running statistics. The layers before the first that trains
        cost no more than in a prediction.

        Parameters
        ----------
        *patterns : str
            `fnmatch` patterns of layers (``features.*``) or parameters (``W[1-4]``).

        Returns
        -------
        list of str
            Names of all frozen parameters.

        Raises
        ------
        ArgumentError
            A pattern that matches nothing.
        """
        chosen = set()
        for pattern in patterns:
            found = {
                id(layer)
                for key, (layer, _) in self._owners.items()
                if fnmatchcase(key, pattern) or fnmatchcase(key.rpartition(".")[0], pattern)
            }
            if not found:
                raise ArgumentError(
                    f"freeze: {pattern!r} matches none of {', '.join(self._owners)}"
                )
            chosen |= found
        for layer, _ in self._owners.values():
            layer.frozen = id(layer) in chosen
        return [key for key in self._owners if key not in self.params]

    @property
    def frozen_params(self) -> dict[str, Array]:
        """The parameters of frozen layers, which `params` leaves out."""
        return {
            key: getattr(layer, name)
            for key, (layer, name) in self._owners.items()
            if getattr(layer, "frozen", False)
        }

    @property
    def buffers(self) -> dict[str, Array]:
        """Arrays that are saved with the weights but not trained: running statistics."""
        found = {key: getattr(layer, name) for key, (layer, name) in self._buffers.items()}
        return {key: np.asarray(value) for key, value in found.items() if value is not None}

    def state(self) -> dict[str, Array]:
        """Return what a file of weights holds: parameters, frozen ones too, and `buffers`.

        With dotted names, matrices of affine layers are (M, D), as in PyTorch, so that the file
        fits the same network there.
        """
        params = {key: getattr(layer, name) for key, (layer, name) in self._owners.items()}
        turned = {key: value.T if self._turned(key) else value for key, value in params.items()}
        return turned | self.buffers

    def _turned(self, key: str) -> bool:
        """Whether files hold this parameter transposed."""
        return self.dotted and isinstance(self._owners[key][0], Affine) and key.endswith("weight")

    def save_params(self, file_name: str | PathLike[str], *, allow_pickle: bool = False) -> None:
        """Write `state` to a ``.npz`` or ``.safetensors`` file.

        With `allow_pickle`, also to a ``.pkl`` file, which the book's networks read.
        """
        save_params(file_name, self.state(), allow_pickle=allow_pickle)

    def load_params(self, file_name: str | PathLike[str]) -> None:
        """Read a file that `save_params` wrote, or PyTorch or Keras for the same network.

        It is a ``.npz``, a ``.safetensors``, a ``.pkl`` of the book's, or a ``.weights.h5`` or
        ``.keras`` of Keras 3 (see `fastconv.io.from_keras`). Reading runs no code.

        Raises
        ------
        DataNotFound, DataCorrupt, UnsafePickle
            There is no such file, or it holds something other than arrays.
        ArgumentError
            Another ending; of Keras's files, something that they do not tell.
        WeightsError
            The arrays are of another architecture; the network stays as it was.
        """
        self.set_state(load_for(file_name, self), source=str(file_name), copy=False)

    def set_state(
        self, state: Mapping[str, Array], source: str = "state", *, copy: bool = True
    ) -> None:
        """Set parameters and `buffers` from what `state` returns, all of them or none.

        With ``copy=False`` the network may take the arrays themselves, which must not be used for
        anything else then.

        Older files have no running statistics: the network's own stay. Prefixes that PyTorch's
        wrappers add to names (``module.``, ``_orig_mod.``) are ignored.

        Raises
        ------
        WeightsError
            Names or shapes differ from the network's own.
        """
        state = by_own_names(state, {*self._owners, *self._buffers})
        given = {
            key: _numbers(source, key, value)
            for key, value in state.items()
            if not (self.dotted and key.endswith("num_batches_tracked"))  # PyTorch counts batches
        }
        own = self._buffers
        buffers = {key: given.pop(key) for key in list(given) if key in own}
        for key, (layer, _) in own.items():
            shape = np.shape(layer.gamma)
            if key in buffers and buffers[key].shape != shape:
                raise WeightsError(
                    f"{source}: {key} has shape {buffers[key].shape}, expected {shape}"
                )
            if self.dotted and key not in buffers:
                raise WeightsError(f"{source}: weights of another architecture: missing {key}")
        turned = {
            key: value.T if key in self._owners and self._turned(key) else value
            for key, value in given.items()
        }
        self.set_params(turned, source, copy=copy)
        for key, value in buffers.items():
            layer, name = own[key]
            setattr(layer, name, np.array(value, self.dtype))

    def set_params(
        self, params: dict[str, Array], source: str = "params", *, copy: bool = True
    ) -> None:
        """Copy values into the network's parameters, frozen ones too, all of them or none.

        With ``copy=False`` as in `set_state`.

        Raises
        ------
        WeightsError
            Names or shapes differ from the network's own.
        """
        expect_names(f"{source}: weights of another architecture", self._owners, params)
        params = {key: _numbers(source, key, value) for key, value in params.items()}
        for key, (layer, name) in self._owners.items():
            expected = getattr(layer, name).shape
            if params[key].shape != expected:
                raise WeightsError(
                    f"{source}: {key} has shape {params[key].shape}, expected {expected}"
                )
        taken: set[int] = set()
        for key, (layer, name) in self._owners.items():
            value = params[key]
            if copy or not _may_be_taken(value, self.dtype) or id(value) in taken:
                value = np.array(value, self.dtype, order="C")
            taken.add(id(value))
            setattr(layer, name, value)


def _gradient_of(layer: Any, name: str) -> Any:
    """What a layer's backward has left for a parameter."""
    gradient = getattr(layer, f"d{name}", None)
    if gradient is None and getattr(layer, name) is not None:
        raise StateError(
            f"{type(layer).__name__}: backward has set no d{name}, the gradient of its parameter "
            f"{name}; a layer without `parameter_names` trains its arrays W, b, gamma and beta"
        )
    return gradient


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None: a user's own loss or method may have no others."""
    return {name: value for name, value in options.items() if value is not None}


def _may_be_taken(value: Array, dtype: np.dtype[Any]) -> bool:
    """Whether this is as an array that a network makes for itself."""
    flags = value.flags
    whole = flags.owndata and flags.c_contiguous and flags.aligned and flags.writeable
    return bool(type(value) is np.ndarray and value.dtype == dtype and whole)


def _numbers(source: str, name: str, value: ArrayLike) -> Array:
    """Return an array of real numbers, or raise `WeightsError`."""
    array = as_array(value)
    expect_numbers(f"{source}: {name}", array)
    return array
