"""Compiled kernels of the Cython backend, one extension for each instruction set.

``kernels_*.pyx`` are the same source, `kernels.pxi`, built with other compiler flags;
``cpu`` says which of them this CPU can run.
"""
