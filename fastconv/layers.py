"""The book's layers: ``forward``, then ``backward``, with their state on the layer.

A layer says what is computed; `fastconv.ops` finds the backend that computes it,
at each forward, and runs backward where forward ran. A ``backend`` attribute
(None: follow `fastconv.use_backend`, `set_backend`, the environment) ties a layer to one.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW
windows; D features, M units. Arrays keep the dtype of the input and the
parameters (`np.result_type`; float16 is computed in float32, integers in
float64). Results are (N, C, H, W) by shape, whatever the order of their memory.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops, randomness
from .errors import ShapeError, StateError
from .functions import *  # noqa: F403
from .functions import __all__ as _function_names
from .functions import sigmoid
from .ops.arrays import as_array, common_dtype, expect_shape
from .util import col2im, im2col

# Scripts say `from common.layers import *` and then use np, softmax, im2col and the rest.
__all__ = [
    "Affine",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Layer",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
    "col2im",
    "im2col",
    "np",
    *_function_names,
]

Array = NDArray[Any]


class Layer:
    """What the layers share.

    Attributes
    ----------
    backend : str or None
        Backend that this layer runs on; None follows the surrounding choice.
    parameter_names : tuple of str
        Attributes that an optimizer trains; the gradient of ``W`` is ``dW``.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()

    # On the class too: a subclass in the book's style calls no constructor but its own.
    backend: str | None = None
    _context: Any = None

    def __init__(self, backend: str | None = None) -> None:
        self.backend = backend
        self._context = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        self._context = None

    def _forward_context(self) -> Any:
        if self._context is None:
            raise StateError(f"{type(self).__name__}: backward was called before forward")
        return self._context


class Relu(Layer):
    """max(0, x), NaN kept; the gradient passes where x > 0."""

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.__dict__.pop("mask", None)

    @cached_property
    def mask(self) -> NDArray[np.bool_] | None:
        """True where the gradient is stopped (x was not positive); None before forward."""
        return None if self._context is None else self._context.mask == 0

    def forward(self, x: ArrayLike) -> Array:
        """Return an array like x, 0 where x <= 0."""
        self.forget()
        out, self._context = ops.relu_forward(x, self.backend)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout where x was positive, else 0; dout itself is left as it is."""
        return ops.relu_backward(dout, self._forward_context())


class Sigmoid(Layer):
    """1 / (1 + exp(-x)); keeps ``out``."""

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(backend)
        self.out: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Return an array like x."""
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout * out * (1 - out)."""
        if self.out is None:
            raise StateError("Sigmoid: backward was called before forward")
        return as_array(dout) * (1 - self.out) * self.out


class Affine(Layer):
    """A fully connected layer: x @ W + b.

    Parameters
    ----------
    W : array (D, M)
    b : array (M,)

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`.
    x : array (N, D)
        The input of the last forward, flattened.
    """

    parameter_names = ("W", "b")

    def __init__(self, W: Array, b: Array, backend: str | None = None) -> None:
        super().__init__(backend)
        self.W = W
        self.b = b
        self.x: Array | None = None
        self.original_x_shape: tuple[int, ...] | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, M) for x (N, ...); all axes but the first are flattened to D."""
        out, self._context = ops.affine_forward(x, self.W, self.b, self.backend)
        self.x, self.original_x_shape = self._context.x, self._context.shape
        return out

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dW and db, return dx in the input's own shape (None if it is not asked for)."""
        context = self._forward_context()
        dx, self.dW, self.db = ops.affine_backward(dout, self.W, context, input_gradient)
        return dx


class SoftmaxWithLoss(Layer):
    """Softmax and mean cross-entropy; keeps ``y`` (N, M), ``t`` and ``loss``."""

    def __init__(self, backend: str | None = None) -> None:
        super().__init__(backend)
        self.loss: float | None = None
        self.y: Array | None = None
        self.t: Array | None = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the loss of scores x (N, M) for labels t: indices (N,) or one-hot (N, M)."""
        self.loss, self._context = ops.softmax_cross_entropy_forward(x, t, self.backend)
        self.y, self.t = self._context.probabilities, as_array(t)
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return (y - onehot(t)) * dout / N."""
        return ops.softmax_cross_entropy_backward(self._forward_context(), dout)


class Dropout(Layer):
    """Zero a random share of the input in training; scale by 1 - ratio in evaluation.

    Parameters
    ----------
    dropout_ratio : float
        Share that is dropped. What is kept is not rescaled (arXiv:1207.0580).

    Notes
    -----
    The mask is ``np.random.rand(*x.shape) > dropout_ratio``, from NumPy's global generator,
    unless a Trainer with a seed of its own runs.
    """

    def __init__(self, dropout_ratio: float = 0.5, backend: str | None = None) -> None:
        super().__init__(backend)
        self.dropout_ratio = dropout_ratio
        self.mask: NDArray[np.bool_] | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return x with a random share set to 0, or in evaluation x * (1 - ratio)."""
        x = as_array(x)
        x = x.astype(common_dtype("dropout", x), copy=False)
        if train_flg:
            self.mask = randomness.uniform(x.shape) > self.dropout_ratio
            return x * self.mask
        return x * (1.0 - float(self.dropout_ratio))

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout where the input was kept, else 0."""
        if self.mask is None:
            raise StateError("Dropout: backward was called before a forward in training")
        return as_array(dout) * self.mask


class BatchNormalization(Layer):
    """Batch normalisation per activation (arXiv:1502.03167).

    Images (N, C, H, W) are flattened to (N, C*H*W), so that each activation has
    statistics of its own, as in the book.

    Parameters
    ----------
    gamma, beta : arrays (D,)
        Scale and shift, trained.
    momentum : float
        running = momentum*running + (1 - momentum)*batch.
    running_mean, running_var : arrays (D,), optional
        Statistics for evaluation; zeros before the first forward.
    """

    parameter_names = ("gamma", "beta")
    epsilon = 1e-6

    def __init__(
        self,
        gamma: Array,
        beta: Array,
        momentum: float = 0.9,
        running_mean: Array | None = None,
        running_var: Array | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend)
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.running_mean: Any = running_mean
        self.running_var: Any = running_var
        self.input_shape: tuple[int, ...] = ()
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return an array like x, normalised by its own batch, or by the running statistics."""
        x = as_array(x)
        if x.ndim not in (2, 4):
            raise ShapeError(
                f"BatchNormalization: expected (N, D) or (N, C, H, W), got shape {x.shape}"
            )
        self.input_shape = x.shape
        flat = x.reshape(len(x), int(np.prod(x.shape[1:])))
        if self.running_mean is None:
            dtype = common_dtype("batchnorm", x)
            self.running_mean = np.zeros(flat.shape[1], dtype)
            self.running_var = np.zeros(flat.shape[1], dtype)
        if not train_flg:
            out = ops.batchnorm_infer(
                flat,
                self.gamma,
                self.beta,
                self.running_mean,
                self.running_var,
                self.epsilon,
                self.backend,
            )
            return out.reshape(x.shape)
        out, mean, variance, self._context = ops.batchnorm_train(
            flat, self.gamma, self.beta, self.epsilon, self.backend
        )
        if len(x):
            kept, new = self.momentum, 1 - self.momentum
            self.running_mean = kept * self.running_mean + new * mean
            self.running_var = kept * self.running_var + new * variance
        return out.reshape(x.shape)

    def backward(self, dout: ArrayLike) -> Array:
        """Set dgamma and dbeta, return dx in the input's own shape."""
        context = self._forward_context()
        dout = as_array(dout)
        expect_shape("batchnorm backward", "dout", dout, self.input_shape)
        flat = dout.reshape(context.normalized.shape)
        dx, self.dgamma, self.dbeta = ops.batchnorm_backward(flat, self.gamma, context)
        return dx.reshape(dout.shape)


class Convolution(Layer):
    """Cross-correlation of images with filters, zeros outside.

    Parameters
    ----------
    W : array (FN, C, FH, FW)
    b : array (FN,)
    stride, pad : int

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`.
    x : array (N, C, H, W)
        The input of the last forward.
    """

    parameter_names = ("W", "b")

    def __init__(
        self, W: Array, b: Array, stride: int = 1, pad: int = 0, backend: str | None = None
    ) -> None:
        super().__init__(backend)
        self.W = W
        self.b = b
        self.stride = stride
        self.pad = pad
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.x = None

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, FN, OH, OW) for x (N, C, H, W); OH = (H + 2*pad - FH)//stride + 1."""
        out, self._context = ops.conv2d_forward(
            x, self.W, self.b, self.stride, self.pad, self.backend
        )
        self.x = self._context.x
        return out

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dW and db, return dx (N, C, H, W) (None if it is not asked for)."""
        context = self._forward_context()
        dx, self.dW, self.db = ops.conv2d_backward(dout, self.W, context, input_gradient)
        return dx


class Pooling(Layer):
    """Max pooling; the gradient goes to the first maximum of each window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride, pad : int
        Padded places never win; pad is smaller than the window.

    Attributes
    ----------
    x : array (N, C, H, W)
        The input of the last forward.
    """

    def __init__(
        self, pool_h: int, pool_w: int, stride: int = 1, pad: int = 0, backend: str | None = None
    ) -> None:
        super().__init__(backend)
        self.pool_h = pool_h
        self.pool_w = pool_w
        self.stride = stride
        self.pad = pad
        self.x: Array | None = None

    def forget(self) -> None:
        """Drop what the last forward kept."""
        super().forget()
        self.x = None
        self.__dict__.pop("arg_max", None)

    @cached_property
    def arg_max(self) -> NDArray[np.intp] | None:
        """Position in its window of each maximum, one axis in the order n, y, x, c."""
        if self._context is None:
            return None
        return self._context.winner.transpose(0, 2, 3, 1).ravel().astype(np.intp)

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C, OH, OW) for x (N, C, H, W)."""
        self.forget()
        out, self._context = ops.maxpool2d_forward(
            x, self.pool_h, self.pool_w, self.stride, self.pad, self.backend
        )
        self.x = as_array(x)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W); where windows overlap, gradients add."""
        return ops.maxpool2d_backward(dout, self._forward_context())
