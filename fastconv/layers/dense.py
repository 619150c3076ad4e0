"""Layers on features and elements: affine, activations, loss, dropout, batch normalisation.

Notation: N samples, D features, M units.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops, randomness
from ..errors import ArgumentError, ShapeError, StateError
from ..geometry import as_float
from ..ops.arrays import as_array, common_dtype, expect_shape
from .base import Array, Layer, made, running_statistic

__all__ = ["Affine", "BatchNormalization", "Dropout", "Relu", "Sigmoid", "SoftmaxWithLoss"]


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
        self.out = ops.sigmoid_forward(x, self.backend)
        return self.out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout * out * (1 - out)."""
        if self.out is None:
            raise StateError("Sigmoid: backward was called before forward")
        return ops.sigmoid_backward(dout, self.out, self.backend)


class Affine(Layer):
    """A fully connected layer: x @ W + b.

    Parameters
    ----------
    W : array (D, M)
    b : array (M,) or number, optional
        A number is added by all units; None adds nothing, and only W is trained.

    Attributes
    ----------
    dW, db : arrays like W and b
        Set by `backward`; db stays None where b is.
    x : array (N, D)
        The input of the last forward, flattened.
    """

    parameter_names: tuple[str, ...] = ("W", "b")

    def __init__(self, W: Array, b: Array | None = None, backend: str | None = None) -> None:
        super().__init__(backend)
        self.W = W
        self.b = b
        if b is None:
            self.parameter_names = ("W",)
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
        dx, self.dW, db = ops.affine_backward(dout, self.W, context, input_gradient)
        self.db = None if self.b is None else db
        return dx


class SoftmaxWithLoss(Layer):
    """Softmax and mean cross-entropy; keeps ``y`` (N, M), ``t`` and ``loss``.

    Parameters
    ----------
    label_smoothing : float
        Share of each label that is spread over all classes (arXiv:1512.00567), 0 to below 1.
        It may be changed later: ``network.last_layer.label_smoothing = 0.1``.
    """

    # On the class too: a subclass in the book's style calls no constructor but its own.
    label_smoothing: float = 0.0
    _lone: bool = False  # whether the scores were those of one sample, without an axis for it

    def __init__(self, backend: str | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(backend)
        ops.expect_smoothing("SoftmaxWithLoss", label_smoothing)
        self.label_smoothing = label_smoothing
        self.loss: float | None = None
        self.y: Array | None = None
        self.t: Array | None = None

    def forward(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the loss of scores x (N, M) for labels t: indices (N,) or one-hot (N, M).

        Or of the scores (M,) of one sample, for an index or a one-hot row (M,).
        """
        self._lone = getattr(x, "ndim", 2) == 1
        if self._lone:
            x, t = _one_row(x, t)
        self.loss, self._context = ops.softmax_cross_entropy_forward(
            x, t, self.backend, smoothing=self.label_smoothing
        )
        self.y, self.t = self._context.probabilities, as_array(t)
        if self._lone:
            self.y, self.t = self.y[0], self.t[0]
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return (y - smoothed onehot(t)) * dout / N.

        For the scores of one sample, (M,), the book's layer divides by the length of t, which
        with a one-hot t is M. So does this one.
        """
        if self._lone:
            length = max(1, as_array(self.t).size)
            return ops.softmax_cross_entropy_backward(self._forward_context(), dout / length)[0]
        return ops.softmax_cross_entropy_backward(self._forward_context(), dout)


def _one_row(x: ArrayLike, t: ArrayLike) -> tuple[Array, Array]:
    """The scores and the label of one sample as those of a batch of one."""
    scores, label = as_array(x), as_array(t)
    return scores[np.newaxis], label.reshape((1, -1) if label.size == scores.size else (-1,))


class Dropout(Layer):
    """Zero a random share of the input in training; scale, so that the mean stays, once.

    Parameters
    ----------
    dropout_ratio : float
        Share that is dropped.
    inverted : bool
        Scale what is kept by 1 / (1 - ratio) in training, and nothing in evaluation, as
        PyTorch does. If not, what is kept is not rescaled (arXiv:1207.0580), and evaluation
        scales by 1 - ratio.

    Notes
    -----
    The mask is ``np.random.rand(*x.shape) > dropout_ratio``, from NumPy's global generator,
    unless a Trainer with a seed of its own runs.
    """

    has_modes = True

    # On the class too: a subclass in the book's style calls no constructor but its own.
    inverted: bool = False

    def __init__(
        self, dropout_ratio: float = 0.5, backend: str | None = None, *, inverted: bool = False
    ) -> None:
        super().__init__(backend)
        if not 0 <= as_float("Dropout", "dropout_ratio", dropout_ratio) <= 1:
            raise ArgumentError(f"Dropout: dropout_ratio must be 0 to 1, got {dropout_ratio}")
        if inverted and dropout_ratio == 1:
            raise ArgumentError("Dropout: a ratio of 1 cannot be inverted: nothing is left")
        self.dropout_ratio = dropout_ratio
        self.inverted = inverted
        self.mask: NDArray[np.bool_] | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return x with a random share set to 0, or in evaluation all of it; scaled or not."""
        x = as_array(x)
        if train_flg:
            self.mask = randomness.uniform(x.shape) > self.dropout_ratio
            return self._scaled(ops.masked("dropout", x, self.mask, self.backend))
        x = x.astype(common_dtype("dropout", x), copy=False)
        return x if self.inverted else x * (1.0 - float(self.dropout_ratio))

    def backward(self, dout: ArrayLike) -> Array:
        """Return dout where the input was kept, scaled as it was, else 0."""
        if self.mask is None:
            raise StateError("Dropout: backward was called before a forward in training")
        return self._scaled(ops.masked("dropout backward", dout, self.mask, self.backend))

    def _scaled(self, kept: Array) -> Array:
        return kept / (1.0 - float(self.dropout_ratio)) if self.inverted else kept


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

    Attributes
    ----------
    xc, xn : arrays (N, D), or None
        The last batch in training, less its mean, and divided by `std`. As `std` and
        `batch_size` they are made when they are asked for; None before forward.
    std : array (D,) or None
    batch_size : int or None
    """

    parameter_names = ("gamma", "beta")
    buffer_names = ("running_mean", "running_var")
    has_modes = True
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

    def _of_the_batch(self, name: str) -> Any:
        context = self._context
        return None if context is None else getattr(context, name)

    @made
    def xn(self) -> Array | None:
        """The last batch, normalised."""
        return self._of_the_batch("normalized")

    @made
    def std(self) -> Array | None:
        """Its standard deviation, with what is added to the variance."""
        variance = self._of_the_batch("variance")
        return None if variance is None else np.sqrt(variance + self.epsilon)

    @made
    def xc(self) -> Array | None:
        """It less its mean."""
        normalized: Any = self.xn
        return None if normalized is None else normalized * self.std

    @made
    def batch_size(self) -> int | None:
        """How many samples it has."""
        normalized: Any = self.xn
        return None if normalized is None else len(normalized)

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return an array like x, normalised by its own batch, or by the running statistics."""
        x = as_array(x)
        if x.ndim not in (2, 4):
            raise ShapeError(
                f"BatchNormalization: expected (N, D) or (N, C, H, W), got shape {x.shape}"
            )
        self.input_shape = x.shape
        flat = x if x.ndim == 2 else x.reshape(len(x), math.prod(x.shape[1:]))
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
            before = [running_statistic("batchnorm", self, key, mean) for key in self.buffer_names]
            self.running_mean = kept * before[0] + new * mean
            self.running_var = kept * before[1] + new * variance
        return out if x.ndim == 2 else out.reshape(x.shape)

    def backward(self, dout: ArrayLike) -> Array:
        """Set dgamma and dbeta, return dx in the input's own shape."""
        context = self._forward_context()
        dout = as_array(dout)
        expect_shape("batchnorm backward", "dout", dout, self.input_shape)
        flat = dout if dout.ndim == 2 else dout.reshape(context.normalized.shape)
        dx, self.dgamma, self.dbeta = ops.batchnorm_backward(flat, self.gamma, context)
        return dx if dout.ndim == 2 else dx.reshape(dout.shape)
