"""The Cython backend: normalisation of features, of channels and of responses."""

from __future__ import annotations

from ..table import Array
from .compiled import CompiledKernels, by_pixel, last

__all__ = ["NormKernels"]


class NormKernels(CompiledKernels):
    """Normalisation of features, of channels and of responses; see `table.Backend`."""

    def batchnorm_train(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        epsilon: float,
        out: Array,
        normalized: Array,
        mean: Array,
        variance: Array,
    ) -> None:
        self._kernels.batchnorm_train(
            x, gamma, beta, epsilon, out, normalized, mean, variance, self._threads
        )

    def batchnorm_infer(
        self,
        x: Array,
        gamma: Array,
        beta: Array,
        mean: Array,
        variance: Array,
        epsilon: float,
        out: Array,
    ) -> None:
        self._kernels.batchnorm_infer(x, gamma, beta, mean, variance, epsilon, out, self._threads)

    def batchnorm_backward(
        self,
        dout: Array,
        normalized: Array,
        gamma: Array,
        variance: Array,
        epsilon: float,
        dx: Array,
        dgamma: Array,
        dbeta: Array,
    ) -> None:
        self._kernels.batchnorm_backward(
            dout, normalized, gamma, variance, epsilon, dx, dgamma, dbeta, self._threads
        )

    def lrn_forward(
        self,
        x: Array,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        out: Array,
        scale: Array,
    ) -> None:
        """See `table.Backend`."""
        self._kernels.lrn_forward(
            *(by_pixel(x), size, alpha, beta, k, by_pixel(out), by_pixel(scale)), self._threads
        )

    def lrn_backward(
        self,
        dout: Array,
        x: Array,
        scale: Array,
        size: int,
        alpha: float,
        beta: float,
        dx: Array,
    ) -> None:
        """See `table.Backend`."""
        self._kernels.lrn_backward(
            *(by_pixel(dout), by_pixel(x), by_pixel(scale), size, alpha, beta, by_pixel(dx)),
            self._threads,
        )

    def batchnorm2d_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        self._kernels.batchnorm2d_statistics(last(x), mean, variance, self._threads)

    def batchnorm2d_apply(
        self,
        x: Array,
        centre: Array,
        scale: Array,
        shift: Array,
        residual: Array | None,
        relu: bool,
        out: Array,
    ) -> None:
        self._kernels.batchnorm2d_apply(
            last(x), centre, scale, shift, last(residual), relu, last(out), self._threads
        )

    def batchnorm2d_backward(
        self,
        dout: Array,
        gate: Array | None,
        x: Array,
        mean: Array,
        inv_std: Array,
        gamma: Array,
        dx: Array | None,
        dgamma: Array,
        dbeta: Array,
        dresidual: Array | None,
    ) -> None:
        self._kernels.batchnorm2d_backward(
            last(dout),
            last(gate),
            last(x),
            mean,
            inv_std,
            gamma,
            last(dx),
            dgamma,
            dbeta,
            last(dresidual),
            self._threads,
        )
