"""Which instruction sets this CPU and its operating system can run.

Built without any -m flag, since it must run before the kernels of a wider set are imported.
"""

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__x86_64__)
    static int runs_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    static int runs_avx512(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
            && runs_avx2();
    }
    #else
    static int runs_avx2(void) { return 0; }
    static int runs_avx512(void) { return 0; }
    #endif
    """
    bint runs_avx2()
    bint runs_avx512()


def supported():
    """Instruction sets that can run here, the widest first."""
    widest = ["avx512"] if runs_avx512() else []
    wide = ["avx2"] if runs_avx2() else []
    return (*widest, *wide, "baseline")
