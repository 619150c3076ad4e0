"""Fusion: which layers run as one.

A group is a layer, or several that one call of the backend computes. Its ``forward(x, train_flg)``
keeps on the group, and not on the layers, what its ``backward(dout, input_gradient)`` needs.

=============================================  ============================================
layers                                         group
=============================================  ============================================
convolution, ReLU, perhaps a 2x2 max pooling   one kernel each way
convolution, batch normalisation, [the same]   in evaluation, folded into the convolution's
                                               weights, where these are fewer than its outputs
batch normalisation, ReLU                      one kernel each way
the end of a shortcut's body: batch            one kernel each way; in evaluation also behind a
normalisation, sum, perhaps a ReLU             convolution
branches, shortcuts, auxiliary heads           rows of groups inside
=============================================  ============================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..backends.algorithms import CONSTANT, named_forward
from ..errors import ArgumentError
from ..geometry import window_geometry
from ..layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Elu,
    Gelu,
    GlobalAveragePooling,
    Layer,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    Silu,
    Subsampling,
    Tanh,
)
from ..layers.base import parameter_names
from ..layers.containers import (
    AuxiliaryHead,
    Branches,
    Chain,
    Container,
    Shortcut,
    expect_sum,
    run_layer,
    sum_of,
)
from ..layers.tree import flat, leaves, walk
from ..ops.arrays import as_array, common_dtype, expect_shape
from ..ops.conv import conv2d_arguments
from ..ops.memory import empty
from ..ops.recording import noted, recorder
from .ready import listener, tell_of

__all__ = ["ConvGroup", "FusedRow", "Group", "Sum", "Watch", "all_known", "fuse", "trains"]

Array = NDArray[Any]

KNOWN = {
    *(Affine, AdaptiveAveragePooling, AveragePooling, BatchNormalization, BatchNormalization2d),
    *(Convolution, Dropout, Elu, Gelu, GlobalAveragePooling, LeakyRelu),
    *(LocalResponseNormalization, Pooling, Relu, Sigmoid, Silu, Subsampling, Tanh),
}
"""Layers that evaluate by kernels and `moved_to` alone, so that a recording of these is all."""

HOLDERS = {AuxiliaryHead, Branches, Chain, Shortcut}
"""Layers that hold others, and do nothing besides that a recording does not have."""

LAYERS = Layer.__module__.rpartition(".")[0]
"""Package of fastconv's own layers."""

Watch = Callable[["Group", tuple[int, ...], tuple[int, ...]], None]
"""Called after each group's forward, with the shapes of its input and output."""


class Group(ABC):
    """Layers that run as one; also a layer by itself."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers

    @abstractmethod
    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""

    @abstractmethod
    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""


class FusedRow:
    """Layers in a row, as groups.

    Parameters
    ----------
    layers : iterable of Layer
    train_flg : bool
        Whether they will train; only in evaluation is batch normalisation folded away.
    watch : callable, optional
    """

    def __init__(self, layers: Iterable[Any], train_flg: bool, watch: Watch | None = None) -> None:
        self.groups: list[Group] = fuse(flat(layers), train_flg, watch)
        self.watch = watch

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the last group's output."""
        recording = recorder()
        for group in self.groups:
            if recording is None:
                out = group.forward(x, train_flg)
            else:
                out = recording.by(group, group.forward, x, train_flg)
            if self.watch is not None and not isinstance(group, HoldingRows):
                self.watch(group, x.shape, out.shape)
            x = out
        return x

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Go back through the groups, drop each with what it kept, and tell of its gradients."""
        grad: Any = dout
        tells = listener() is not None and recorder() is None
        while self.groups:
            group = self.groups.pop()
            grad = group.backward(grad, input_gradient or bool(self.groups))
            if tells and not isinstance(group, HoldingRows):  # whose rows have told
                tell_of(group.layers)
        return grad


class Sum:
    """Stands in the row of a shortcut's body for the sum at its end.

    Attributes
    ----------
    beside : array or None
        The shortcut's output, until it is added.
    gradient : array or None
        The gradient of `beside`, after the sum's backward.
    """

    def __init__(self, shortcut: Shortcut) -> None:
        self.backend = shortcut.backend
        self.beside: Array | None = None
        self.gradient: Array | None = None

    def take(self) -> Any:
        """Return `beside`, and drop it, so that its memory can be used again."""
        beside, self.beside = self.beside, None
        return beside


class SingleLayer(Group):
    """A layer by itself."""

    def forward(self, x: Array, train_flg: bool) -> Array:
        (layer,) = self.layers
        if train_flg:
            return run_layer(layer, x, True)
        layer = stand_in(layer)
        recording = recorder()
        if recording is None or _is_known(layer):
            return run_layer(layer, x, False)
        return recording.outside(
            type(layer).__name__, partial(run_layer, layer, train_flg=False), x
        )

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        (layer,) = self.layers
        if not hasattr(layer, "backward"):  # such a layer may come before what is trained
            raise ArgumentError(f"Network.gradient: the layer {layer!r} has no backward")
        if getattr(layer.backward, "__func__", None) in (Convolution.backward, Affine.backward):
            layer.dW = layer.db = None  # free the last step's before this step's are made
            return layer.backward(dout, input_gradient=input_gradient)
        return layer.backward(dout)


class SingleSum(Group):
    """The sum of a shortcut that no kernel adds."""

    def forward(self, x: Array, train_flg: bool) -> Array:
        (own,) = self.layers
        beside = own.take()
        expect_sum(np.shape(x), beside.shape)
        return ops.add(x, beside, own.backend)

    def backward(self, dout: Array, input_gradient: bool) -> Array:
        self.layers[0].gradient = dout
        return dout


class _KernelGroup(Group):
    """Layers that one call of a kernel computes, found by their classes."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__(layers)
        by_kind = {type(layer): layer for layer in layers}
        self.conv: Any = by_kind.get(Convolution)
        self.norm: Any = by_kind.get(BatchNormalization2d)
        self.sum: Sum | None = by_kind.get(Sum)
        self.relu = Relu in by_kind
        self.pool = Pooling in by_kind
        self._context: Any = None


class ConvGroup(_KernelGroup):
    """A convolution, with the ReLU and the 2x2 max pooling behind it.

    In evaluation, a batch normalisation between them becomes part of the weights, and a
    shortcut's sum may stand in front of the ReLU.
    """

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        conv, norm = self.conv, self.norm
        if train_flg:
            forget(self.layers)
        window = (conv.stride, conv.pad)
        beside = None if self.sum is None else self.sum.take()
        if beside is not None and np.ndim(conv.W) == 4:
            filters, _, fh, fw = np.shape(conv.W)
            g = window_geometry("conv2d", np.shape(x), fh, fw, *window)
            expect_sum(g.output_shape(filters), beside.shape)
        if norm is not None and not self.pool and _is_dear(x, conv):
            out, _ = ops.conv2d_forward(x, conv.W, conv.b, *window, conv.backend)
            return ops.batchnorm2d_fixed(
                *(out, norm.gamma, norm.beta, norm.running_mean, norm.running_var, norm.epsilon),
                *(beside, self.relu, norm.backend),
            )[0]
        weight, bias = (conv.W, conv.b) if norm is None else folded(conv, norm)
        context: Any
        if self.relu or beside is not None:
            out, context = ops.conv2d_block_forward(
                *(x, weight, bias, *window, self.pool, conv.backend, train_flg),
                *(beside, self.relu),
            )
        else:
            out, context = ops.conv2d_forward(x, weight, bias, *window, conv.backend)
        self._context = context if train_flg else None
        return out

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        conv = self.conv
        conv.dW = conv.db = None  # free the last step's, which may be as large as the network
        backward = ops.conv2d_block_backward if self.relu else ops.conv2d_backward
        trained = not conv.frozen
        dx, conv.dW, db = backward(dout, conv.W, self._context, input_gradient, trained)
        conv.db = None if conv.b is None else db
        return dx


class NormGroup(_KernelGroup):
    """Batch normalisation of channels, perhaps with a shortcut's sum and a ReLU behind it."""

    def forward(self, x: Array, train_flg: bool) -> Array:
        if train_flg:
            forget(self.layers)
        norm = self.norm
        beside = None if self.sum is None else self.sum.take()
        if beside is not None:
            expect_sum(np.shape(x), beside.shape)
        if train_flg and not norm.frozen:
            out, mean, variance, context = ops.batchnorm2d_train(
                x, norm.gamma, norm.beta, norm.epsilon, beside, self.relu, norm.backend
            )
            noted(partial(norm.note_statistics, count=context.count), mean, variance)
        else:
            out, context = ops.batchnorm2d_fixed(
                *(x, norm.gamma, norm.beta, norm.running_mean, norm.running_var, norm.epsilon),
                *(beside, self.relu, norm.backend),
            )
        self._context = context if train_flg else None
        return out

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        norm = self.norm
        dx, norm.dgamma, norm.dbeta, beside_gradient = ops.batchnorm2d_backward(
            dout, norm.gamma, self._context, input_gradient
        )
        if self.sum is not None:
            self.sum.gradient = beside_gradient
        return dx


class BranchesGroup(Group):
    """Branches: each is a row of groups on the same input."""

    def __init__(self, branches: Branches, train_flg: bool, watch: Watch | None) -> None:
        super().__init__([branches])
        self.branches = branches
        self.rows = [FusedRow([child], train_flg, watch) for child in branches.layers.values()]

    def forward(self, x: Array, train_flg: bool) -> Array:
        return self.branches.join([row.forward(x, train_flg) for row in self.rows])

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        parts = zip(self.rows, self.branches.split(dout), strict=True)
        gradients: Any = [row.backward(part, input_gradient) for row, part in parts]
        return sum_of(gradients, self.branches.backend) if input_gradient else None


class ShortcutGroup(Group):
    """A shortcut around a body, and the ReLU behind the sum if there is one."""

    def __init__(self, layers: Sequence[Any], train_flg: bool, watch: Watch | None) -> None:
        super().__init__(layers)
        shortcut: Shortcut = layers[0]
        projection = [] if shortcut.projection is None else [shortcut.projection]
        self.sum = Sum(shortcut)
        self.aside = FusedRow(projection, train_flg, watch)
        self.body = FusedRow([shortcut.body, self.sum, *layers[1:]], train_flg, watch)

    def forward(self, x: Array, train_flg: bool) -> Array:
        self.sum.beside = self.aside.forward(x, train_flg)
        return self.body.forward(x, train_flg)

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        grad: Any = self.body.backward(dout, input_gradient)
        beside: Any = self.sum.gradient
        self.sum.gradient = None
        beside = self.aside.backward(beside, input_gradient)
        return ops.add(grad, beside, self.sum.backend) if input_gradient else None


class HeadGroup(Group):
    """An auxiliary head: a row of groups in training, nothing in evaluation."""

    def __init__(self, head: AuxiliaryHead, train_flg: bool) -> None:
        super().__init__([head])
        self.head = head
        self.row = FusedRow(head.layers.values(), train_flg)

    def forward(self, x: Array, train_flg: bool) -> Array:
        if train_flg:
            self.head.scores = self.row.forward(x, True)
        return x

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        scores = self.head.last_layer.backward(self.head.weight)
        gradient = self.row.backward(scores, input_gradient)
        return None if gradient is None else ops.add(gradient, dout, self.head.backend)


HoldingRows = BranchesGroup | ShortcutGroup | HeadGroup


def stand_in(layer: Any) -> Any:
    """Return a copy that evaluates in a layer's place, so that the layer's state stays as it is.

    So several threads may evaluate a layer, also while one trains it, and nothing is kept for a
    backward that never comes. A layer whose `forward` is not fastconv's runs itself: only its
    author knows what its state is.
    """
    own = isinstance(layer, Layer) and "forward" not in vars(layer)
    if not own or not type(layer).forward.__module__.startswith(LAYERS):
        return layer
    other = object.__new__(type(layer))
    vars(other).update(vars(layer), stands_for=layer)
    if isinstance(layer, Container):
        other.layers = {name: stand_in(child) for name, child in layer.layers.items()}
    return other


def _is_known(layer: Any) -> bool:
    """Whether a recording has all that this layer does in evaluation."""
    return (
        type(layer) in KNOWN
        and "forward" not in vars(layer)
        and type(layer).forward.__module__.startswith(LAYERS)
    )


def all_known(layers: Sequence[Any]) -> bool:
    """Whether a recording has all that these layers, and those inside them, do in evaluation."""
    return all(
        type(layer) in HOLDERS if isinstance(layer, Container) else _is_known(layer)
        for _, layer in walk(layers, Container)
    )


def forget(layers: Sequence[Any]) -> None:
    """Drop what the layers of a group kept when each ran by itself."""
    for layer in layers:
        if not isinstance(layer, Sum):
            layer.forget()


def _is_dear(x: Array, conv: Convolution) -> bool:
    """Whether folding, which passes over the weights, costs more than normalising the output.

    That is where a filter has more values than its output in all images has pixels, about, and
    weights are not known to stay as they are, so that they would be folded at each call.
    """
    if named_forward() == CONSTANT:
        return False
    _, weight, _, g, _ = conv2d_arguments("conv2d", x, conv.W, conv.b, conv.stride, conv.pad)
    return weight[0].size > g.n * (g.h // g.stride) * (g.w // g.stride)


def folded(conv: Convolution, norm: BatchNormalization2d) -> tuple[Array, Array]:
    """Weight and bias of one convolution that computes both layers in evaluation."""
    before = as_array(conv.W)
    vectors = {
        key: as_array(getattr(norm, key)) for key in norm.parameter_names + norm.buffer_names
    }
    for name, vector in vectors.items():
        expect_shape("batchnorm2d", name, vector, before.shape[:1])
    dtype = common_dtype("conv2d", before)
    common_dtype("batchnorm2d", *vectors.values())
    scale = vectors["gamma"] / np.sqrt(vectors["running_var"] + norm.epsilon)
    shift = 0 if conv.b is None else as_array(conv.b)
    bias = vectors["beta"] + (shift - vectors["running_mean"]) * scale
    weight = empty(before.shape, dtype)
    np.multiply(before, scale.astype(dtype)[:, None, None, None], out=weight)
    return weight, bias.astype(dtype)


def fuse(row: Sequence[Any], train_flg: bool, watch: Watch | None = None) -> list[Group]:
    """Cut layers in a row into groups."""
    groups: list[Group] = []
    start = 0
    while start < len(row):
        first, backend = row[start], getattr(row[start], "backend", None)
        # A class derived from a known one, or a forward of the user's, may compute something else.
        kinds = [
            type(layer)
            if "forward" not in vars(layer) and getattr(layer, "backend", None) == backend
            else None
            for layer in row[start : start + 4]
        ]
        with_relu = row[start : start + 1 + (kinds[1:2] == [Relu])]
        group: Group
        if kinds[0] is Convolution and first.plain:
            group = ConvGroup(row[start : start + _conv_length(row[start:], kinds, train_flg)])
        elif kinds[0] is BatchNormalization2d:
            length = 1 + (kinds[1:2] == [Sum])
            length += kinds[length : length + 1] == [Relu]
            group = NormGroup(row[start : start + length])
        elif kinds[0] is Shortcut:
            group = ShortcutGroup(with_relu, train_flg, watch)
        elif kinds[0] is Branches:
            group = BranchesGroup(first, train_flg, watch)
        elif kinds[0] is AuxiliaryHead:
            group = HeadGroup(first, train_flg)
        elif kinds[0] is Sum:
            group = SingleSum([first])
        else:
            group = SingleLayer([first])
        groups.append(group)
        start += len(group.layers)
    return groups


def _conv_length(layers: Sequence[Any], kinds: list[type | None], train_flg: bool) -> int:
    """How many layers from a convolution on are one group."""
    blocks = ops.runs_blocks(layers[0].backend)
    length = 1
    # A backend without fused kernels adds the sum in the normalisation, which then stays apart.
    if not train_flg and kinds[1:2] == [BatchNormalization2d] and (blocks or kinds[2:3] != [Sum]):
        length = 2
    if not blocks:
        return length
    adds = not train_flg and kinds[length : length + 1] == [Sum]
    length += adds
    if kinds[length : length + 1] != [Relu]:
        return length
    length += 1
    if not adds and kinds[length : length + 1] == [Pooling]:
        pool = layers[length]
        window = (pool.pool_h, pool.pool_w, pool.stride, pool.pad, pool.ceil_mode)
        length += window == (2, 2, 2, 0, False)
    return length


def trains(layer: Any) -> bool:
    """Whether anything in a layer is trained."""
    return any(
        parameter_names(leaf) and not getattr(leaf, "frozen", False) for _, leaf in leaves([layer])
    )
