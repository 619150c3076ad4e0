"""Compiled kernels of the Cython backend, one extension for each instruction set.

``kernels_*.cc`` are the same source, `kernels.pyx`, built with other compiler flags;
``cpu`` says which of them this CPU can run.
"""
