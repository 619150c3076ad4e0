"""What a plan runs at once: a layer, several layers as one, or the ways of a branch.

A run has ``forward(x, train_flg)`` and ``backward(dout, input_gradient)``, which gives None
where the input's gradient is not asked for. What backward needs is kept by the run and goes
with it; inside of a run, nothing is left on the layers but ``dW``, ``db`` and the like.

=============================================  ============================================
layers                                         run
=============================================  ============================================
convolution, ReLU, perhaps a 2x2 max pooling   one kernel each way
convolution, batch normalisation, [the same]   in evaluation, folded into the convolution, where
                                               that has fewer weights than outputs
batch normalisation, ReLU                      one kernel each way
shortcut around a body that ends in batch      the body's last run adds the shortcut, and
normalisation (in evaluation: or in a          the ReLU if there is one
convolution), perhaps a ReLU behind it
branches, auxiliary heads                      runs of their own inside
=============================================  ============================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..layers import Affine, BatchNormalization2d, Convolution, Layer, Pooling, Relu
from ..layers.containers import (
    AuxiliaryHead,
    Branches,
    Chain,
    Container,
    Shortcut,
    leaves,
    run_layer,
    sum_of,
)
from ..ops.arrays import as_array, common_dtype, expect_shape
from ..ops.conv import conv2d_arguments
from ..ops.memory import empty

__all__ = ["ConvRun", "Normalized", "Run", "Runs", "Watch", "cut", "flat", "trains"]

Array = NDArray[Any]

LAYERS = Layer.__module__.rpartition(".")[0]
"""Where fastconv's own layers are."""

Watch = Callable[["Run", tuple[int, ...], tuple[int, ...]], None]
"""Told of each run that has run, with the shapes of its input and output."""


class Run(Protocol):
    """What all runs have."""

    layers: list[Any]

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""


class Runs:
    """Layers in a row, as runs.

    Parameters
    ----------
    layers : iterable of Layer
    train_flg : bool
        Whether they will train; only in evaluation is batch normalisation folded away.
    open_end : bool
        A shortcut is to be added to the last run. Where a convolution's cannot take it, a last
        batch normalisation stays by itself.
    watch : callable, optional
    """

    def __init__(
        self,
        layers: Iterable[Any],
        train_flg: bool,
        open_end: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.runs: list[Run] = list(cut(list(flat(layers)), train_flg, open_end, watch))
        self.watch = watch

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the last run's output."""
        for run in self.runs:
            out = run.forward(x, train_flg)
            if self.watch is not None and not isinstance(run, Ways | Residual | Head):
                self.watch(run, x.shape, out.shape)
            x = out
        return x

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Go back through the runs; each is dropped, with what it kept, once it is done."""
        grad: Any = dout
        while self.runs:
            run = self.runs.pop()
            grad = run.backward(grad, input_gradient or bool(self.runs))
        return grad


class Single:
    """A layer by itself."""

    def __init__(self, layer: Any) -> None:
        self.layers: list[Any] = [layer]

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        layer = self.layers[0]
        return run_layer(layer if train_flg else stand_in(layer), x, train_flg)

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        layer = self.layers[0]
        if isinstance(layer, Convolution | Affine):
            layer.dW = layer.db = None  # as in a run of a convolution
            return layer.backward(dout, input_gradient=input_gradient)
        return layer.backward(dout)


class ConvRun:
    """A convolution, with the ReLU and the 2x2 max pooling behind it.

    In evaluation a batch normalisation between them is part of the weights, and a shortcut's
    sum may stand in front of the ReLU.
    """

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        kinds = [type(layer) for layer in layers]
        self.conv: Convolution = layers[0]
        self.norm = layers[1] if BatchNormalization2d in kinds else None
        self.relu = Relu in kinds
        self.pool = Pooling in kinds
        self.adds_shortcut = False
        self.beside: Array | None = None
        self._context: Any = None

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        conv = self.conv
        if train_flg:
            forget(self.layers)
        window = (conv.stride, conv.pad)
        norm, beside = self.norm, self.beside
        self.beside = None
        if norm is not None and not self.pool and _is_small(x, conv):
            out, _ = ops.conv2d_forward(x, conv.W, conv.b, *window, conv.backend)
            self._context = None
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
        conv.dW = conv.db = None  # those of the step before, which may be as large as the network
        backward = ops.conv2d_block_backward if self.relu else ops.conv2d_backward
        trained = not conv.frozen
        dx, conv.dW, db = backward(dout, conv.W, self._context, input_gradient, trained)
        conv.db = None if conv.b is None else db
        return dx


class Normalized:
    """Batch normalisation of channels, perhaps with a shortcut's sum and a ReLU behind it."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.norm: BatchNormalization2d = layers[0]
        self.relu = len(layers) == 2
        self.adds_shortcut = False
        self.beside: Array | None = None
        self.beside_gradient: Array | None = None
        self._context: Any = None

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        if train_flg:
            forget(self.layers)
        norm = self.norm
        if train_flg and not norm.frozen:
            out, mean, variance, context = ops.batchnorm2d_train(
                x, norm.gamma, norm.beta, norm.epsilon, self.beside, self.relu, norm.backend
            )
            norm.note_statistics(mean, variance, out.size // len(mean))
        else:
            out, context = ops.batchnorm2d_fixed(
                *(x, norm.gamma, norm.beta, norm.running_mean, norm.running_var, norm.epsilon),
                *(self.beside, self.relu, norm.backend),
            )
        self._context = context if train_flg else None
        return out

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        norm = self.norm
        dx, norm.dgamma, norm.dbeta, self.beside_gradient = ops.batchnorm2d_backward(
            dout, norm.gamma, self._context, input_gradient
        )
        return dx


class Ways:
    """Branches: each is a row of runs on the same input."""

    def __init__(self, branches: Branches, train_flg: bool, watch: Watch | None) -> None:
        self.layers: list[Any] = [branches]
        self.branches = branches
        self.ways = [Runs([way], train_flg, watch=watch) for way in branches.layers.values()]

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        return self.branches.join([way.forward(x, train_flg) for way in self.ways])

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        parts = zip(self.ways, self.branches.split(dout), strict=True)
        gradients: Any = [way.backward(part, input_gradient) for way, part in parts]
        return sum_of(gradients, self.branches.backend) if input_gradient else None


class Residual:
    """A shortcut around a body, and perhaps the ReLU behind the sum."""

    def __init__(self, layers: Sequence[Any], train_flg: bool, watch: Watch | None) -> None:
        shortcut: Shortcut = layers[0]
        aside = [] if shortcut.projection is None else [shortcut.projection]
        self.shortcut = shortcut
        self.aside = Runs(aside, train_flg, watch=watch)
        self.body = Runs([shortcut.body], train_flg, open_end=True, watch=watch)
        last: Any = self.body.runs[-1] if self.body.runs else None
        self.last: Any = last if takes_shortcut(last, train_flg) else None
        self.layers: list[Any] = [shortcut]
        if self.last is not None:
            self.last.adds_shortcut = True
            if len(layers) == 2:
                self.last.relu = True
                self.last.layers = [*self.last.layers, layers[1]]
                self.layers = list(layers)

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        beside = self.aside.forward(x, train_flg)
        if self.last is None:
            out = self.body.forward(x, train_flg)
            return ops.add(out, beside, self.shortcut.backend)
        self.last.beside = beside
        return self.body.forward(x, train_flg)

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        beside: Any = dout
        grad: Any = dout
        if self.last is not None:
            last = self.body.runs.pop()
            grad = last.backward(dout, input_gradient or bool(self.body.runs))
            beside = self.last.beside_gradient
            self.last.beside_gradient = None
        grad = self.body.backward(grad, input_gradient)
        beside = self.aside.backward(beside, input_gradient)
        return ops.add(grad, beside, self.shortcut.backend) if input_gradient else None


class Head:
    """An auxiliary head: runs of its own in training, nothing in evaluation."""

    def __init__(self, head: AuxiliaryHead, train_flg: bool) -> None:
        self.layers: list[Any] = [head]
        self.head = head
        self.runs = Runs(head.layers.values(), train_flg)

    def forward(self, x: Array, train_flg: bool) -> Array:
        """Return the output; with `train_flg`, `backward` may follow."""
        if train_flg:
            self.head.scores = self.runs.forward(x, True)
        return x

    def backward(self, dout: Array, input_gradient: bool) -> Array | None:
        """Set the layers' gradients; return dx, or None where it is not asked for."""
        scores = self.head.last_layer.backward(self.head.weight)
        gradient = self.runs.backward(scores, input_gradient)
        return None if gradient is None else ops.add(gradient, dout, self.head.backend)


def stand_in(layer: Any) -> Any:
    """What runs in a layer's place in evaluation, so that the layer's own state stays.

    Several threads may evaluate it, also while one trains it; and what backward would need is
    gone at once. Where `forward` is not fastconv's, only its author knows what is state.
    """
    own = isinstance(layer, Layer) and "forward" not in vars(layer)
    if not own or not type(layer).forward.__module__.startswith(LAYERS):
        return layer
    other = object.__new__(type(layer))
    vars(other).update(vars(layer), stands_for=layer)
    if isinstance(layer, Container):
        other.layers = {name: stand_in(child) for name, child in layer.layers.items()}
    return other


def forget(layers: list[Any]) -> None:
    """Drop what layers kept that now run as one."""
    for layer in layers:
        layer.forget()


def takes_shortcut(last: Any, train_flg: bool) -> bool:
    """Whether the last run of a body can add the shortcut to what it gives."""
    if isinstance(last, ConvRun):
        return not train_flg and not last.relu and ops.runs_blocks(last.conv.backend)
    return isinstance(last, Normalized) and not last.relu


def _is_small(x: Array, conv: Convolution) -> bool:
    """Whether a filter has more values than its output in all images has pixels.

    Folding passes over the weights, normalising by itself over the output.
    """
    _, weight, _, g, _ = conv2d_arguments("conv2d", x, conv.W, conv.b, conv.stride, conv.pad)
    return weight[0].size > g.n * (g.h // g.stride) * (g.w // g.stride)


def folded(conv: Convolution, norm: BatchNormalization2d) -> tuple[Array, Array]:
    """Weight and bias of the convolution that does what these two do in evaluation."""
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


def cut(
    layers: list[Any], train_flg: bool, open_end: bool = False, watch: Watch | None = None
) -> Iterator[Run]:
    """Cut layers in a row into runs."""
    start = 0
    while start < len(layers):
        rest = layers[start : start + 4]
        first = rest[0]
        kinds = [_kind(layer, first) for layer in rest]
        relu_next = kinds[1:2] == [Relu]
        run: Run
        if kinds[0] is Convolution and first.plain:
            # A batch normalisation that ends the row, for a sum that the kernel does not have.
            kept = open_end and len(rest) == 2 and not ops.runs_blocks(first.backend)
            run = ConvRun(rest[: _conv_length(rest, kinds, fold=not train_flg and not kept)])
        elif kinds[0] is BatchNormalization2d:
            run = Normalized(rest[: 1 + relu_next])
        elif kinds[0] is Shortcut:
            run = Residual(rest[: 1 + relu_next], train_flg, watch)
        elif kinds[0] is Branches:
            run = Ways(first, train_flg, watch)
        elif kinds[0] is AuxiliaryHead:
            run = Head(first, train_flg)
        else:
            run = Single(first)
        yield run
        start += len(run.layers)


def flat(layers: Iterable[Any]) -> Iterator[Any]:
    """The layers, with those of chains in their chain's place."""
    for layer in layers:
        if _kind(layer, layer) is Chain:
            yield from flat(layer.layers.values())
        else:
            yield layer


def trains(layer: Any) -> bool:
    """Whether anything in a layer is trained."""
    return any(
        getattr(leaf, "parameter_names", ()) and not getattr(leaf, "frozen", False)
        for _, leaf in leaves(layer)
    )


def _kind(layer: Any, first: Any) -> type | None:
    """The layer's class; None where it may be something else, or runs elsewhere than `first`."""
    # A class derived from a known one may compute something else.
    if "forward" in vars(layer) or getattr(layer, "backend", None) != first.backend:
        return None
    return type(layer)


def _conv_length(layers: Sequence[Any], kinds: list[type | None], fold: bool) -> int:
    """How many layers from a convolution on are one run."""
    length = 1
    if fold and kinds[1:2] == [BatchNormalization2d]:
        length = 2
    if kinds[length : length + 1] != [Relu] or not ops.runs_blocks(layers[0].backend):
        return length
    length += 1
    if kinds[length : length + 1] == [Pooling]:
        pool = layers[length]
        window = (
            pool.pool_h,
            pool.pool_w,
            pool.stride,
            pool.pad,
            pool.ceil_mode,
        )
        length += window == (2, 2, 2, 0, False)
    return length
