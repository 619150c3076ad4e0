"""Which way ran, for each algorithm in each build of both fast backends, as the kernels count it.

Expectations are written out here: none comes from `choose` or a backend. Values are compared with
the reference too, so that a kernel that counts a way also computes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet, config, selection
from fastconv.backends import Registry
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import Way
from fastconv.geometry import window_geometry
from fastconv.testing import call_kernel, ways

from .compare import assert_close
from .conftest import ROOT
from .geometries import numbers, whole_numbers

VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64}
FORCED = ("direct", "winograd2", "winograd2x4", "winograd4")
REFERENCE = NumpyBackend()


def cpu_levels() -> list[str]:
    """The instruction sets that this CPU runs, according to NumPy, the narrowest first."""
    has = np._core._multiarray_umath.__cpu_features__
    levels = ["baseline"]
    if has.get("AVX2") and has.get("FMA3"):
        levels.append("avx2")
        if all(has.get(f"AVX512{part}") for part in ("F", "BW", "DQ", "VL")):
            levels.append("avx512")
    return levels


TILES_OF_NARROWER = {"baseline": "winograd2x4", "avx2": "winograd4"}
"""The Winograd algorithm that Numba compiles only for these tests, by instruction set."""


class Build:
    """A backend limited to an instruction set."""

    def __init__(self, name: str, isa: str) -> None:
        if isa not in cpu_levels():
            pytest.skip(f"this CPU does not run {isa}")
        # The process's own first: the first to load Numba decides what LLVM compiles for.
        selection.registry().status(name)
        registry = Registry(isa, config.cache_dir)
        if not (status := registry.status(name)):
            pytest.skip(status.reason)
        self.name, self.isa = name, isa
        self.backend = registry.load(name)

    def lanes(self, dtype: np.dtype) -> int:
        return VECTOR_BYTES[self.isa] // dtype.itemsize

    def on(self, algorithm: str = "auto", threads: int = 1, math_mode: str = "default"):
        """The kernel table, configured."""
        if threads > 1:
            config.note_parallel_work()
        self.backend.configure(threads=threads, math_mode=math_mode, algorithm=algorithm)
        return self.backend

    @property
    def is_for_tests(self) -> bool:
        """Whether Numba compiles it only for these tests, as for a narrower set."""
        return self.name == "numba" and self.isa != cpu_levels()[-1]

    def leaves_out(self, algorithm: str) -> bool:
        """Whether another Winograd algorithm is run instead: each takes seconds to compile."""
        tiles = algorithm.startswith("winograd")
        return self.is_for_tests and tiles and algorithm != TILES_OF_NARROWER[self.isa]

    def way(self, part: str, how: str, dtype: np.dtype, parallel: bool = False) -> Way:
        return Way(part, how, dtype.name, self.lanes(dtype), parallel)


# Numba's kernels take the vector length as a constant, so that each instruction set and dtype takes
# minutes to compile. Sets that this CPU does not use by default are compiled for algorithms only.
EVERY = [("cython", isa, dtype) for isa in VECTOR_BYTES for dtype in ("float32", "float64")]
EVERY += [("numba", "baseline", "float64"), ("numba", "avx2", "float32")]
EVERY += [("numba", "avx512", "float32"), ("numba", "avx512", "float64")]


@pytest.fixture(scope="module", params=EVERY, ids=" ".join)
def every(request) -> tuple[Build, np.dtype]:
    """Each build, with each dtype."""
    name, isa, dtype = request.param
    return Build(name, isa), np.dtype(dtype)


@pytest.fixture(scope="module", params=["cython", "numba"])
def fast(request) -> str:
    if not (status := selection.registry().status(request.param)):
        pytest.skip(status.reason)
    return request.param


@pytest.fixture(scope="module")
def widest(fast) -> Build:
    return Build(fast, cpu_levels()[-1])


BUILDS = [*(f"cython {isa}" for isa in VECTOR_BYTES), "numba"]


@pytest.fixture(scope="module", params=BUILDS)
def build(request) -> Build:
    """Each build of Cython's, and Numba's widest."""
    name, _, isa = request.param.partition(" ")
    return Build(name, isa or cpu_levels()[-1])


def parts_and_hows(taken: Counter[Way]) -> Counter[tuple[str, str]]:
    """How often each part took each way, whatever the dtype and the vectors."""
    found: Counter[tuple[str, str]] = Counter()
    for way, count in taken.items():
        found[way.part, way.how] += count
    return found


def wide(inputs: dict) -> dict:
    """The same inputs in float64."""
    return {
        name: value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in inputs.items()
    }


def told(table, kernel: str, **inputs) -> Counter[Way]:
    """The ways that one call took; its outputs are compared with the reference's."""
    with ways(table) as taken:
        got = call_kernel(table, kernel, **inputs)
    for name, expected in call_kernel(REFERENCE, kernel, **wide(inputs)).items():
        if got[name].dtype.kind == "f":
            assert_close(got[name], expected)
        else:
            np.testing.assert_array_equal(got[name], expected)
    return taken


# ---- what is asked for --------------------------------------------------------------------

FORWARD = {
    "alone": None,
    "relu": {"relu": True, "pool": False, "winner": None},
    "relu and pool": {"relu": True, "pool": True},
    "pool without winner": {"relu": True, "pool": True, "winner": None},
    "residual": {"relu": False, "pool": False, "winner": None, "residual": True},
    "relu and residual": {"relu": True, "pool": False, "winner": None, "residual": True},
}

BACKWARD = ("alone", "relu", "relu and pool")


def forward(dtype, g, filters, what, configured) -> Counter[Way]:
    """The ways of a forward pass, alone or fused."""
    draw = numbers(0, dtype)
    given = {"x": draw(*g.input_shape), "weight": draw(filters, g.c, g.fh, g.fw)}
    given |= {"bias": draw(filters), "geometry": g}
    if (more := FORWARD[what]) is None:
        return told(configured, "conv2d_forward", **given)
    if more.get("pool"):  # rounding must not decide which of four values is the largest
        whole = whole_numbers(0, dtype)
        given |= {name: whole(*given[name].shape) for name in ("x", "weight", "bias")}
    residual = draw(*g.output_shape(filters)) if "residual" in more else None
    return told(configured, "conv2d_block_forward", **given, **more | {"residual": residual})


def backward(dtype, g, filters, what, part, configured) -> Counter[Way]:
    """The ways of one gradient, through whatever was fused to the convolution."""
    rng, draw = np.random.default_rng(0), numbers(0, dtype)
    given = {"x": draw(*g.input_shape), "weight": draw(filters, g.c, g.fh, g.fw), "geometry": g}
    given |= {"dweight": None, "dbias": None} if part == "input_gradient" else {"dx": None}
    n, fn, oh, ow = g.output_shape(filters)
    if what == "alone":
        return told(configured, "conv2d_backward", dout=draw(n, fn, oh, ow), **given)
    if what == "relu":
        gate = np.maximum(draw(n, fn, oh, ow), 0)
    else:
        oh, ow = oh // 2, ow // 2
        gate = rng.integers(0, 5, (n, fn, oh, ow)).astype(np.uint8)
    given |= {"dout": draw(n, fn, oh, ow), "gate": gate, "pool": what == "relu and pool"}
    return told(configured, "conv2d_block_backward", **given)


def rounds_little(algorithm: str, what: str) -> bool:
    """Whether whole numbers stay whole, so that maxima are at the reference's places."""
    return algorithm in ("direct", "winograd2") or "pool" not in what


@pytest.mark.parametrize("algorithm", FORCED)
def test_what_is_asked_for_runs(every, algorithm):
    build, dtype = every
    if build.leaves_out(algorithm):
        pytest.skip("takes seconds to compile; another Winograd algorithm runs")
    g = window_geometry("test", (2, 17, 10, 9), 3, 3, 1, 1)
    for what in FORWARD:
        if rounds_little(algorithm, what):
            taken = forward(dtype, g, 18, what, build.on(algorithm))
            assert taken == {build.way("forward", algorithm, dtype): 1}, what
    for what in BACKWARD:
        for part in ("input_gradient", "weight_gradient"):
            taken = backward(dtype, g, 18, what, part, build.on(algorithm))
            assert taken == {build.way(part, algorithm, dtype): 1}, (what, part)


@pytest.mark.parametrize("algorithm", ["winograd2x4", "winograd4"])
def test_pooled_blocks_run_as_asked(every, algorithm):
    """Values are not compared: tiles that round may choose the other of two equal maxima."""
    build, dtype = every
    if build.leaves_out(algorithm):
        pytest.skip("takes seconds to compile; another Winograd algorithm runs")
    g = window_geometry("test", (2, 17, 10, 9), 3, 3, 1, 1)
    draw, table = numbers(0, dtype), build.on(algorithm)
    given = {"x": draw(*g.input_shape), "weight": draw(18, 17, 3, 3), "bias": draw(18)}
    for more in ({}, {"winner": None}):
        with ways(table) as taken:
            given |= {"geometry": g, "relu": True, "pool": True, "residual": None} | more
            call_kernel(table, "conv2d_block_forward", **given)
        assert taken == {build.way("forward", algorithm, dtype): 1}


@pytest.mark.parametrize("shape", [(2, 17, 10, 9), (3, 33, 8, 8), (1, 5, 11, 12)])
def test_after_pooling_the_weight_gradient_is_sparse(every, shape):
    build, dtype = every
    g = window_geometry("test", shape, 3, 3, 1, 1)
    taken = backward(dtype, g, 18, "relu and pool", "weight_gradient", build.on())
    assert taken == {build.way("weight_gradient", "sparse", dtype): 1}


OTHER_WINDOWS = {
    "5x5": ((2, 17, 9, 8), 5, 5, 1, 2),
    "3x2": ((2, 17, 9, 8), 3, 2, 1, 1),
    "1x1": ((2, 17, 9, 8), 1, 1, 1, 0),
    "stride 2": ((2, 17, 9, 8), 3, 3, 2, 1),
}


@pytest.mark.parametrize("algorithm", FORCED)
@pytest.mark.parametrize("window", OTHER_WINDOWS)
def test_direct_runs_where_the_algorithm_does_not_apply(build, window, algorithm):
    dtype, (shape, *numbers_) = np.dtype(np.float32), OTHER_WINDOWS[window]
    g, table = window_geometry("test", shape, *numbers_), build.on(algorithm)
    taken = forward(dtype, g, 18, "relu", table)
    assert taken == {build.way("forward", "direct", dtype): 1}
    for part in ("input_gradient", "weight_gradient"):
        taken = backward(dtype, g, 18, "relu", part, table)
        # Numba's input gradient with a stride of 2 takes four products.
        assert set(taken) == {build.way(part, "direct", dtype)}


def test_few_channels_have_their_own_input_gradient(every):
    """For channels that fill less than half a vector; by Winograd if that is asked for."""
    build, dtype = every
    most = build.lanes(dtype) // 2
    for channels, how in ((1, "few_channels"), (most, "few_channels"), (most + 1, "direct")):
        for what in BACKWARD:
            g = window_geometry("test", (2, channels, 9, 10), 3, 3, 1, 1)
            taken = backward(dtype, g, 18, what, "input_gradient", build.on("direct"))
            assert taken == {build.way("input_gradient", how, dtype): 1}, (channels, what)
    if build.is_for_tests:
        return  # it would compile one more kernel, and does not depend on vectors
    g = window_geometry("test", (2, 1, 9, 10), 3, 3, 1, 1)
    taken = backward(dtype, g, 18, "alone", "input_gradient", build.on("winograd2"))
    assert taken == {build.way("input_gradient", "winograd2", dtype): 1}


def test_few_channels_take_two_kernels_of_numba_for_all_windows():
    """Each takes a second to compile."""
    if not (status := selection.registry().status("numba")):
        pytest.skip(status.reason)
    from fastconv.backends._numba import conv
    from fastconv.backends._numba.gate import Incoming

    team, shapes = selection.registry().load("numba")._team, set()
    stub = SimpleNamespace(
        machine=team.machine,
        threads=1,
        parts=lambda work: 1,
        run=lambda kernel, constants, *others: shapes.add(constants[2:]),
    )
    for channels, window in product((1, 2, 3), range(2, 8)):
        g = window_geometry("test", (1, channels, 40, 40), window, window, 1, 0)
        dout, weight = (
            np.zeros(g.output_shape(4), "f"),
            np.zeros((4, channels, window, window), "f"),
        )
        dx = np.zeros(g.input_shape, "f")
        conv.few_channels_gradient(stub, Incoming(dout, dout), weight, g, dx)
    _, most, vectors = team.machine.tile(40, 4)
    assert shapes == {(most, vectors), (most // 2, vectors)}


# ---- what is chosen -----------------------------------------------------------------------

# x (N, C, H, W), filters, window, stride, pad, pool, math mode; then what the three parts take.
CHOICES = {
    "128 tiles of 4 x 4": ((8, 16, 16, 16), 16, 3, 1, 1, False, "default", *3 * ["winograd2x4"]),
    "a few tiles less": (
        *((7, 16, 16, 16), 16, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2"),
    ),
    "as few of 32 channels": (
        *((7, 32, 16, 16), 32, 3, 1, 1, False, "default"),
        *("winograd2x4", "winograd2x4", "winograd2"),
    ),
    "31 filters": (
        *((7, 32, 16, 16), 31, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2"),
    ),
    "32 tiles": (
        *((8, 32, 8, 8), 32, 3, 1, 1, False, "default"),
        *("winograd2x4", "winograd2x4", "winograd2"),
    ),
    "31 tiles": ((31, 32, 4, 4), 32, 3, 1, 1, False, "default", *3 * ["winograd2"]),
    "6 pixels wide": ((32, 16, 8, 6), 16, 3, 1, 1, False, "default", *3 * ["winograd2"]),
    "9 pixels wide": ((32, 16, 8, 9), 16, 3, 1, 1, False, "default", *3 * ["winograd2x4"]),
    "255 pairs": (
        *((8, 15, 16, 16), 17, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2x4"),
    ),
    "7 channels": ((8, 7, 16, 16), 64, 3, 1, 1, False, "default", *3 * ["direct"]),
    "7 filters": (
        *((8, 64, 16, 16), 7, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2x4"),
    ),
    "8 tiles": ((1, 32, 8, 16), 32, 3, 1, 1, False, "default", *3 * ["winograd2"]),
    "7 tiles": (
        *((1, 32, 4, 28), 32, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2"),
    ),
    "24 channels a tile": ((1, 192, 8, 16), 32, 3, 1, 1, False, "default", *3 * ["winograd2"]),
    "more channels a tile": (
        *((1, 193, 8, 16), 32, 3, 1, 1, False, "default"),
        *("direct", "direct", "winograd2"),
    ),
    "a pool": (
        *((8, 16, 16, 16), 16, 3, 1, 1, True, "default"),
        *("winograd2x4", "winograd2x4", "sparse"),
    ),
    "a pool, fast": (
        *((8, 16, 16, 16), 16, 3, 1, 1, True, "fast"),
        *("winograd4", "winograd4", "sparse"),
    ),
    "fast": ((8, 16, 16, 16), 16, 3, 1, 1, False, "fast", *3 * ["winograd4"]),
    "fast, 31 tiles": (
        *((31, 32, 4, 4), 32, 3, 1, 1, False, "fast"),
        *("winograd4", "winograd4", "winograd2"),
    ),
    "fast, few channels": ((1, 16, 28, 28), 16, 3, 1, 1, False, "fast", *3 * ["winograd4"]),
    "fast, 2 channels a tile": ((32, 64, 4, 4), 64, 3, 1, 1, False, "fast", *3 * ["winograd4"]),
    "fast, more channels a tile": (
        *((32, 65, 4, 4), 64, 3, 1, 1, False, "fast"),
        *("winograd2x4", "winograd2x4", "winograd4"),
    ),
    "fast, many channels": ((2, 64, 8, 8), 64, 3, 1, 1, False, "fast", *3 * ["winograd2"]),
    "pad 3": (
        *((8, 16, 16, 16), 16, 3, 1, 3, False, "default"),
        *("direct", "direct", "winograd2x4"),
    ),
    "pad 2": ((8, 16, 16, 16), 16, 3, 1, 2, False, "default", *3 * ["winograd2x4"]),
    "stride 2": ((8, 16, 16, 16), 16, 3, 2, 1, False, "fast", *3 * ["direct"]),
    "5x5": ((8, 16, 16, 16), 16, 5, 1, 2, False, "fast", *3 * ["direct"]),
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_is_chosen_runs(widest, dtype, name):
    shape, filters, window, stride, pad, pool, mode, *expected = CHOICES[name]
    g = window_geometry("test", shape, window, window, stride, pad)
    table = widest.on(math_mode=mode)
    what = "relu and pool" if pool else "relu"
    found = []
    draw = numbers(0, dtype)
    given = {"x": draw(*g.input_shape), "weight": draw(filters, g.c, window, window)}
    given |= {"bias": draw(filters), "geometry": g, "residual": None}
    with ways(table) as taken:
        more = {"relu": True, "pool": pool} | ({} if pool else {"winner": None})
        call_kernel(table, "conv2d_block_forward", **given, **more)
    found.append(taken)
    for part in ("input_gradient", "weight_gradient"):
        found.append(backward(dtype, g, filters, what, part, table))
    hows = []
    for taken in found:
        (way,) = taken  # once, or for each phase of a stride
        hows.append(way.algorithm)
    assert hows == expected


def test_a_sparse_gradient_of_other_windows(widest, dtype):
    """Numba's kernel takes only 3 x 3 windows, and the backend says so."""
    g = window_geometry("test", (2, 17, 12, 12), 5, 5, 1, 2)
    how = {"cython": "sparse", "numba": "direct"}[widest.name]
    table = widest.on()
    assert table.conv2d_algorithms(g, 18, True).weight_gradient == how
    taken = backward(dtype, g, 18, "relu and pool", "weight_gradient", table)
    assert taken == {widest.way("weight_gradient", how, dtype): 1}


def test_a_step_of_deepconvnet(fast):
    """From the network down to the kernels: fused, and nothing on the way decides otherwise."""
    fastconv.set_backend(fast)
    fastconv.set_num_threads(1)
    network, rng = DeepConvNet(seed=0), np.random.default_rng(0)
    x, t = rng.random((20, 1, 28, 28)).astype(np.float32), np.arange(20) % 10
    network.gradient(x, t)
    with ways(selection.active()) as taken:
        network.gradient(x, t)
    # For Numba the two fully connected layers are 1 x 1 convolutions.
    dense = {"numba": 2, "cython": 0}[fast]
    convolutions = {
        part_and_how: count
        for part_and_how, count in parts_and_hows(taken).items()
        if not part_and_how[0].startswith(("affine", "maxpool"))
    }
    expected = {
        ("forward", "direct"): 1 + dense,
        ("forward", "winograd2x4"): 5,
        ("input_gradient", "winograd2x4"): 5,
        ("input_gradient", "direct"): dense,
        ("weight_gradient", "direct"): 1 + dense,
        ("weight_gradient", "winograd2x4"): 1,
        ("weight_gradient", "winograd2"): 1,
        ("weight_gradient", "sparse"): 3,
    }
    assert convolutions == {key: count for key, count in expected.items() if count}
    assert {way.lanes for way in taken} == {VECTOR_BYTES[cpu_levels()[-1]] // 4}
    with ways(selection.active()) as taken:
        network.predict(x)
    found = parts_and_hows(taken)
    assert (found["forward", "winograd2x4"], found["forward", "winograd2"]) == (5, 0)


# ---- groups, columns, pooling, normalisation, fully connected ---------------------------------


def grouped(build, dtype, shape, filters, groups, dilation, stride=1, algorithm="auto"):
    """The parts and ways of a grouped or dilated convolution, forward and backward."""
    g = window_geometry("test", shape, 3, 3, stride, dilation, dilation)
    draw, table = numbers(0, dtype), build.on(algorithm)
    x, weight = draw(*shape), draw(filters, shape[1] // groups, 3, 3)
    given = {"x": x, "weight": weight, "geometry": g, "groups": groups}
    forward_ = told(table, "conv2d_grouped_forward", **given, bias=draw(filters))
    dout = draw(*g.output_shape(filters))
    backward_ = told(table, "conv2d_grouped_backward", **given, dout=dout)
    for way in forward_ | backward_:
        assert (way.dtype, way.lanes) == (dtype.name, build.lanes(dtype))
    return set(parts_and_hows(forward_)), set(parts_and_hows(backward_))


@pytest.mark.parametrize(("dilation", "stride"), [(1, 1), (1, 2), (2, 1)])
def test_depthwise(build, dtype, dilation, stride):
    found = grouped(build, dtype, (2, 19, 9, 10), 19, 19, dilation, stride)
    assert found == (
        {("depthwise", "direct")},
        {("depthwise", "direct"), ("depthwise_sums", "direct")},
    )


@pytest.mark.parametrize(
    ("shape", "filters", "groups", "dilation", "stride"),
    [
        ((2, 32, 9, 8), 32, 4, 1, 1),
        ((2, 12, 9, 8), 24, 12, 1, 1),
        ((2, 16, 9, 8), 16, 2, 2, 1),
        ((2, 8, 9, 8), 16, 1, 2, 2),
    ],
    ids=["groups", "a multiplier of 2", "dilated groups", "dilated and strided"],
)
def test_groups(build, dtype, shape, filters, groups, dilation, stride):
    found = grouped(build, dtype, shape, filters, groups, dilation, stride)
    assert found == ({("grouped", "direct")}, {("grouped", "direct"), ("grouped_sums", "direct")})


@pytest.mark.parametrize("algorithm", FORCED)
def test_a_dilated_convolution_runs_as_a_plain_one(build, dtype, algorithm):
    found = grouped(build, dtype, (2, 18, 9, 8), 16, 1, 2, algorithm=algorithm)
    parts = ("input_gradient", "weight_gradient")
    assert found == ({("forward", algorithm)}, {(part, algorithm) for part in parts})


def test_small_groups_are_merged(widest, dtype, monkeypatch):
    """As many groups as fill a vector; one by one if a NaN would spread to other groups."""
    table, lanes, seen = widest.on(), widest.lanes(dtype), []
    of = {"_taps": 1, "_taps_sums": 4}
    for name, place in of.items():
        kernel = getattr(table, name)

        def spy(*given, name=name, place=place, kernel=kernel):
            groups = given[place].shape[0] if name == "_taps" else given[place][0]
            seen.append((name, groups))
            return kernel(*given)

        monkeypatch.setattr(table, name, spy)
    groups = 4 * lanes
    g = window_geometry("test", (1, 2 * groups, 5, 5), 3, 3, 1, 1)
    draw = numbers(0, dtype)
    given = {"x": draw(*g.input_shape), "weight": draw(2 * groups, 2, 3, 3), "geometry": g}
    given |= {"groups": groups}
    bias, dout = draw(2 * groups), draw(*g.output_shape(2 * groups))
    call_kernel(table, "conv2d_grouped_forward", **given, bias=bias)
    call_kernel(table, "conv2d_grouped_backward", **given, dout=dout)
    together = max(1, lanes // 2)
    assert seen == [(name, groups // together) for name in ("_taps", "_taps", "_taps_sums")]
    given["x"][0, 0, 2, 2] = np.nan
    call_kernel(table, "conv2d_grouped_forward", **given, bias=bias)
    assert seen[-1] == ("_taps", groups)


def test_columns_that_no_cache_holds_are_written_past_them(widest, dtype):
    """From 16 MiB on."""
    width = 512 * 4 // dtype.itemsize
    for height, how in ((512, "streamed"), (511, "cached")):
        g = window_geometry("test", (1, 1, height + 3, width + 3), 4, 4, 1, 0)
        assert (16 * height * width * dtype.itemsize >= 1 << 24) == (how == "streamed")
        x, table = numbers(0, dtype)(*g.input_shape), widest.on()
        with ways(table) as taken:
            got = call_kernel(table, "im2col", x=x, geometry=g)["col"]
        windows = np.lib.stride_tricks.sliding_window_view(x[0, 0], (4, 4))
        np.testing.assert_array_equal(got, windows.reshape(height * width, 16))
        assert taken == {widest.way("im2col", how, dtype): 1}


@pytest.mark.parametrize(
    ("window", "stride", "pad", "size", "how"),
    [
        (2, 2, 0, 8, "tiled"),
        (2, 2, 0, 9, "overlapping"),
        (2, 1, 0, 8, "overlapping"),
        (2, 2, 1, 8, "overlapping"),
        (3, 2, 0, 9, "overlapping"),
        (3, 3, 0, 9, {"numba": "tiled", "cython": "overlapping"}),
    ],
)
def test_gradients_of_pools_that_tile_the_image(build, dtype, window, stride, pad, size, how):
    g = window_geometry("test", (2, 17, size, size), window, window, stride, pad)
    table, draw = build.on(), numbers(0, dtype)
    winner = call_kernel(REFERENCE, "maxpool2d_forward", x=draw(*g.input_shape), geometry=g)
    given = {"winner": winner["winner"], "dout": draw(*g.output_shape(17)), "geometry": g}
    how = how if isinstance(how, str) else how[build.name]
    expected = {build.way("maxpool2d_backward", how, dtype): 1}
    assert told(table, "maxpool2d_backward", **given) == expected


def test_max_pooling_chooses_positions_where_they_are_asked_for(build, dtype):
    """By Cython; Numba's kernel always does."""
    if build.name == "numba":
        pytest.skip("has one way")
    g = window_geometry("test", (2, 17, 9, 8), 3, 3, 1, 1)
    given = {"x": numbers(0, dtype)(*g.input_shape), "geometry": g}
    for more, how in (({}, "positions"), ({"winner": None}, "values")):
        taken = told(build.on(), "maxpool2d_forward", **given, **more)
        assert taken == {build.way("maxpool2d_forward", how, dtype): 1}


@pytest.mark.parametrize(("beta", "how"), [(0.75, "roots"), (0.5, "powers"), (0.76, "powers")])
def test_the_usual_power_of_response_normalisation_is_two_roots(widest, dtype, beta, how):
    draw, table = numbers(0, dtype), widest.on()
    x, dout = draw(2, 17, 3, 4), draw(2, 17, 3, 4)
    given = {"x": x, "size": 5, "alpha": 0.5, "beta": beta}
    taken = told(table, "lrn_forward", **given, k=2.0)
    assert parts_and_hows(taken) == {("lrn_forward", how): 1}
    scale = call_kernel(table, "lrn_forward", **given, k=2.0)["scale"]
    taken = told(table, "lrn_backward", **given, dout=dout, scale=scale)
    assert parts_and_hows(taken) == {("lrn_backward", how): 1}


def test_fully_connected_layers(build, dtype):
    """Numba's are 1 x 1 convolutions; Cython has a way for few samples, and two of them forward."""
    table, lanes, draw = build.on(), build.lanes(dtype), numbers(0, dtype)
    cached, streamed = 1 << 10, (1 << 19) // dtype.itemsize // 64 + 1  # features of 64 units
    cases = [
        (3, cached, "few_rows_cached", "few_rows"),
        (3, streamed, "few_rows", "few_rows"),
        (2 * lanes, cached, "few_rows_cached" if 2 * lanes <= 6 else "many_rows", "few_rows"),
        (2 * lanes + 1, cached, "few_rows_cached" if lanes == 2 else "many_rows", "many_rows"),
        (100, 50, "many_rows", "many_rows"),
    ]
    for n, d, out, dx in cases:
        x, weight, bias, dout = draw(n, d), draw(d, 64), draw(64), draw(n, 64)
        found = told(table, "affine_forward", x=x, weight=weight, bias=bias)
        backward_ = told(table, "affine_backward", x=x, weight=weight, dout=dout)
        if build.name == "cython":
            assert found == {build.way("affine_forward", out, dtype): 1}, (n, d)
            assert backward_ == {build.way("affine_input_gradient", dx, dtype): 1}, (n, d)
        else:
            parts = ("input_gradient", "weight_gradient")
            assert found == {build.way("forward", "direct", dtype): 1}
            assert backward_ == {build.way(part, "direct", dtype): 1 for part in parts}


# ---- threads ------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_enough_work_runs_on_several_threads(widest, dtype, threads):
    """Each way runs on as many threads as were asked for, or on one, depending on the work."""
    large = window_geometry("test", (16, 32, 24, 24), 3, 3, 1, 1)
    small = window_geometry("test", (1, 8, 4, 4), 3, 3, 1, 1)
    for g, parallel in ((large, threads > 1), (small, False)):
        draw = numbers(0, dtype)
        x, weight, dout = draw(*g.input_shape), draw(g.c, g.c, 3, 3), draw(*g.output_shape(g.c))
        gate = np.zeros((g.n, g.c, g.oh // 2, g.ow // 2), np.uint8)
        given = {"x": x, "weight": weight, "geometry": g}
        found: Counter[Way] = Counter()
        for algorithm in FORCED:
            table = widest.on(algorithm, threads)
            with ways(table) as taken:
                call_kernel(table, "conv2d_forward", **given, bias=draw(g.c))
                call_kernel(table, "conv2d_backward", **given, dout=dout)
            found |= taken
        table = widest.on("auto", threads)
        with ways(table) as taken:
            pooled = draw(*gate.shape)
            call_kernel(
                *(table, "conv2d_block_backward"), **given, dout=pooled, gate=gate, pool=True
            )
            each = {**given, "weight": weight[:, :1], "groups": g.c}
            call_kernel(table, "conv2d_grouped_backward", **each, dout=dout)
            in_two = {**given, "weight": weight[:, : g.c // 2], "groups": 2}
            call_kernel(table, "conv2d_grouped_forward", **in_two, bias=draw(g.c))
            call_kernel(table, "conv2d_grouped_backward", **in_two, dout=dout)
            call_kernel(table, "im2col", x=x, geometry=g)
        found |= taken
        assert {way.part for way in found} >= {"depthwise_sums", "grouped_sums", "im2col"}
        assert {way.how for way in found} >= {*FORCED, "sparse"}
        assert {way.parallel for way in found} == {parallel}, (g, sorted(found))


THREADS = """
import os, sys
import numpy as np
import fastconv
from fastconv.layers import Convolution
fastconv.set_num_threads(int(sys.argv[2]))
layer = Convolution(np.ones((32, 32, 3, 3), "f4"), pad=1, backend=sys.argv[1])
small, large = np.ones((1, 32, 4, 4), "f4"), np.ones((32, 32, 24, 24), "f4")
counts = []
layer.forward(small)  # what it loads may have threads of its own
for x in (small, large):
    before = len(os.listdir("/proc/self/task"))
    layer.forward(x)
    counts.append(len(os.listdir("/proc/self/task")) - before)
print(*counts)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system lists no threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_the_system_sees_the_threads(fast, threads):
    done = subprocess.run(
        [sys.executable, "-P", "-c", THREADS, fast, str(threads)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    few, many = map(int, done.stdout.split())
    assert few == 0 and many == threads - 1


def test_each_python_thread_counts_its_own(widest, dtype):
    """While others run the same kernels: no count is lost, and none of another thread is seen."""
    table, workers = widest.on("winograd2"), 4
    together, draw = Barrier(workers, timeout=60), numbers(0, dtype)
    g = window_geometry("test", (1, 9, 8, 8), 3, 3, 1, 1)
    other = window_geometry("test", (1, 9, 8, 8), 1, 1, 1, 0)

    def work(number: int) -> Counter[Way]:
        mine = g if number % 2 else other
        given = {"x": draw(*mine.input_shape), "weight": draw(9, 9, mine.fh, mine.fw)}
        given |= {"bias": draw(9), "geometry": mine}
        together.wait()
        with ways(table) as taken:
            for _ in range(50 + number):
                call_kernel(table, "conv2d_forward", **given)
        return taken

    with ways(table) as here, ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(work, range(workers)))
    assert here == {}
    for number, taken in enumerate(found):
        how = "winograd2" if number % 2 else "direct"
        assert taken == {widest.way("forward", how, dtype): 50 + number}


# ---- instruction sets -----------------------------------------------------------------------

LEVEL = """
import sys
import numpy as np
from fastconv import ops, selection
from fastconv.testing import ways
backend = selection.active(sys.argv[1])
with ways(backend) as taken:
    ops.conv2d_forward(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), None, backend=backend.name)
((way, count),) = taken.items()
print(way.lanes, count, backend.describe()["instruction set"].split()[0])
"""


@pytest.mark.parametrize("asked", [None, *VECTOR_BYTES])
def test_the_widest_instruction_set_runs_that_is_allowed(fast, asked):
    if asked not in (None, *cpu_levels()):
        pytest.skip(f"this CPU does not run {asked}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("FASTCONV_MAX_ISA", None)
    if asked:
        environment["FASTCONV_MAX_ISA"] = asked
    done = subprocess.run(
        [sys.executable, "-P", "-c", LEVEL, fast],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    lanes, count, said = done.stdout.split()
    level = asked or cpu_levels()[-1]
    assert (int(lanes), int(count)) == (VECTOR_BYTES[level] // 8, 1)
    assert said.strip(",") == level


# ---- the question itself ------------------------------------------------------------------


def test_a_backend_that_counts_nothing_is_not_asked():
    with pytest.raises(AssertionError, match="numpy: has no method ways_taken"):  # noqa: SIM117
        with ways(selection.active("numpy")):
            pass
    with pytest.raises(AssertionError, match="'cython', expected a loaded backend"):  # noqa: SIM117
        with ways("cython"):  # only its name
            pass


def test_what_ran_before_or_fails_inside_is_told_apart(widest):
    dtype, table = np.dtype(np.float32), widest.on("direct")
    g = window_geometry("test", (1, 3, 5, 5), 3, 3, 1, 1)
    draw = numbers(0, dtype)
    given = {"x": draw(*g.input_shape), "weight": draw(4, 3, 3, 3), "bias": draw(4), "geometry": g}
    call_kernel(table, "conv2d_forward", **given)
    with pytest.raises(ZeroDivisionError), ways(table) as taken:
        call_kernel(table, "conv2d_forward", **given)
        raise ZeroDivisionError
    assert taken == {widest.way("forward", "direct", dtype): 1}
    with ways(table) as taken:
        pass
    assert taken == {}


def test_no_images_take_no_way_forward(build, dtype):
    g = window_geometry("test", (0, 3, 5, 5), 3, 3, 1, 1)
    draw, table = numbers(0, dtype), build.on()
    given = {"x": draw(*g.input_shape), "weight": draw(4, 3, 3, 3), "geometry": g}
    with ways(table) as taken:
        call_kernel(table, "conv2d_forward", **given, bias=draw(4))
    assert taken == {}
