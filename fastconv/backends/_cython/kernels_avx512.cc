// The kernels for CPUs with AVX-512 (F, BW, DQ, VL).

#define PyInit_kernels PyInit_kernels_avx512
#include "kernels.cpp"  // kernels.pyx, translated once for all of them
