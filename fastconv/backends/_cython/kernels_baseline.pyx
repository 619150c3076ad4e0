"""The kernels for every CPU of the platform."""

include "kernels.pxi"
