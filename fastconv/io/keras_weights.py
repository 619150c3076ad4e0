"""Weights from files of Keras 3, for networks of the same architecture.

Such a file numbers layers by class and does not say how they are connected. So the k-th convolution
of the file is for the k-th of a network that is a single row of layers, and likewise matrices and
batch normalisations; where there are branches, layers are found by the model's names for them.

Keras's filters are (FH, FW, C, FN), here (FN, C, FH, FW). Its images end with the channels, so a
matrix behind images has its rows in the order H, W, C, here C, H, W. Its Dropout scales in
training, and its batch normalisation has another epsilon than most: both are moved into the
weights, so that predictions are Keras's.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .. import ops
from ..errors import ArgumentError, WeightsError
from ..geometry import (
    LARGEST,
    NO_PADS,
    WindowGeometry,
    as_int,
    both_ways,
    shown_pads,
    span,
    window_geometry,
)
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Pooling,
    Subsampling,
)
from ..layers.base import Array, buffer_names, line, parameter_names
from ..layers.containers import AuxiliaryHead, Branches, Shortcut, run_layer
from ..layers.tree import LayerPath, Tracer, walk
from .dropout_scale import rescale
from .keras_file import KerasFile, KerasLayer, read_keras

__all__ = ["from_keras", "keras_state"]

Pair = tuple[str, Any, KerasLayer]
"""A layer's name in the network, the layer, and the file's."""


def from_keras(
    path: str | PathLike[str],
    network: Any,
    *,
    input_shape: Sequence[int] | None = None,
    epsilon: float | None = None,
    order: Sequence[str] | None = None,
) -> dict[str, Array]:
    """Return the weights of a Keras model as `Network.set_state` takes them.

    Parameters
    ----------
    path : path
        A ``.weights.h5`` of ``model.save_weights``, or a ``.keras`` of ``model.save``, of Keras 3.
        Reading it runs no code.
    network : Network
        The same architecture, with images as (C, H, W). The names of its layers, if the model's
        layers have them too (``layer1.0.conv1`` or ``layer1_0_conv1``), say which is which. Else
        convolutions, matrices and batch normalisations are paired in the order in which they
        run, each class by itself, which needs a network without branches.
    input_shape : (C, H, W), optional
        The shape of an image, for the first matrix behind images. By default that of a ``.keras``
        file, or that with which `make_model` made the network; without need where
        `AdaptiveAveragePooling` stands before the matrix.
    epsilon : float, optional
        That of the model's batch normalisations, which only a ``.keras`` file tells; Keras's
        default is 1e-3. The difference from the network's own goes into the running variance.
    order : sequence of str, optional
        Of the model's layers that have weights, the names, in the order of the network's layers.

    Returns
    -------
    dict of str to array
        By the names of `network.state()`.

    Raises
    ------
    WeightsError
        Layers that only one of them has, or that cannot be told apart; shapes that differ; in a
        ``.keras`` file, windows that are others than the network's.
    ArgumentError
        Another ending; an `input_shape` or `epsilon` that is needed or does not fit; an `order`
        of other names; a Dropout whose scaling cannot be moved into the weights.
    DataNotFound, DataCorrupt
        There is no such file; it is damaged, or not of Keras 3.

    Examples
    --------
    >>> network.set_state(from_keras("model.weights.h5", network))  # doctest: +SKIP
    """
    state, pairs = _state(path, network, input_shape, epsilon, order)
    wrong = []
    theirs = {id(layer): found for _, layer, found in pairs}
    for key, layer, attribute in network.named_arrays():
        got, expected = state[key].shape, _shape(network, layer, attribute)
        if got != expected:
            wrong.append(f"{theirs[id(layer)]} gives {key} the shape {got}, expected {expected}")
    if wrong:
        raise WeightsError(f"{path}: weights of another architecture: {'; '.join(wrong)}")
    if not network.dotted:
        rescale(state, network, remedy="give it inverted=True, which scales as Keras's")
    return state


def keras_state(path: str | PathLike[str], network: Any) -> dict[str, Array]:
    """What `from_keras` returns, but arrays may have other shapes than the network's."""
    return _state(path, network, None, None, None)[0]


def _state(
    path: str | PathLike[str],
    network: Any,
    input_shape: Sequence[int] | None,
    epsilon: float | None,
    order: Sequence[str] | None,
) -> tuple[dict[str, Array], list[Pair]]:
    path = Path(path)
    leaves = list(network.named_layers())
    if network.dotted and any(isinstance(x, Dropout) and not x.inverted for _, x in leaves):
        raise ArgumentError(
            "from_keras: the network has a Dropout that scales as the book's does; give it "
            "inverted=True, which scales as Keras's"
        )
    file = read_keras(path)
    pairs = _paired(str(path), network, file.layers, order)
    images = _Images(network, _image(network, file, input_shape))
    _expect_settings(str(path), pairs, file, images)
    arrays = {
        (id(layer), attribute): array
        for name, layer, theirs in pairs
        for attribute, array in _arrays(path, name, layer, theirs, images, file, epsilon).items()
    }
    return {
        key: arrays[id(layer), attribute].T
        if network.dotted and isinstance(layer, Affine) and attribute == "W"
        else arrays[id(layer), attribute]
        for key, layer, attribute in network.named_arrays()
    }, pairs


def _shape(network: Any, layer: Any, attribute: str) -> tuple[int, ...]:
    """The shape that `network.state` gives an array."""
    if attribute in buffer_names(layer):
        return np.shape(layer.gamma)
    shape = np.shape(getattr(layer, attribute))
    return shape[::-1] if network.dotted and isinstance(layer, Affine) else shape


# ---- which layer is which ---------------------------------------------------------------


def _paired(
    source: str, network: Any, theirs: list[KerasLayer], order: Sequence[str] | None
) -> list[Pair]:
    """Each layer of the network that has weights, with the file's."""
    own = [(name, layer) for name, layer in network.named_layers() if parameter_names(layer)]
    if order is not None:
        pairs = _in_order(own, theirs, order)
    elif {_plain(name) for name, _ in own} == {_plain(layer.name) for layer in theirs}:
        called = {_plain(layer.name): layer for layer in theirs}
        pairs = [(name, layer, called[_plain(name)]) for name, layer in own]
    else:
        _expect_row(source, network, own, theirs)
        pairs = _by_number(source, own, theirs)
    if wrong := [
        f"{name} is a {type(layer).__name__}, got {other}"
        for name, layer, other in pairs
        if other.kind not in _kinds(layer)
    ]:
        raise WeightsError(f"{source}: weights of another architecture: {'; '.join(wrong)}")
    return pairs


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _kinds(layer: Any) -> tuple[str, ...]:
    """What Keras may call a layer's class."""
    if isinstance(layer, Convolution):
        depthwise = layer.groups > 1 and layer.W.shape[1] == 1
        return ("depthwise_conv2d", "conv2d") if depthwise else ("conv2d",)
    if isinstance(layer, Affine):
        return ("dense",)
    if isinstance(layer, BatchNormalization | BatchNormalization2d):
        return ("batch_normalization",)
    return ()


def _in_order(
    own: list[tuple[str, Any]], theirs: list[KerasLayer], order: Sequence[str]
) -> list[Pair]:
    named = {layer.name: layer for layer in theirs}
    if sorted(order) != sorted(named) or len(order) != len(own) or len(theirs) != len(own):
        raise ArgumentError(
            f"from_keras: order has {len(order)} names, {', '.join(order)}; expected the model's "
            f"layers that have weights ({', '.join(named)}), in the order of the network's "
            f"({', '.join(name for name, _ in own)})"
        )
    return [(name, layer, named[key]) for (name, layer), key in zip(own, order, strict=True)]


def _expect_row(
    source: str, network: Any, own: list[tuple[str, Any]], theirs: list[KerasLayer]
) -> None:
    """Raise `WeightsError` if layers run beside each other: Keras's numbers do not tell them."""
    if any(isinstance(layer, Branches | Shortcut | AuxiliaryHead) for _, layer in walk(network)):
        raise WeightsError(
            f"{source}: the network has branches, in which Keras's numbers do not say which layer "
            f"is which: name the model's layers as here ({_few(name for name, _ in own)}), or pass "
            f"order= to from_keras; the file's are called {_few(layer.name for layer in theirs)}"
        )


def _few(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _by_number(source: str, own: list[tuple[str, Any]], theirs: list[KerasLayer]) -> list[Pair]:
    left: dict[str, list[KerasLayer]] = {}
    for layer in theirs:
        left.setdefault(layer.kind, []).append(layer)
    pairs, wrong = [], []
    for name, layer in own:
        kinds = _kinds(layer)
        kind = next((each for each in kinds if left.get(each)), None)
        if kind is None:
            what = f"no {kinds[0]} for it" if kinds else "no such layer"
            wrong.append(f"the network has {name}, a {type(layer).__name__}, the file {what}")
        else:
            pairs.append((name, layer, left[kind].pop(0)))
    wrong += [f"the file has {layer}, the network not" for of in left.values() for layer in of]
    if wrong:
        raise WeightsError(f"{source}: weights of another architecture: {'; '.join(wrong)}")
    return pairs


# ---- arrays -----------------------------------------------------------------------------


def _arrays(
    path: Path,
    name: str,
    layer: Any,
    theirs: KerasLayer,
    images: _Images,
    file: KerasFile,
    epsilon: float | None,
) -> dict[str, Array]:
    """A layer's arrays by attribute, laid out as here."""
    attributes = (*parameter_names(layer), *buffer_names(layer))
    if len(theirs.arrays) != len(attributes):
        raise WeightsError(
            f"{path}: weights of another architecture: {name} has {', '.join(attributes)}, "
            f"got {theirs}"
        )
    found = dict(zip(attributes, theirs.arrays, strict=True))
    if isinstance(layer, Convolution):
        found["W"] = _filters(found["W"], theirs.kind)
    elif isinstance(layer, Affine):
        found["W"] = _rows(path, name, layer, found["W"], images)
    else:
        if file.settings is not None:
            epsilon = file.settings.get(theirs.name, {}).get("epsilon", epsilon)
        if not isinstance(epsilon, int | float) or not 0 <= epsilon < 1:
            raise ArgumentError(
                f"{path}: batch normalisation has an epsilon, which a .weights.h5 does not tell: "
                "save the model as .keras, or call fastconv.io.from_keras(path, network, "
                f"epsilon=1e-3), which is Keras's default; got {epsilon!r}"
            )
        found["running_var"] = found["running_var"] + (epsilon - layer.epsilon)
    return {key: np.array(array, order="C") for key, array in found.items()}


def _filters(kernel: Array, kind: str) -> Array:
    """(FN, C/groups, FH, FW) of a kernel; one with other than 4 axes stays, to be refused."""
    if kernel.ndim != 4:
        return kernel
    if kind == "depthwise_conv2d":  # (FH, FW, C, filters of each channel)
        height, width, channels, each = kernel.shape
        return kernel.transpose(2, 3, 0, 1).reshape(channels * each, 1, height, width)
    return kernel.transpose(3, 2, 0, 1)


def _rows(path: Path, name: str, layer: Any, matrix: Array, images: _Images) -> Array:
    """A matrix, with its rows in the order C, H, W if images are before it."""
    image = images.before.get(id(layer))
    if image is None:
        if id(layer) not in images.unknown:
            return matrix
        raise ArgumentError(
            f"{path}: {name} takes images, whose height and width are not known: call "
            "fastconv.io.from_keras(path, network, input_shape=(C, H, W))"
        )
    channels, height, width = image
    if matrix.ndim != 2 or len(matrix) != channels * height * width:
        raise WeightsError(
            f"{path}: weights of another architecture: {name} takes images of {channels} x "
            f"{height} x {width}, got a matrix of {matrix.shape}"
        )
    return matrix.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(matrix.shape)


# ---- images -----------------------------------------------------------------------------


def _image(network: Any, file: KerasFile, given: Sequence[int] | None) -> tuple[int, ...] | None:
    """(C, H, W) of an image, if it is known."""
    if given is not None:
        if len(given) != 3:
            raise ArgumentError(f"from_keras: input_shape must be (C, H, W), got {given!r}")
        return tuple(as_int("from_keras", "input_shape", size, 1) for size in given)
    for settings in (file.settings or {}).values():
        shape = settings.get("batch_shape")
        if settings["class_name"] == "InputLayer" and isinstance(shape, list) and len(shape) == 4:
            _, height, width, channels = shape
            if all(type(size) is int and 0 < size <= LARGEST for size in shape[1:]):
                return channels, height, width
    return None if network.spec is None else tuple(network.spec["input_dim"])


FEATURES, IMAGES = "features", "images"
"""What runs through a network if the size of images is not known; or the (H, W) of a grid."""


class _Images(Tracer[Any]):
    """Follows an image of zeros, or what is known of it, to the layers that depend on its shape.

    Attributes
    ----------
    before : dict of int to (C, H, W)
        The images before a layer, by the layer's id.
    unknown : set of int
        Affine layers behind images of unknown size.
    """

    def __init__(self, network: Any, shape: tuple[int, ...] | None) -> None:
        super().__init__(network)
        self.before: dict[int, tuple[int, ...]] = {}
        self.unknown: set[int] = set()
        start = FEATURES if shape is None else np.zeros((1, *shape), network.dtype)
        self.through(network, start)

    def layer(self, path: LayerPath, layer: Any, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._run(path, layer, value)
        if isinstance(layer, Affine):
            if isinstance(value, tuple):
                self.before[id(layer)] = (len(layer.W) // (value[0] * value[1]), *value)
            elif value == IMAGES:
                self.unknown.add(id(layer))
            return FEATURES
        if isinstance(layer, GlobalAveragePooling):
            return 1, 1
        if isinstance(layer, AdaptiveAveragePooling):
            return layer.out_h, layer.out_w
        if isinstance(layer, Convolution | Pooling | AveragePooling | Subsampling):
            return IMAGES
        return value

    def _run(self, path: LayerPath, layer: Any, x: Array) -> Array:
        """Zeros of the shape of a layer's output."""
        if not isinstance(layer, Convolution | Affine):
            return run_layer(layer, x, False)
        if x.ndim == 4:
            self.before[id(layer)] = x.shape[1:]
        if isinstance(layer, Affine):
            return np.zeros((1, layer.W.shape[1]), x.dtype)
        windows = _windows(self.name(path, layer), layer, x.shape[1:], layer.pad)
        return np.zeros(windows.output_shape(len(layer.W)), x.dtype)

    def join(self, path: LayerPath, layer: Any, value: Any, branches: list[Any]) -> Any:
        if isinstance(layer, Shortcut) or not isinstance(branches[0], np.ndarray):
            return branches[0]
        return ops.concatenate(branches)

    def head(self, path: LayerPath, layer: AuxiliaryHead, value: Any) -> Any:
        self.through(layer, value, path)
        return value


def _windows(name: str, layer: Convolution, image: tuple[int, ...], pad: Any) -> WindowGeometry:
    height, width = layer.W.shape[2:]
    op = f"from_keras: {name}"
    return window_geometry(op, (1, *image), height, width, layer.stride, pad, layer.dilation)


# ---- settings ---------------------------------------------------------------------------


def _expect_settings(source: str, pairs: list[Pair], file: KerasFile, images: _Images) -> None:
    """Raise `WeightsError` where a ``.keras`` file says that a layer computes something else."""
    if file.settings is None:
        return
    elsewhere = any(own["class_name"] == "ZeroPadding2D" for own in file.settings.values())
    wrong = []
    for name, layer, theirs in pairs:
        if not isinstance(layer, Convolution):
            continue
        padding = _padding(name, layer, images.before.get(id(layer)))
        expected: dict[str, list[Any]] = {
            "strides": [list(both_ways("from_keras", "stride", layer.stride, 1))],
            "dilation_rate": [[layer.dilation, layer.dilation]],
            "data_format": ["channels_last"],
            "padding": [*padding, "valid"] if elsewhere else padding,
        }
        settings = file.settings.get(theirs.name, {})
        wrong += [
            f"{theirs.name!r} has {key} {settings[key]!r}, expected "
            f"{' or '.join(map(repr, values))} for {name}, {line(layer)}"
            for key, values in expected.items()
            if key in settings and settings[key] not in values
        ]
    if wrong:
        raise WeightsError(f"{source}: weights of another architecture: {'; '.join(wrong)}")


def _padding(name: str, layer: Convolution, image: tuple[int, ...] | None) -> list[str]:
    """What Keras may call a convolution's padding; its numbers where Keras has no word."""
    if layer.pad == "same":
        return ["same"]
    known = image is not None or both_ways(name, "stride", layer.stride, 1) == (1, 1)
    if image is None:  # on which the padding of windows that move by one does not depend
        large = max(span(size, layer.dilation) for size in layer.W.shape[2:])
        image = layer.W.shape[1] * layer.groups, large, large
    own = _windows(name, layer, image, layer.pad).pads
    same = known and own == _windows(name, layer, image, "same").pads
    words = ["same"] * same + ["valid"] * (own == NO_PADS)
    return words or [shown_pads(own)]
