"""Local response normalisation, as AlexNet and GoogLeNet have it.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .. import ops
from .base import Array, Layer

__all__ = ["LocalResponseNormalization"]


class LocalResponseNormalization(Layer):
    """x / (k + alpha/size * (sum of squares over `size` channels around))**beta.

    Channel c sees the channels c - size//2, ..., c + (size - 1)//2 that there are.

    Parameters
    ----------
    size : int
        How many channels, at least 1.
    alpha : float
        At least 0. It is divided by the size, as in PyTorch's ``LocalResponseNorm``; the
        alpha of the AlexNet paper (section 3.3: k=2, n=5, alpha=1e-4, beta=0.75) is not, and
        corresponds to one of ``size`` times as much here.
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
