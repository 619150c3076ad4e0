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

from .cases import Arguments, Case, expected, prepare, winners_may_round
from .check import EXACT_TO, assert_same, assert_winners
from .timing import limited_threads, measure, note


@lru_cache(maxsize=1)  # every backend and dtype of a case in turn
def _inputs_and_expected(case: Case) -> tuple[Arguments, Arguments, np.ndarray | None]:
    """(inputs, the reference's outputs, `case.places` of the inputs)."""
    inputs = case.inputs(np.random.default_rng(0))
    return inputs, expected(case, inputs), case.places and case.places(inputs)


def test_kernel(benchmark: Any, case: Case, dtype: str, backend: str) -> None:
    threads = fastconv.get_num_threads()
    inputs, wanted, places = _inputs_and_expected(case)
    with limited_threads(threads):
        table = selection.active(backend)
        call = prepare(case, table, dtype, inputs)
        start = time.perf_counter()
        call()
        first = time.perf_counter() - start
        what = f"{case} {backend} {dtype}"
        if places is not None and winners_may_round(case, table, inputs):
            assert_winners(call.outputs["winner"], places, EXACT_TO[dtype], what)
            wanted = wanted | {"winner": None}
        assert_same(call.outputs, wanted, EXACT_TO[dtype], what)
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
