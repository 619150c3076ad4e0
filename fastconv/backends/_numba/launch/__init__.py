"""How Numba kernels are compiled, kept on disk, run on a team of threads, and repeated."""
