"""The kernels for CPUs with AVX-512 (F, BW, DQ, VL)."""

include "kernels.pxi"
