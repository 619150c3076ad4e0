"""The Cython backend: compiled kernels for channels-last memory, on OpenMP threads.

This is glue. The kernels are in ``_cython``, built once for each instruction set; here
one of those builds is chosen, and arrays are handed over as the kernels want them:
images as their C-contiguous (N, H, W, C) view.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import ArgumentError, BackendUnavailable
from ..geometry import WindowGeometry
from .algorithms import Algorithm, ConvAlgorithms, choose
from .base import Array, Bytes, Labels, Layout
from .cython_activations import CythonActivations
from .cython_augment import CythonAugment
from .cython_avgpool2d import CythonAvgPool2d
from .cython_batchnorm2d import CythonBatchNorm2d
from .cython_grouped import CythonGrouped
from .short import Short

__all__ = ["CythonBackend", "create"]

ISA_LEVELS = ("baseline", "avx2", "avx512")
"""Builds of the kernels, the narrowest vectors first."""

CODES: dict[Algorithm, int] = {
    "direct": 0,
    "winograd2": 1,
    "winograd2x4": 2,
    "winograd4": 3,
    "sparse": 4,
}
"""The kernels' numbers for the ways to compute a convolution; see winograd_transform.pxi."""

BUILD_REASON = Path(__file__).parent / "_cython" / "_build_reason.txt"
"""Where the build wrote what it could not compile, and why; see setup.py."""

REMEDY = (
    "install a C++ compiler with OpenMP (gcc, or clang with libomp) and reinstall fastconv with "
    "FASTCONV_REQUIRE_EXTENSION=1, which stops at the first error"
)


def create(max_isa: str | None = None) -> CythonBackend:
    """Return the backend with the widest kernels that were built and that this CPU runs.

    Parameters
    ----------
    max_isa : {"baseline", "avx2", "avx512"}, optional
        Widest instruction set to use.

    Raises
    ------
    BackendUnavailable
        No kernels were built, or none of them can be loaded.
    ArgumentError
        An unknown instruction set.
    """
    if max_isa is not None and max_isa not in ISA_LEVELS:
        raise ArgumentError(
            f"cython: max_isa must be one of {', '.join(ISA_LEVELS)}, got {max_isa!r}"
        )
    try:
        cpu = _extension("cpu")
    except ImportError as error:
        raise BackendUnavailable(_missing(error)) from error
    allowed = ISA_LEVELS if max_isa is None else ISA_LEVELS[: ISA_LEVELS.index(max_isa) + 1]
    runs = cpu.supported()
    passed = [] if len(allowed) == len(ISA_LEVELS) else [f"clamped to {max_isa}"]
    failure: ImportError | None = None
    for isa in reversed(allowed):
        if isa not in runs:
            passed.append(f"the CPU lacks {isa}")
            continue
        try:
            kernels = _extension(f"kernels_{isa}")
        except ImportError as error:
            failure = error
            passed.append(f"no build for {isa} ({error})")
            continue
        return CythonBackend(kernels, isa, "; ".join(passed) or "the widest there is")
    raise BackendUnavailable(_missing(failure)) from failure


def _extension(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}._cython.{name}")


def _missing(error: ImportError | None) -> str:
    """Why there are no kernels: what the build wrote down, else what importing them said."""
    try:
        reason = BUILD_REASON.read_text(encoding="utf-8").strip().replace("\n", "; ")
    except FileNotFoundError:
        reason = f"the compiled kernels are missing ({error})"
    return f"cython: {reason}. Remedy: {REMEDY}."


def _last(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) in channels-last memory as its C-contiguous view (N, H, W, C)."""
    return images.transpose(0, 2, 3, 1)


class CythonBackend(
    CythonActivations, CythonAugment, CythonAvgPool2d, CythonBatchNorm2d, CythonGrouped
):
    """The kernel table in Cython; see `fastconv.backends.base.Backend` for each contract.

    Parameters
    ----------
    kernels : module
        One of ``_cython.kernels_*``.
    isa : str
        Its instruction set.
    why : str
        Why this one was chosen.
    """

    name = "cython"
    layout: Layout = "channels_last"

    def __init__(self, kernels: ModuleType, isa: str, why: str) -> None:
        self._kernels = kernels
        self._isa = isa
        self._why = why
        self.short: Short = kernels.Short()
        self._threads = 1
        self._math_mode = "default"
        self._algorithm = "auto"

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        self._threads = self.short.threads = threads
        self._math_mode = math_mode
        self._algorithm = algorithm

    def describe(self) -> dict[str, str]:
        facts = self._kernels.build_facts()
        bits = 8 * facts["vector_bytes"]
        return {
            "instruction set": f"{self._isa} ({bits}-bit vectors; {self._why})",
            "threading": f"OpenMP {facts['openmp']}",
            "threads": str(self._threads),
            "compiler": facts["compiler"],
        }

    # ---- columns ------------------------------------------------------------------

    def im2col(self, x: Array, geometry: WindowGeometry, col: Array) -> None:
        g = geometry
        self._kernels.im2col(x, col, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow, self._threads)

    def col2im(self, col: Array, geometry: WindowGeometry, x: Array) -> None:
        g = geometry
        self._kernels.col2im(col, x, g.fh, g.fw, g.stride, g.pad, g.oh, g.ow, self._threads)

    # ---- convolution --------------------------------------------------------------

    def conv2d_forward(
        self, x: Array, weight: Array, bias: Array, geometry: WindowGeometry, out: Array
    ) -> None:
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), False)
        self._kernels.conv2d_forward(
            _last(x),
            weight,
            bias,
            _last(out),
            g.stride,
            g.pad,
            CODES[ways.forward],
            self._threads,
        )

    def conv2d_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), False)
        self._kernels.conv2d_backward(
            _last(dout),
            _last(x),
            weight,
            None if dx is None else _last(dx),
            dweight,
            dbias,
            g.stride,
            g.pad,
            CODES[ways.input_gradient],
            CODES[ways.weight_gradient],
            self._threads,
        )

    def conv2d_algorithms(
        self, geometry: WindowGeometry, filters: int, pooled: bool
    ) -> ConvAlgorithms:
        """How a convolution of this shape is computed."""
        return choose(geometry, filters, pooled, self._math_mode, self._algorithm)

    # ---- convolution blocks -------------------------------------------------------

    def conv2d_block_forward(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        residual: Array | None,
        geometry: WindowGeometry,
        relu: bool,
        pool: bool,
        out: Array,
        winner: Bytes | None,
    ) -> None:
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), pool)
        self._kernels.conv2d_block_forward(
            _last(x),
            weight,
            bias,
            None if residual is None else _last(residual),
            _last(out),
            None if winner is None else _last(winner),
            relu,
            pool,
            g.oh,
            g.ow,
            g.stride,
            g.pad,
            CODES[ways.forward],
            self._threads,
        )

    def conv2d_block_backward(
        self,
        dout: Array,
        gate: Array | Bytes,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        pool: bool,
        dx: Array | None,
        dweight: Array | None,
        dbias: Array | None,
    ) -> None:
        g = geometry
        ways = self.conv2d_algorithms(g, len(weight), pool)
        self._kernels.conv2d_block_backward(
            _last(dout),
            None if pool else _last(gate),
            _last(gate) if pool else None,
            _last(x),
            weight,
            None if dx is None else _last(dx),
            dweight,
            dbias,
            g.oh,
            g.ow,
            g.stride,
            g.pad,
            CODES[ways.input_gradient],
            CODES[ways.weight_gradient],
            self._threads,
        )

    # ---- max pooling --------------------------------------------------------------

    def maxpool2d_forward(
        self, x: Array, geometry: WindowGeometry, out: Array, winner: Bytes
    ) -> None:
        g = geometry
        self._kernels.maxpool2d_forward(
            _last(x), _last(out), _last(winner), g.fh, g.fw, g.stride, g.pad, self._threads
        )

    def maxpool2d_backward(
        self, dout: Array, winner: Bytes, geometry: WindowGeometry, dx: Array
    ) -> None:
        g = geometry
        self._kernels.maxpool2d_backward(
            _last(dout), _last(winner), _last(dx), g.fh, g.fw, g.stride, g.pad, self._threads
        )

    # ---- fully connected ----------------------------------------------------------

    def affine_forward(self, x: Array, weight: Array, bias: Array, out: Array) -> None:
        self._kernels.affine_forward(x, weight, bias, out, self._threads)

    def affine_backward(
        self,
        dout: Array,
        x: Array,
        weight: Array,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        self._kernels.affine_backward(dout, x, weight, dx, dweight, dbias, self._threads)

    # ---- elementwise --------------------------------------------------------------

    def relu_forward(self, x: Array, out: Array, mask: Bytes) -> None:
        self._kernels.relu_forward(x, out, mask, self._threads)

    def relu_backward(self, dout: Array, mask: Bytes, dx: Array) -> None:
        self._kernels.relu_backward(dout, mask, dx, self._threads)

    # ---- batch normalisation ------------------------------------------------------

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

    # ---- softmax with cross-entropy -----------------------------------------------

    def softmax_cross_entropy_forward(
        self, scores: Array, labels: Labels, smoothing: float, probabilities: Array
    ) -> float:
        return float(
            self._kernels.softmax_cross_entropy_forward(
                scores, labels, smoothing, probabilities, self._threads
            )
        )

    def softmax_cross_entropy_backward(
        self,
        probabilities: Array,
        labels: Labels,
        smoothing: float,
        scale: float,
        dscores: Array,
    ) -> None:
        self._kernels.softmax_cross_entropy_backward(
            probabilities, labels, smoothing, scale, dscores
        )

    # ---- the optimizer's step -----------------------------------------------------

    def adam_update(
        self,
        param: Array,
        grad: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        self._kernels.adam_update(param, grad, m, v, lr, beta1, beta2, epsilon, self._threads)
