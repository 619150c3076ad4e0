# All kernels. Translated once, and compiled by each kernels_*.cc with other flags, under its name.

from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

include "tile.pxi"
include "work.pxi"
include "ways.pxi"
include "product.pxi"
include "pairs.pxi"
include "gate.pxi"
include "winograd_transform.pxi"
include "winograd.pxi"
include "conv.pxi"
include "conv_few_channels.pxi"
include "conv_input_gradient.pxi"
include "conv_weight_gradient.pxi"
include "conv_sparse_gradient.pxi"
include "winograd_gradient.pxi"
include "conv_backward.pxi"
include "grouped_depthwise.pxi"
include "grouped.pxi"
include "pool.pxi"
include "pool_largest.pxi"
include "pool_average.pxi"
include "columns.pxi"
include "dense.pxi"
include "activation.pxi"
include "norm.pxi"
include "norm_images.pxi"
include "norm_images_backward.pxi"
include "norm_response.pxi"
include "loss.pxi"
include "augment.pxi"
include "updates.pxi"
include "short.pxi"
include "program.pxi"


def build_facts():
    """What compiled this: the compiler, and bytes of a vector."""
    return {
        "compiler": COMPILER.decode(), "vector_bytes": VECTOR_BYTES, "bfloat16": bool(HAS_PAIRS)
    }
