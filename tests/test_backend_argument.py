"""Each operation of `ops` computes on the backend that its argument names, and remembers it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastconv
from fastconv import ops

from .stand_ins import add

IMAGES, FILTERS = np.ones((2, 3, 4, 4)), np.ones((3, 3, 3, 3))
ROWS, THREE, TWO = np.ones((2, 3)), np.ones(3), np.ones(2)
STATISTICS = (THREE, THREE, THREE, THREE, 1e-6)

CALLS = {
    "activation_forward": ("activation_forward", (ROWS, "tanh")),
    "adam_update": ("adam_update", (*np.ones((4, 3)), 0.1, 0.9, 0.99, 1e-7)),
    "adaptive_avgpool2d_forward": ("avgpool2d_forward", (IMAGES, 2, 2)),
    "add": ("batchnorm2d_apply", (IMAGES, IMAGES)),
    "affine_forward": ("affine_forward", (ROWS, np.ones((3, 2)), None)),
    "avgpool2d_forward": ("avgpool2d_forward", (IMAGES, 2, 2)),
    "batchnorm2d_fixed": ("batchnorm2d_apply", (IMAGES, *STATISTICS)),
    "batchnorm2d_infer": ("batchnorm2d_apply", (IMAGES, *STATISTICS)),
    "batchnorm2d_train": ("batchnorm2d_statistics", (IMAGES, THREE, THREE, 1e-6)),
    "batchnorm_infer": ("batchnorm_infer", (ROWS, *STATISTICS)),
    "batchnorm_train": ("batchnorm_train", (ROWS, THREE, THREE, 1e-6)),
    "checked_adam_update": ("adam_update", (*np.ones((4, 3)), 0.1, 0.9, 0.99, 1e-7)),
    "col2im": ("col2im", (np.ones((18, 12)), (2, 3, 4, 4), 2, 2)),
    "concatenate": (None, ([IMAGES, IMAGES],)),
    "conv2d_block_forward": ("conv2d_block_forward", (IMAGES, FILTERS, THREE)),
    "conv2d_forward": ("conv2d_forward", (IMAGES, FILTERS, THREE)),
    "conv2d_grouped_forward": ("conv2d_grouped_forward", (IMAGES, FILTERS, THREE)),
    "im2col": ("im2col", (IMAGES, 2, 2)),
    "lrn_forward": ("lrn_forward", (IMAGES, 3, 1.0, 0.75, 1.0)),
    "masked": ("relu_backward", ("relu", ROWS, ROWS > 0)),
    "maxpool2d_forward": ("maxpool2d_forward", (IMAGES, 2, 2)),
    "relu_forward": ("relu_forward", (ROWS,)),
    "sigmoid_forward": ("activation_forward", (ROWS,)),
    "sigmoid_backward": (None, (ROWS, ROWS)),
    "smooth": ("smooth", (IMAGES, THREE)),
    "softmax_cross_entropy_forward": ("softmax_cross_entropy_forward", (ROWS, [0, 1])),
    "subsample": (None, (IMAGES, 2, 3)),
    "subsample_backward": (None, (IMAGES, 2, (2, 3, 8, 8))),
    "tone": ("tone", (IMAGES, TWO, TWO, np.zeros((2, 4), int))),
    "warp": ("warp", (IMAGES, np.ones((2, 2, 3)))),
}
"""For each operation: the kernel that it calls, if any, and arguments."""

ALWAYS_FIRST = ("warp", "smooth", "tone")
"""Operations whose images are channels first on every backend."""

TAKING = {
    name
    for name in ops.__all__
    if inspect.isfunction(getattr(ops, name))
    and "backend" in inspect.signature(getattr(ops, name)).parameters
}
ABOUT_BACKENDS = {"conv2d_algorithms", "runs_blocks"}


def test_no_operation_is_left_out():
    assert set(CALLS) == TAKING - ABOUT_BACKENDS


@pytest.mark.parametrize("layouts", [("channels_first", "channels_last"), ("channels_last",) * 2])
@pytest.mark.parametrize("name", CALLS)
def test_an_operation_runs_where_its_argument_says(registry, name, layouts):
    """Its kernel, its layout, and what backward remembers; and the default without an argument."""
    (chosen,), (named,) = (
        add(registry, stand_in, layout=layout)
        for stand_in, layout in zip(("chosen", "named"), layouts, strict=True)
    )
    kernel, arguments = CALLS[name]
    operation = getattr(ops, name)
    with fastconv.use_backend("chosen"):
        result = operation(*arguments, backend="named")
        assert chosen.calls == []
        assert kernel is None or kernel in named.calls
        named.calls.clear()
        operation(*arguments)
        assert named.calls == []
        assert kernel is None or kernel in chosen.calls
    parts = result if isinstance(result, tuple) else (result,)
    assert all(getattr(part, "backend", "named") == "named" for part in parts)
    if np.ndim(parts[0]) == 4 and name not in (*ALWAYS_FIRST, "col2im"):
        in_last = parts[0].transpose(0, 2, 3, 1).flags.c_contiguous
        assert in_last == (layouts[1] == "channels_last")
