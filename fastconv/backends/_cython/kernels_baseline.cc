// The kernels for every CPU of the platform.

#define PyInit_kernels PyInit_kernels_baseline
#include "kernels.cpp"  // kernels.pyx, translated once for all of them
