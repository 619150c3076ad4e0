"""The vocabulary of the Numba kernels: memory, and tiles of vectors in registers."""
