"""Which instruction sets this CPU and its operating system can run.

Built without any -m flag, since it must run before the kernels of a wider set are imported.
"""

cdef extern from *:
    """
    #if defined(__GNUC__) && defined(__x86_64__)
    #include <cpuid.h>
    #if defined(__linux__)
    #include <sys/syscall.h>
    #include <unistd.h>
    #endif
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
    /* Registers of leaf 7: whether the CPU multiplies bfloat16s. */
    static int has_bit(int subleaf, int edx, int bit) {
        unsigned a, b, c, d;
        if (!__get_cpuid_count(7, subleaf, &a, &b, &c, &d)) return 0;
        return (edx ? d : a) >> bit & 1;
    }
    static int runs_bfloat16(void) {
        return runs_avx512() && has_bit(1, 0, 5);
    }
    /* Whether the CPU has tiles, and the system keeps what is in them (bits 17 and 18). */
    static int runs_tiles(void) {
        enum { AMX_BF16 = 22, AMX_TILE = 24 };
        unsigned kept, more;
        if (!runs_bfloat16() || !has_bit(0, 1, AMX_BF16) || !has_bit(0, 1, AMX_TILE)) return 0;
        __asm__("xgetbv" : "=a"(kept), "=d"(more) : "c"(0));
        return (kept >> 17 & 3) == 3;
    }
    /* A process asks Linux for their memory before it uses them; threads and forks inherit it. */
    static int ask_for(void) {
    #if defined(__linux__)
        enum { REQUEST = 0x1023, TILE_DATA = 18 };
        return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    #else
        return 0;
    #endif
    }
    #else
    static int runs_avx2(void) { return 0; }
    static int runs_avx512(void) { return 0; }
    static int runs_bfloat16(void) { return 0; }
    static int runs_tiles(void) { return 0; }
    static int ask_for(void) { return 0; }
    #endif
    """
    bint runs_avx2()
    bint runs_avx512()
    bint runs_bfloat16()
    bint runs_tiles()
    bint ask_for()


def supported():
    """Instruction sets that can run here, the widest first."""
    widest = ["avx512"] if runs_avx512() else []
    wide = ["avx2"] if runs_avx2() else []
    return (*widest, *wide, "baseline")


def multiplies_bfloat16():
    """By what this CPU multiplies bfloat16s: 2, tiles; 1, vectors; 0, nothing. See pairs.h."""
    return 2 if runs_tiles() else 1 if runs_bfloat16() else 0


def ask_for_tiles():
    """Ask the system for tiles, for all threads of this process; whether it grants them."""
    return ask_for()
