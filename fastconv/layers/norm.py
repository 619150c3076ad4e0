"""Normalisation: of features, of channels, and over neighbouring channels.

Notation: N samples or images, D features, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..errors import ShapeError
from ..ops.arrays import as_array, common_dtype, contiguous, expect_shape
from ..ops.recording import noted
from .base import Array, Layer, made, running_statistic

__all__ = ["BatchNormalization", "BatchNormalization2d", "LocalResponseNormalization"]


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
        The last training batch less its mean, and that divided by `std`.
    std : array (D,) or None
    batch_size : int or None
        These four are computed when they are read; None before forward.
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
        """The last training batch, normalised."""
        return self._of_the_batch("normalized")

    @made
    def std(self) -> Array | None:
        """Root of the last training batch's variance plus epsilon."""
        variance = self._of_the_batch("variance")
        return None if variance is None else np.sqrt(variance + self.epsilon)

    @made
    def xc(self) -> Array | None:
        """The last training batch less its mean."""
        normalized: Any = self.xn
        return None if normalized is None else normalized * self.std

    @made
    def batch_size(self) -> int | None:
        """Number of samples of the last training batch."""
        normalized: Any = self.xn
        return None if normalized is None else len(normalized)

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return x, normalised by its batch or, in evaluation, by the running statistics."""
        x = as_array(x)
        if x.ndim not in (2, 4):
            raise ShapeError(
                f"BatchNormalization: expected (N, D) or (N, C, H, W), got shape {x.shape}"
            )
        self.input_shape = x.shape
        flat = x
        if x.ndim == 4:
            flat = contiguous(x, x.dtype).reshape(len(x), math.prod(x.shape[1:]))
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
            noted(self.note_statistics, mean, variance)
        return out if x.ndim == 2 else out.reshape(x.shape)

    def note_statistics(self, mean: Array, variance: Array) -> None:
        """Update the running statistics from those of a batch, arrays (D,)."""
        kept, new = self.momentum, 1 - self.momentum
        before = [running_statistic("batchnorm", self, key, mean) for key in self.buffer_names]
        self.running_mean = kept * before[0] + new * mean
        self.running_var = kept * before[1] + new * variance

    def backward(self, dout: ArrayLike) -> Array:
        """Set dgamma and dbeta, return dx in the input's own shape."""
        context = self._forward_context()
        dout = as_array(dout)
        expect_shape("batchnorm backward", "dout", dout, self.input_shape)
        flat = dout if dout.ndim == 2 else dout.reshape(context.normalized.shape)
        dx, self.dgamma, self.dbeta = ops.batchnorm_backward(flat, self.gamma, context)
        return dx if dout.ndim == 2 else dx.reshape(dout.shape)


class LocalResponseNormalization(Layer):
    """x / (k + alpha/size * (sum of squares over `size` channels around))**beta.

    Channel c sees the channels c - size//2, ..., c + (size - 1)//2, as far as they exist.

    Parameters
    ----------
    size : int
        Number of channels, at least 1.
    alpha : float
        At least 0. It is divided by the size, as in PyTorch's ``LocalResponseNorm``. The AlexNet
        paper (section 3.3: k=2, n=5, alpha=1e-4, beta=0.75) does not divide: its alpha is
        ``size`` times as large here.
    beta : float
    k : float
        Above 0.
    """

    def __init__(
        self,
        size: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend)
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: ArrayLike) -> Array:
        """Return (N, C, H, W) for x of that shape."""
        settings = (self.size, self.alpha, self.beta, self.k)
        out, self._context = ops.lrn_forward(x, *settings, self.backend)
        return out

    def backward(self, dout: ArrayLike) -> Array:
        """Return dx (N, C, H, W)."""
        return ops.lrn_backward(dout, self._forward_context())


class BatchNormalization2d(Layer):
    """Batch normalisation per channel (arXiv:1502.03167, section 3.2), for convolutions.

    The book's, `BatchNormalization`, has statistics for each activation instead.

    Parameters
    ----------
    gamma, beta : arrays (C,)
        Scale and shift, trained.
    momentum : float
        running = momentum*running + (1 - momentum)*batch. (PyTorch's ``momentum`` is
        one minus this.)
    epsilon : float
        Added to the variance.
    running_mean, running_var : arrays (C,), optional
        Statistics for evaluation, by default 0 and 1, in gamma's dtype. Training replaces the
        arrays and never writes into them.

    Attributes
    ----------
    dgamma, dbeta : arrays (C,)
        Set by `backward`.

    Notes
    -----
    A batch is normalised by its biased variance, but running_var averages the unbiased one, as in
    PyTorch's ``BatchNorm2d``, so that weights can be exchanged. A batch of one value per channel
    has variance 0, and its output is beta.
    """

    parameter_names = ("gamma", "beta")
    buffer_names = ("running_mean", "running_var")
    has_modes = True

    def __init__(
        self,
        gamma: Array,
        beta: Array,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        running_mean: Array | None = None,
        running_var: Array | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__(backend)
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.epsilon = epsilon
        given = as_array(gamma)
        dtype = common_dtype("batchnorm2d", given)
        self.running_mean = np.zeros(given.shape, dtype) if running_mean is None else running_mean
        self.running_var = np.ones(given.shape, dtype) if running_var is None else running_var
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: ArrayLike, train_flg: bool = True) -> Array:
        """Return (N, C, H, W): x normalised by its batch, or by the running statistics."""
        if not train_flg:
            out, self._context = ops.batchnorm2d_fixed(
                x,
                self.gamma,
                self.beta,
                self.running_mean,
                self.running_var,
                self.epsilon,
                backend=self.backend,
            )
            return out
        out, mean, variance, self._context = ops.batchnorm2d_train(
            x, self.gamma, self.beta, self.epsilon, backend=self.backend
        )
        noted(partial(self.note_statistics, count=self._context.count), mean, variance)
        return out

    def note_statistics(self, mean: Array, variance: Array, count: int) -> None:
        """Update the running statistics from a batch.

        Parameters
        ----------
        mean, variance : arrays (C,)
            Of the batch; the variance is biased, as `ops.batchnorm2d_train` gives it.
        count : int
            Values per channel, N*H*W; an empty batch changes nothing.
        """
        if count == 0:
            return
        kept, new = self.momentum, 1 - self.momentum
        unbiased = variance * (count / max(count - 1, 1))
        before = [running_statistic("batchnorm2d", self, key, mean) for key in self.buffer_names]
        self.running_mean = kept * before[0] + new * mean
        self.running_var = kept * before[1] + new * unbiased

    def backward(self, dout: ArrayLike, *, input_gradient: bool = True) -> Array | None:
        """Set dgamma and dbeta, return dx (N, C, H, W) (None if it is not asked for).

        After a forward in evaluation (the frozen layers of transfer learning) the statistics are
        constants, and no gradient flows through them.
        """
        context = self._forward_context()
        dx, self.dgamma, self.dbeta, _ = ops.batchnorm2d_backward(
            dout, self.gamma, context, input_gradient
        )
        return dx
