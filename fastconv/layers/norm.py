"""Batch normalisation per channel.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .. import ops
from ..ops.arrays import as_array, common_dtype
from .base import Array, Layer, running_statistic

__all__ = ["BatchNormalization2d"]


class BatchNormalization2d(Layer):
    """Batch normalisation per channel (arXiv:1502.03167, section 3.2), as convolutions need it.

    `BatchNormalization`, the book's, has statistics for each activation instead.

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
        Statistics for evaluation, by default 0 and 1, in gamma's dtype. They are replaced by new
        arrays, never changed.

    Attributes
    ----------
    dgamma, dbeta : arrays (C,)
        Set by `backward`.

    Notes
    -----
    A batch is normalised by its biased variance, but running_var averages the unbiased one, as
    PyTorch's ``BatchNorm2d`` does, so that weights can be exchanged. A batch of one value for each
    channel has variance 0, and its output is beta.
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
        """Return an array like x (N, C, H, W), normalised by its batch, or by what runs."""
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
        self.note_statistics(mean, variance, out.size // len(mean))
        return out

    def note_statistics(self, mean: Array, variance: Array, count: int) -> None:
        """Let the running statistics follow a batch.

        Parameters
        ----------
        mean, variance : arrays (C,)
            Of the batch; the variance biased, as `ops.batchnorm2d_train` gives it.
        count : int
            Values for each channel, N*H*W; of none there is nothing to follow.
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

        After a forward in evaluation mode the statistics are constants (the frozen layers of
        transfer learning), and the gradient does not flow through them.
        """
        context = self._forward_context()
        dx, self.dgamma, self.dbeta, _ = ops.batchnorm2d_backward(
            dout, self.gamma, context, input_gradient
        )
        return dx
