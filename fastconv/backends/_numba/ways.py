"""Which ways calls took, read from the kernels that ran: `Team.ran` as counts of `Way`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..table import Way
from . import columns, grouped, grouped_depthwise, norm_response, pool, product
from .conv import SIDES
from .conv_few_channels import few_channels
from .conv_sparse_gradient import accumulate_sparse
from .launch.build import Factory
from .launch.team import Ran
from .winograd import winograd
from .winograd_gradient import accumulate_winograd
from .words.pointer import ELEMENTS

__all__ = ["ways_of"]

ALGORITHM = {sides: algorithm for algorithm, sides in SIDES.items()}

Told = tuple[str, str, int]
"""Part, how, and lanes."""

# A fully connected layer is a convolution here: see `conv`.
KERNELS: dict[Factory, Callable[[tuple[int, ...], str], Told]] = {
    product.multiply: lambda c, part: (part, "direct", c[1]),
    product.multiply_pooled: lambda c, part: (part, "direct", c[1]),
    winograd: lambda c, part: (part, ALGORITHM[c[4], c[5]], c[1]),
    few_channels: lambda c, _: ("input_gradient", "few_channels", c[1]),
    product.accumulate: lambda c, _: ("weight_gradient", "direct", c[1]),
    accumulate_winograd: lambda c, _: ("weight_gradient", ALGORITHM[c[4], c[5]], c[1]),
    accumulate_sparse: lambda c, _: ("weight_gradient", "sparse", c[1]),
    grouped_depthwise.depthwise: lambda c, _: ("depthwise", "direct", c[1]),
    grouped_depthwise.depthwise_sums: lambda c, _: ("depthwise_sums", "direct", c[1]),
    grouped.grouped: lambda c, _: ("grouped", "direct", c[1]),
    grouped.grouped_sums: lambda c, _: ("grouped_sums", "direct", c[1]),
    columns.im2col: lambda c, _: ("im2col", "streamed" if c[3] else "cached", c[1]),
    pool.pool_backward: lambda c, _: (
        ("maxpool2d_backward", "tiled" if c[3] else "overlapping", c[2])
    ),
    norm_response.lrn_forward: lambda c, _: ("lrn_forward", "roots" if c[1] else "powers", 1),
    norm_response.lrn_backward: lambda c, _: ("lrn_backward", "roots" if c[1] else "powers", 1),
}
"""The ways that a kernel's constants and its caller's note stand for; others have only one."""


def ways_of(ran: Ran) -> dict[Way, int]:
    """How often each way was taken."""
    found: Counter[Way] = Counter()
    for (factory, constants, note, parallel), count in ran.items():
        if factory in KERNELS:
            part, how, lanes = KERNELS[factory](constants, note)
            dtype = str(ELEMENTS[constants[0]])
            found[Way(part, how, dtype, lanes, parallel)] += count
    return dict(found)
