"""Numbers that the kernels of both fast backends are built with, and that must agree.

Neither can read the other's: Cython's are constants of C, which its loops unroll by, and Numba is
optional where kernels are built. What is decided before a kernel runs is shared in
``backends/shared/`` and ``backends/algorithms.py``.
"""

from __future__ import annotations

import re

import pytest

from .conftest import CHECKOUT

pytest.importorskip("numba")

from fastconv.backends._numba import (
    augment,
    columns,
    conv_sparse_gradient,
    grouped_depthwise,
    norm,
    norm_images,
    winograd,
)

TWINS = [
    ("augment", "IN_FRONT", augment.IN_FRONT),
    ("augment", "FRAME", augment.FRAME),
    ("augment", "WARP_WORK", augment.WARP_WORK),
    ("columns", "STAGE_BYTES", columns.STAGE_BYTES),
    ("columns", "MANY_RUNS", columns.MANY_RUNS),
    ("columns", "STREAM_BYTES", columns.STREAM_BYTES),
    ("gate", "CLOSED", conv_sparse_gradient.CLOSED),
    ("grouped_depthwise", "PIXELS", grouped_depthwise.PIXELS),
    ("norm", "FEATURES", norm.CHUNK),
    ("norm_images", "WIDTH", norm_images.WIDTH),
    ("norm_images", "TOGETHER", norm_images.TOGETHER),
    ("winograd", "MOST_TILES", winograd.CAPACITY),
    ("winograd", "LONGEST", winograd.CHUNKS[2, 2]),
    ("winograd", "LONGEST", winograd.CHUNKS[4, 4]),
    ("winograd", "LONGEST_WIDE", winograd.CHUNKS[2, 4]),
]


@pytest.mark.parametrize(("file", "name", "numbas"), TWINS)
def test_both_backends_are_built_with_the_same_number(file, name, numbas):
    source = (CHECKOUT / "fastconv" / "backends" / "_cython" / f"{file}.pxi").read_text()
    (value,) = re.findall(rf"^    {name} = ([\w<< ]+?)(?:  #.*)?$", source, re.MULTILINE)
    assert eval(value) == numbas
