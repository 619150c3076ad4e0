"""Every function of the kernel table, by backend: group = operation, shape, dtype.

The arrays are handed over as `fastconv.ops` would, in the backend's own layout.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np

import fastconv
from fastconv import selection

from .check import EXACT_TO, assert_same
from .kernel_cases import Case, expected, prepare
from .timing import limited_threads, measure, note


@lru_cache(maxsize=1)  # every backend and dtype of a case in turn
def _inputs_and_expected(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs = case.inputs(np.random.default_rng(0))
    return inputs, expected(case, inputs)


def test_kernel(benchmark: Any, case: Case, dtype: str, backend: str) -> None:
    threads = fastconv.get_num_threads()
    inputs, wanted = _inputs_and_expected(case)
    with limited_threads(threads):
        table = selection.active(backend)
        call = prepare(case, table, dtype, inputs)
        start = time.perf_counter()
        call()
        first = time.perf_counter() - start
        assert_same(call.outputs, wanted, EXACT_TO[dtype], f"{case} {backend} {dtype}")
        measure(benchmark, call, known=first if backend == "numpy" else 0.0)
    note(
        benchmark,
        operation=case.kernel,
        shape=case.label,
        dtype=dtype,
        threads=threads,
        backend=backend,
        flops=case.flops,
        moved=call.moved,
        provider=table.providers[case.kernel],
        first_call_seconds=first,
    )
