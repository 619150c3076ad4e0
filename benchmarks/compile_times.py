"""What the first call of each kernel costs in a new process: started by `test_compile`.

Prints JSON: by kernel, the seconds of the first call and of the second, on the small shape.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from fastconv import selection

from .cases import cases, prepare


def main(backend: str) -> None:
    found: dict[str, list[float]] = {}
    start = time.perf_counter()
    table = selection.active(backend)
    found["loading the backend"] = [time.perf_counter() - start, 0.0]
    for case in cases(full=False):
        call = prepare(case, table, "float32", case.inputs(np.random.default_rng(0)))
        times = []
        for _ in range(2):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        found[str(case)] = times
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
