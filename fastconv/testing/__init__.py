"""The compliance suite for backends: proof that one keeps the contract of the kernel table.

For authors of a backend, their own tests need one line::

    from fastconv.testing import check_backend

    def test_my_backend():
        check_backend("mine")

`call_kernel` is the strict caller underneath, for tests of one kernel; `ways` counts which ways
kernels took.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import config, selection
from ..backends.numpy import NumpyBackend
from ..backends.table import KERNELS, Backend
from ..geometry import shown_window
from .cases import Case, cases
from .contract import Freedoms
from .narrow import check_bfloat16_images
from .programs import check_programs
from .rounding import rounded_transforms
from .strict import Arguments, call_kernel, is_array, require
from .taken import require_said, says_algorithms, ways

__all__ = ["Report", "call_kernel", "check_backend", "signature_differences", "ways"]

TOLERANCE: dict[np.dtype[Any], float] = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}
"""Largest error, relative to the largest value of the expectation."""

THREADS = (1, 3)
"""With two threads each call is made from several Python threads at once."""

IN_PROGRAMS = ((np.dtype(np.float64), 1), (np.dtype(np.float32), 3))
"""Dtypes and numbers of threads with which programs are compared: all pairs would take long."""

PRODUCTS = ("conv2d", "affine")
"""What the kernels are called that the math mode ``bf16`` changes."""

OF_WINDOWS = {"out": "forward", "dx": "input_gradient", "dweight": "weight_gradient"}
"""Outputs of convolutions, and the part of `ConvAlgorithms` that says how each is computed."""

FORWARD = ("conv2d_forward", "conv2d_grouped_forward", "conv2d_block_forward")
"""Convolutions whose outputs are exact where a window holds only zeros."""


@dataclass
class Report:
    """What `check_backend` has compared.

    Attributes
    ----------
    backend : str
    comparisons : int
        How many kernel calls were compared with the reference.
    largest_error : dict of str to float
        For each kernel, relative to the largest value of the expectation.
    completed : tuple of str
        Kernels that the backend leaves to the reference.
    in_programs : int
        How many calls inside programs were compared with the same calls one by one; 0 for a
        backend without ``program``.
    """

    backend: str
    comparisons: int = 0
    largest_error: dict[str, float] = field(default_factory=dict)
    completed: tuple[str, ...] = ()
    in_programs: int = 0

    def note(self, call: _Call, error: float) -> None:
        """Count one comparison."""
        self.comparisons += 1
        before = self.largest_error.get(call.kernel, 0.0)
        self.largest_error[call.kernel] = max(error, before)


def check_backend(name: str) -> Report:
    """Compare every kernel of a backend with the reference, the way the contract is written.

    In the math mode that is set; if the backend runs in ``bf16``, products in that mode as well.
    Both dtypes; several numbers of threads; inputs read-only and guarded; outputs filled
    with garbage first; windows, strides, padding and channel counts of every awkward kind;
    ties, NaN and infinities; windows of zeros, which give their bias exactly; empty batches;
    the same call twice, and from several Python threads at once. If a backend counts which
    ways its convolutions take, these must be the ways that it says. If it takes images of
    bfloat16s, they give what those of float32 give. If it has a ``program``
    or a ``step_program``, the `fastconv.backends.calls.Run` must compute what its kernels
    compute one by one, bit for bit, also on other inputs, and beside another program in a
    second thread.

    Parameters
    ----------
    name : str
        A registered backend.

    Returns
    -------
    Report

    Raises
    ------
    AssertionError
        The first difference: operation, shapes, dtype, threads, and how large it is.
    UnknownBackend, BackendUnavailable
        There is no such backend here.

    Examples
    --------
    >>> from fastconv.testing import check_backend
    >>> check_backend("numpy").completed
    ()
    """
    backend = selection.active(name)
    reference = NumpyBackend()
    differences = signature_differences(backend)
    require(not differences, "; ".join(differences))
    providers = getattr(backend, "providers", {})
    completed = tuple(kernel for kernel in KERNELS if providers.get(kernel) != backend.name)
    report = Report(backend.name, completed=completed)
    narrow = Freedoms.of(backend).bfloat16_images
    modes = dict.fromkeys((config.get_math_mode(), "bf16"))
    for dtype, mode in itertools.product(TOLERANCE, modes):
        asked = mode == config.get_math_mode()
        if not asked and (dtype.itemsize > 4 or backend.refuses(mode)):
            continue  # float64 is computed as ever in bf16
        reference.configure(threads=1, math_mode=mode, algorithm="auto")
        with _settings(backend, 1, mode):
            calls = [
                _Call(
                    kernel,
                    inputs,
                    0.0 if exact else TOLERANCE[dtype],
                    *_expected(reference, backend, kernel, inputs, exact),
                    _windows_of_zeros(reference, kernel, inputs),
                )
                for kernel, inputs, exact in _with_freedoms(backend, cases(reference, dtype))
                if asked or kernel.startswith(PRODUCTS) or kernel in narrow
            ]
        for threads in THREADS:
            with _settings(backend, threads, mode):
                for call in calls:
                    got, again = call.run(backend), call.run(backend)
                    how = f"{threads} threads" + ("" if asked else f", math mode {mode}")
                    report.note(call, call.compare(got, how))
                    for name in got:
                        same = np.asarray(got[name]).tobytes() == np.asarray(again[name]).tobytes()
                        require(same, f"{call}, {how}: {name} differs when repeated")
                    if mode == "bf16":
                        report.comparisons += check_bfloat16_images(
                            backend, call.kernel, call.inputs, TOLERANCE[dtype], how
                        )
                if (dtype, threads) in IN_PROGRAMS:
                    inputs = [(call.kernel, call.inputs) for call in calls]
                    report.in_programs += check_programs(backend, inputs, dtype, how)
        with _settings(backend, 2, mode), ThreadPoolExecutor(4) as pool:
            for call, got in zip(calls, pool.map(lambda c: c.run(backend), calls), strict=True):
                report.note(call, call.compare(got, "called from 4 Python threads at once"))
    return report


def _with_freedoms(backend: Backend, cases: Iterable[Case]) -> Iterator[Case]:
    """The cases, and those of what the backend says that it can do besides."""
    for kernel, inputs, exact in cases:
        yield kernel, inputs, exact
        if kernel == "maxpool2d_forward" and Freedoms.of(backend).winner_is_optional:
            yield kernel, inputs | {"winner": None}, exact


def signature_differences(backend: Backend) -> list[str]:
    """What differs between the backend's signatures and the table's: names, order, defaults."""
    differences = []
    for method in ("configure", "describe", *KERNELS):
        wanted = list(inspect.signature(getattr(Backend, method)).parameters.values())[1:]
        got = list(inspect.signature(getattr(backend, method)).parameters.values())
        if [(p.name, p.kind, p.default) for p in wanted] != [
            (p.name, p.kind, p.default) for p in got
        ]:
            names = ", ".join(p.name for p in got)
            differences.append(
                f"{backend.name}: {method} takes ({names}), expected "
                f"({', '.join(p.name for p in wanted)})"
            )
    return differences


@dataclass(frozen=True)
class _Call:
    """One kernel call and the reference's answer to it; printed as one line.

    `rounding` says how far outputs may be off besides, value by value. `blank` says which outputs
    of a convolution see only zeros: those are exact.
    """

    kernel: str
    inputs: Arguments
    tolerance: float
    expected: dict[str, Any]
    rounding: dict[str, NDArray[np.float64]]
    blank: NDArray[np.bool_] | None

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        arrays = [f"{n} {a.dtype} {a.shape}" for n, a in self.inputs.items() if is_array(a)]
        g = self.inputs.get("geometry")
        window = [shown_window(g)] if g else []
        return f"{self.kernel}: {', '.join(arrays + window)}"

    def run(self, backend: Backend) -> dict[str, Any]:
        if not says_algorithms(backend, self.kernel):
            return call_kernel(backend, self.kernel, **self.inputs)
        with ways(backend) as taken:
            got = call_kernel(backend, self.kernel, **self.inputs)
        require_said(backend, self.kernel, self.inputs, got, taken)
        return got

    def compare(self, got: dict[str, Any], how: str) -> float:
        """The largest relative error of all outputs, or an AssertionError that says where."""
        where, expected = f"{self}, {how}", self.expected
        require(set(got) == set(expected), f"{where}: gave {sorted(got)}, not {sorted(expected)}")
        largest = 0.0
        for name, wanted in expected.items():
            wanted, result = np.asarray(wanted), np.asarray(got[name])
            plain = np.isfinite(wanted)
            if self.kernel.startswith("conv2d"):  # NaN may spread to neighbouring outputs
                same = not np.isfinite(result[~plain]).any()
                plain &= np.isfinite(result) | bool(plain.all())
            else:
                same = np.array_equal(result[~plain], wanted[~plain], equal_nan=True)
            require(same, f"{where}: {name} has other NaN or infinities than the reference")
            if name == "out" and self.blank is not None:
                self._compare_blank(result, wanted, where)
            if not plain.any():
                continue
            scale = float(np.abs(wanted[plain]).max())
            errors = np.abs(result[plain].astype(np.float64) - wanted[plain])
            allowed = self.tolerance * scale if wanted.dtype.kind == "f" else 0.0
            if name in self.rounding:
                errors = np.maximum(errors - self.rounding[name][plain], 0)
            error = float(errors.max())
            require(
                error <= allowed,  # false also where garbage is left that is NaN
                f"{where}: {name} of shape {result.shape} is off by {error:.3e}, "
                f"allowed {allowed:.3e} (largest value {scale:.3e})"
                + ", besides what rounded transforms may cost"
                * (name in self.rounding),
            )
            largest = max(largest, error / scale if scale else 0.0)
        return largest

    def _compare_blank(self, result: Any, wanted: Any, where: str) -> None:
        """Fail where a window of zeros gives anything but its bias and what follows from that."""
        blank = self.blank & np.isfinite(wanted)
        same = np.array_equal(result[blank], wanted[blank].astype(result.dtype))
        require(same, f"{where}: a window of zeros does not give its bias exactly")


def _windows_of_zeros(
    reference: NumpyBackend, kernel: str, inputs: Arguments
) -> NDArray[np.bool_] | None:
    """Which outputs of a forward convolution see only zeros; after pooling, at all its places."""
    if kernel not in FORWARD:
        return None
    seen: Arguments = {
        **inputs,
        "x": np.asarray(inputs["x"] != 0, np.float64),
        "weight": np.ones(inputs["weight"].shape),
        "bias": np.zeros(inputs["bias"].shape),
    }
    if "residual" in inputs:
        seen |= {"residual": None}
    counts = call_kernel(reference, kernel, **seen)["out"]
    return np.asarray(counts == 0)


def _expected(
    reference: NumpyBackend, backend: Backend, kernel: str, inputs: Arguments, exact: bool
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """The reference's answer in float64, whatever the dtype of the inputs; and `_Call.rounding`.

    Operands are rounded as the math mode says for that dtype. Where the backend says that it rounds
    transforms in their place, they are not, and what that may cost is the rounding.
    """
    single = any(is_array(value) and value.dtype == np.float32 for value in inputs.values())
    wide = {
        name: value.astype(np.float64) if is_array(value) and value.dtype.kind == "f" else value
        for name, value in inputs.items()
    }
    reference.rounded = np.float64 if single else np.float32
    expected = call_kernel(reference, kernel, **wide)
    reference.rounded = np.float32
    rounds = reference.rounds and single and says_algorithms(backend, kernel)
    transformed = _transformed(backend, inputs) if rounds else set()
    if not transformed:
        return expected, {}
    plain = call_kernel(reference, kernel, **wide)
    rounding = {} if exact else rounded_transforms(kernel, wide)
    return (
        {name: plain[name] if name in transformed else expected[name] for name in expected},
        {name: room for name, room in rounding.items() if name in transformed},
    )


def _transformed(backend: Backend, inputs: Arguments) -> set[str]:
    """The outputs of a convolution that the backend says it computes by transforms."""
    said = backend.conv2d_algorithms(  # type: ignore[attr-defined]
        inputs["geometry"], len(inputs["weight"]), bool(inputs.get("pool"))
    )
    return {name for name, part in OF_WINDOWS.items() if getattr(said, part) == "winograd2"}


@contextmanager
def _settings(backend: Backend, threads: int, math_mode: str) -> Iterator[None]:
    """Run the backend on so many threads in this mode, then as the process has chosen."""
    chosen = selection.settings()
    if threads > 1:
        config.note_parallel_work()
    backend.configure(**chosen | {"threads": threads, "math_mode": math_mode})
    try:
        yield
    finally:
        backend.configure(**chosen)
