"""What the machine can do at most: fused multiply-adds a second, bytes a second.

The multiply-adds are an endless-chain loop written in LLVM's own language and compiled
for this processor: `CHAINS` independent vectors ``a = a*b + c`` in registers and nothing
else. No compiler is needed beyond the one that Numba brings, and no vectoriser decides
how much of the peak is seen. The bytes are those of a copy between arrays larger than
any cache, counted as read plus written.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from functools import cache

import numpy as np

__all__ = ["bandwidth", "fma_peak"]

LOOPS = 1_000_000
COPY_BYTES = 1 << 28
REPEATS = 40
"""Short rounds, and the best of them: other work on the machine only ever takes away."""


def fma_peak(dtype: str, threads: int) -> float:
    """Return the largest rate seen, in floating-point operations a second (an FMA is two).

    Parameters
    ----------
    dtype : {"float32", "float64"}
    threads : int
        Loops running at the same time.
    """
    loop, operations = _fma_loop(dtype)
    return operations * threads / _fastest(lambda _: loop(LOOPS), threads)


def bandwidth(threads: int) -> float:
    """Return the largest rate of a copy, in bytes read plus bytes written a second."""
    source = np.ones(COPY_BYTES // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    return 2 * COPY_BYTES / _fastest(lambda number: np.copyto(*parts[number]), threads)


def _fastest(work: Callable[[int], object], threads: int) -> float:
    """Seconds of the fastest of `REPEATS` rounds of `work` on that many threads at once.

    `work` must release the interpreter's lock. Each thread keeps to a processor of its own:
    left alone, two of them often share one for as long as a round takes, and the peak of
    two threads would come out as that of one.
    """
    best = float("inf")
    # A thread's own choice, which ends with it; where the system has no such call, it decides.
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    for _ in range(REPEATS):
        spans: list[tuple[float, float]] = []
        barrier = threading.Barrier(threads)

        def timed(number: int, barrier=barrier, spans=spans) -> None:
            if processors:
                os.sched_setaffinity(0, {processors[number % len(processors)]})
            barrier.wait()
            start = time.perf_counter()
            work(number)
            spans.append((start, time.perf_counter()))

        workers = [threading.Thread(target=timed, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = min(best, max(end for _, end in spans) - min(start for start, _ in spans))
    return best


@cache
def _fma_loop(dtype: str) -> tuple[Callable[[int], float], int]:
    """The compiled loop, and how many operations `LOOPS` passes are."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    wide = features.get("avx512f", False)
    size = np.dtype(dtype).itemsize
    lanes = (64 if wide else 32 if features.get("avx") else 16) // size
    # Enough chains to cover the latency of every unit, few enough for the registers: x86
    # before AVX-512 has 16 of them, all others 32.
    chains = 12 if features.get("sse2") and not wide else 20
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=2
    )
    text = _loop_text("float" if size == 4 else "double", f"f{8 * size}", lanes, chains)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), target)
    engine.finalize_object()
    result = ctypes.c_float if size == 4 else ctypes.c_double
    function = ctypes.CFUNCTYPE(result, ctypes.c_int64)(engine.get_function_address("loop"))

    def loop(passes: int, engine=engine) -> float:  # the engine owns the machine code
        return function(passes)

    return loop, 2 * LOOPS * lanes * chains


def _loop_text(real: str, suffix: str, lanes: int, chains: int) -> str:
    """LLVM assembly of ``real loop(int64 passes)``."""
    vector = f"<{lanes} x {real}>"
    # 1/2 and 1 are exact in both types, and a*1/2 + 1 stays finite for ever.
    half = "<" + ", ".join([f"{real} 0.5"] * lanes) + ">"
    one = "<" + ", ".join([f"{real} 1.0"] * lanes) + ">"
    fma = f"@llvm.fmuladd.v{lanes}{suffix}"
    # Each chain starts elsewhere: equal ones a compiler may compute once.
    starts = ["<" + ", ".join([f"{real} {k}.0"] * lanes) + ">" for k in range(chains)]
    heads = "\n".join(
        f"  %a{k} = phi {vector} [ {starts[k]}, %entry ], [ %b{k}, %body ]" for k in range(chains)
    )
    bodies = "\n".join(
        f"  %b{k} = call {vector} {fma}({vector} %a{k}, {vector} {half}, {vector} {one})"
        for k in range(chains)
    )
    # Something must depend on every chain, or it would be left out.
    sums = "\n".join(
        f"  %s{k} = fadd {vector} %{'b0' if k == 1 else f's{k - 1}'}, %b{k}"
        for k in range(1, chains)
    )
    return f"""
declare {vector} {fma}({vector}, {vector}, {vector})

define {real} @loop(i64 %passes) {{
entry:
  br label %body
body:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
{heads}
{bodies}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %passes
  br i1 %more, label %body, label %done
done:
{sums}
  %first = extractelement {vector} %s{chains - 1}, i32 0
  ret {real} %first
}}
"""
