"""The short way: whole operations on little data, beside the kernel table.

A layer on a few samples computes for a microsecond. The checks and allocations of `ops` and the
call through the table take ten times as long, and NumPy itself twice. So a backend has an object
``short`` besides its kernels. Its operations take the caller's arrays as they are: if these are
plain, of one dtype, of matching shapes and small, they allocate the results and compute them.
Otherwise they do nothing and return None, and `ops` takes the long way, which handles every case
and says what is wrong.

Results are those of the kernels, bit for bit. A backend without a ``short`` of its own gets a
`Short`, which leaves everything to the long way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["NumpyShort", "Short"]

FLOATS = {np.dtype(np.float32), np.dtype(np.float64)}

MOST = 1 << 10
"""Largest array for which the overhead of a NumPy call is most of its time."""


class Short:
    """The operations, all of them declined. N samples, D features, M units or classes.

    Attributes
    ----------
    calls : int
        How many operations it has done.
    threads : int
        For optimizer steps on many numbers; all else runs on the caller's thread.
    affine : bool
        Whether it does affine layers in float32; not in the math mode ``bf16``.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.threads = 1
        self.affine = True

    def affine_forward(self, x: Any, weight: Any, bias: Any) -> Any:
        """(x (N, ...), flattened, @ weight (D, M) + bias (M,), and x in the weight's dtype)."""

    def affine_backward(self, dout: Any, x: Any, weight: Any, input_gradient: bool) -> Any:
        """(dx or None, dweight, dbias)."""

    def relu_forward(self, x: Any) -> Any:
        """(out, mask): x where x > 0, else 0; bytes, 1 where x > 0, else 0."""

    def masked(self, x: Any, mask: Any) -> Any:
        """x where the mask, bytes or bools, is not 0, else 0."""

    def sigmoid_forward(self, x: Any) -> Any:
        """1 / (1 + exp(-x))."""

    def sigmoid_backward(self, dout: Any, out: Any) -> Any:
        """dout * (1 - out) * out."""

    def softmax(self, x: Any) -> Any:
        """exp(x) / sum(exp(x)) over the last axis."""

    def cross_entropy(self, y: Any, t: Any) -> Any:
        """Mean of -log(y[label] + 1e-7), for y (N, M) and indices or one-hot rows."""

    def softmax_cross_entropy_forward(self, scores: Any, t: Any, smoothing: float) -> Any:
        """(loss, probabilities (N, M), labels (N,)), for indices or one-hot rows."""

    def softmax_cross_entropy_backward(
        self, p: Any, labels: Any, smoothing: float, scale: float
    ) -> Any:
        """(p - smoothed onehot) * scale."""

    def batchnorm_train(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
        """(out, normalized (N, D), mean, variance (D,))."""

    def batchnorm_backward(
        self, dout: Any, normalized: Any, gamma: Any, variance: Any, epsilon: float
    ) -> Any:
        """(dx (N, D), dgamma, dbeta (D,))."""

    # Optimizer steps on all parameters: dicts of arrays of any size. Each returns whether it
    # was taken; one that was not has changed nothing.

    def sgd(self, params: Any, grads: Any, lr: float) -> bool:
        """p -= lr*g."""
        return False

    def momentum(
        self,
        params: Any,
        grads: Any,
        v: Any,
        lr: float,
        momentum: float,
    ) -> bool:
        """v = momentum*v - lr*g; p += v."""
        return False

    def nesterov(
        self,
        params: Any,
        grads: Any,
        v: Any,
        lr: float,
        momentum: float,
    ) -> bool:
        """p += momentum^2 * v - (1 + momentum)*lr*g; v = momentum*v - lr*g."""
        return False

    def adagrad(self, params: Any, grads: Any, h: Any, lr: float) -> bool:
        """h += g*g; p -= lr*g / (sqrt(h) + 1e-7)."""
        return False

    def rmsprop(
        self,
        params: Any,
        grads: Any,
        h: Any,
        lr: float,
        decay_rate: float,
    ) -> bool:
        """h = decay_rate*h + (1 - decay_rate)*g*g; p -= lr*g / (sqrt(h) + 1e-7)."""
        return False

    def adam(
        self,
        params: Any,
        grads: Any,
        m: Any,
        v: Any,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> bool:
        """As `adam_update` of the kernel table, with lr corrected for bias."""
        return False


def plain(*arrays: Any) -> bool:
    """Whether these are plain, small arrays of one dtype that the kernels compute in."""
    for array in arrays:
        if type(array) is not np.ndarray or not 0 < array.size <= MOST:
            return False
    dtype = arrays[0].dtype
    return dtype in FLOATS and all(array.dtype == dtype for array in arrays)


class NumpyShort(Short):
    """The operations in which few NumPy calls give the kernels' result, bit for bit."""

    def relu_forward(self, x: Any) -> Any:
        """See `Short`."""
        if not plain(x) or not x.flags.c_contiguous:
            return None
        self.calls += 1
        out = x.copy()
        out[x <= 0] = 0
        return out, (x > 0).view(np.uint8)

    def masked(self, x: Any, mask: Any) -> Any:
        """See `Short`."""
        if not plain(x) or type(mask) is not np.ndarray or mask.shape != x.shape:
            return None
        self.calls += 1
        return np.where(mask, x, x.dtype.type(0))

    def sigmoid_backward(self, dout: Any, out: Any) -> Any:
        """See `Short`."""
        if not plain(dout, out) or dout.shape != out.shape:
            return None
        self.calls += 1
        return dout * (1 - out) * out
