// The kernels for CPUs with AVX2 and FMA.

#define PyInit_kernels PyInit_kernels_avx2
#include "kernels.cpp"  // kernels.pyx, translated once for all of them
