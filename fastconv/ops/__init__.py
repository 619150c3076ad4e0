"""The front door to a backend: validate, promote, lay out, allocate, call.

Each function checks its arguments once, brings them to one dtype and to the
backend's memory layout (copying only what is not in it yet), allocates the
outputs and calls the kernel. A forward function whose gradient is needed also
returns a context that its backward function takes; it remembers the backend, so
that backward runs where forward ran.
"""

from .arrays import empty_images
from .blocks import (
    conv2d_algorithms,
    conv2d_block_backward,
    conv2d_block_forward,
    runs_blocks,
)
from .dense import (
    adam_update,
    affine_backward,
    affine_forward,
    batchnorm_backward,
    batchnorm_infer,
    batchnorm_train,
    relu_backward,
    relu_forward,
)
from .images import (
    col2im,
    conv2d_backward,
    conv2d_forward,
    im2col,
    maxpool2d_backward,
    maxpool2d_forward,
)
from .loss import (
    class_indices,
    expect_smoothing,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

__all__ = [
    "adam_update",
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_infer",
    "batchnorm_train",
    "class_indices",
    "col2im",
    "conv2d_algorithms",
    "conv2d_backward",
    "conv2d_block_backward",
    "conv2d_block_forward",
    "conv2d_forward",
    "empty_images",
    "expect_smoothing",
    "im2col",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "relu_backward",
    "relu_forward",
    "runs_blocks",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]
