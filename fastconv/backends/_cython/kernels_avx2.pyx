"""The kernels for CPUs with AVX2 and FMA."""

include "kernels.pxi"
