"""How Numba kernels are compiled, kept on disk, and run on a team of threads."""
