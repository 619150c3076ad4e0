"""The book's layers, and others: ``forward``, then ``backward``, with their state on the layer.

A layer says what is computed. `fastconv.ops` finds the backend that computes it at each forward,
and backward runs where forward ran. The ``backend`` attribute ties a layer to one; None follows
`fastconv.use_backend`, `set_backend` and the environment.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW
windows; D features, M units. Arrays keep the dtype of the input and the
parameters (`np.result_type`; float16 is computed in float32, integers in
float64). Results are (N, C, H, W) by shape, whatever the order of their memory.
"""

from __future__ import annotations

import numpy as np

from ..functions import *  # noqa: F403
from ..functions import __all__ as _function_names
from ..util import col2im, im2col
from .activation import Elu, Gelu, LeakyRelu, Relu, Sigmoid, Silu, Tanh
from .base import Layer
from .containers import AuxiliaryHead, Branches, Chain, Shortcut
from .conv import Convolution
from .dense import Affine
from .dropout import Dropout
from .loss import SoftmaxWithLoss
from .norm import BatchNormalization, BatchNormalization2d, LocalResponseNormalization
from .pool import AdaptiveAveragePooling, AveragePooling, GlobalAveragePooling, Pooling, Subsampling

# Scripts say `from common.layers import *` and then use np, softmax, im2col and the rest.
__all__ = [
    "AdaptiveAveragePooling",
    "Affine",
    "AuxiliaryHead",
    "AveragePooling",
    "BatchNormalization",
    "BatchNormalization2d",
    "Branches",
    "Chain",
    "Convolution",
    "Dropout",
    "Elu",
    "Gelu",
    "GlobalAveragePooling",
    "Layer",
    "LeakyRelu",
    "LocalResponseNormalization",
    "Pooling",
    "Relu",
    "Shortcut",
    "Sigmoid",
    "Silu",
    "SoftmaxWithLoss",
    "Subsampling",
    "Tanh",
    "col2im",
    "im2col",
    "np",
    *_function_names,
]
