"""The front door to a backend: validate, promote, lay out, allocate, call.

Each function checks its arguments once, converts them to one dtype and to the
backend's memory layout (copying only where needed), allocates the outputs and
calls the kernel. A forward function whose gradient is needed also returns a
context for its backward function. The context remembers the backend, so that
backward runs where forward ran.
"""

from .activation import (
    activation_backward,
    activation_forward,
    masked,
    relu_backward,
    relu_forward,
    scaled,
    sigmoid_backward,
    sigmoid_forward,
)
from .arrays import empty_images
from .augment import smooth, tone, warp
from .columns import col2im, im2col
from .conv import (
    conv2d_algorithms,
    conv2d_backward,
    conv2d_block_backward,
    conv2d_block_forward,
    conv2d_forward,
    conv2d_grouped_backward,
    conv2d_grouped_forward,
    runs_blocks,
)
from .dense import affine_backward, affine_forward
from .joins import add, concatenate
from .loss import (
    class_indices,
    expect_smoothing,
    expect_weights,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from .norm import (
    batchnorm2d_backward,
    batchnorm2d_fixed,
    batchnorm2d_infer,
    batchnorm2d_train,
    batchnorm_backward,
    batchnorm_infer,
    batchnorm_train,
    lrn_backward,
    lrn_forward,
)
from .pool import (
    adaptive_avgpool2d_forward,
    avgpool2d_backward,
    avgpool2d_forward,
    maxpool2d_backward,
    maxpool2d_forward,
    subsample,
    subsample_backward,
)
from .updates import adam_update, checked_adam_update

__all__ = [
    "activation_backward",
    "activation_forward",
    "adam_update",
    "adaptive_avgpool2d_forward",
    "add",
    "affine_backward",
    "affine_forward",
    "avgpool2d_backward",
    "avgpool2d_forward",
    "batchnorm2d_backward",
    "batchnorm2d_fixed",
    "batchnorm2d_infer",
    "batchnorm2d_train",
    "batchnorm_backward",
    "batchnorm_infer",
    "batchnorm_train",
    "checked_adam_update",
    "class_indices",
    "col2im",
    "concatenate",
    "conv2d_algorithms",
    "conv2d_backward",
    "conv2d_block_backward",
    "conv2d_block_forward",
    "conv2d_forward",
    "conv2d_grouped_backward",
    "conv2d_grouped_forward",
    "empty_images",
    "expect_smoothing",
    "expect_weights",
    "im2col",
    "lrn_backward",
    "lrn_forward",
    "masked",
    "maxpool2d_backward",
    "maxpool2d_forward",
    "relu_backward",
    "relu_forward",
    "runs_blocks",
    "scaled",
    "sigmoid_backward",
    "sigmoid_forward",
    "smooth",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
    "subsample",
    "subsample_backward",
    "tone",
    "warp",
]
