"""Programs of predictions leave out what nobody reads, and kernels write where branches meet.

The kernels are compared with themselves on memory of their own; what they compute there, and what
whole networks predict, is compared elsewhere (`check_backend`, test_prepared).
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv import config, selection, testing
from fastconv.backends.algorithms import CONSTANT, forward_by
from fastconv.backends.calls import MOVE, Call
from fastconv.backends.numpy import NumpyBackend
from fastconv.geometry import window_geometry
from fastconv.layers import Branches, Chain, Pooling, Relu
from fastconv.models import make_model
from fastconv.network import Network
from fastconv.network.rewriting import rewritten
from fastconv.testing import call_kernel, check_backend, ways
from fastconv.testing.contract import ContractBroken

from . import naive
from .compare import assert_close
from .geometries import FEW_CHANNELS, SEEDS, THREADS, geometries, moved, numbers
from .layer_rows import Draw
from .stand_ins import StandIn
from .test_ways import FORCED, VECTOR_BYTES, Build, cpu_levels, parts_and_hows

SHAPE = (2, 16, 9, 11)
STRANGE = 77.5  # what nothing computes


@pytest.fixture(scope="module", params=list(VECTOR_BYTES))
def build(request):
    return Build("cython", request.param)


@pytest.fixture
def cython():
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    return selection.active("cython")


def images(shape, dtype, layout="channels_last"):
    """Memory for images (N, C, H, W), filled with a strange number."""
    n, c, h, w = shape
    if layout == "channels_first":
        return np.full(shape, STRANGE, dtype)
    return np.full((n, h, w, c), STRANGE, dtype).transpose(0, 3, 1, 2)


# ---- kernels that write between others' channels ------------------------------------------


def expect_same_among_channels(table, kernel, first, **inputs):
    """From channel `first` on, it writes what it writes into memory of its own, and no more."""
    alone = call_kernel(table, kernel, **inputs)["out"]
    n, c, h, w = alone.shape
    whole, x = images((n, first + c + 5, h, w), alone.dtype), images(inputs["x"].shape, alone.dtype)
    x[...] = inputs["x"]
    last = first + c
    getattr(table, kernel)(**inputs | {"x": x, "out": whole[:, first:last]})
    assert whole[:, first:last].tobytes() == alone.tobytes()
    assert (whole[:, :first] == STRANGE).all() and (whole[:, last:] == STRANGE).all()


@pytest.mark.parametrize("mode", ["default", "bf16"])
@pytest.mark.parametrize("algorithm", FORCED)
def test_convolutions(build, dtype, algorithm, mode):
    if mode == "bf16":
        if reason := build.backend.refuses(mode):
            pytest.skip(reason)
        if dtype == np.float64 or algorithm not in ("direct", "winograd2"):
            pytest.skip("as in the default mode, or never there")
    draw, table = numbers(0, dtype), build.on(algorithm, 2, mode)
    for (window, stride, pad), filters in (((3, 1, 1), 37), ((1, 1, 0), 32), ((3, 2, 1), 16)):
        g = window_geometry("test", SHAPE, window, window, stride, pad)
        inputs = {"x": draw(*SHAPE), "weight": draw(filters, 16, window, window)}
        inputs |= {"bias": draw(filters), "geometry": g}
        block = {"residual": None, "relu": True, "pool": False, "winner": None}
        with ways(table) as taken:
            expect_same_among_channels(table, "conv2d_forward", 3, **inputs)
            expect_same_among_channels(table, "conv2d_block_forward", 16, **inputs, **block)
        applies = (window, stride) == (3, 1)
        assert {way.how for way in taken} == {algorithm if applies else "direct"}


def test_max_pooling(build, dtype):
    for shape, stride, pad in ((SHAPE, 1, 1), (SHAPE, (2, 1), ((0, 1), (2, 0))), (SHAPE, 3, 0)):
        g = window_geometry("test", shape, 3, 3, stride, pad)
        inputs = {"x": numbers(0, dtype)(*shape), "geometry": g, "winner": None}
        expect_same_among_channels(build.on(), "maxpool2d_forward", 7, **inputs)


# ---- max pooling without positions --------------------------------------------------------


@settings(max_examples=25)
@given(geometries(FEW_CHANNELS, pooling=True), st.booleans(), SEEDS, THREADS)
def test_the_largest_values_need_no_positions(dtype, fine_grained, g, ceil, seed, threads):
    x, chance = numbers(seed, dtype)(*g.input_shape), numbers(seed + 1, dtype)(*g.input_shape)
    x[chance > 1.5], x[chance < -1] = np.nan, -np.inf
    g = window_geometry("test", g.input_shape, g.fh, g.fw, *moved(g), ceil_mode=ceil)
    expected, _ = naive.maxpool2d(x, g.fh, g.fw, *moved(g), ceil=ceil)
    tables = [NumpyBackend(), *(Build("cython", isa).on(threads=threads) for isa in cpu_levels())]
    for table in tables:
        got = call_kernel(table, "maxpool2d_forward", x=x, geometry=g, winner=None)["out"]
        np.testing.assert_array_equal(got, expected)


# ---- which calls are rewritten --------------------------------------------------------------


class Watched(StandIn):
    """A backend that notes how `out` and `winner` of its calls are; their check is StandIn's."""

    def __init__(self, **freedoms):
        super().__init__("mine", "channels_last")
        vars(self).update(freedoms)
        self.seen = []

    def _watched(self, kernel, function):
        checked, signature = super()._watched(kernel, function), inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments, **named):
            given = signature.bind(*arguments, **named).arguments
            if kernel in ("conv2d_block_forward", "maxpool2d_forward"):
                among = not given["out"].transpose(0, 2, 3, 1).flags.c_contiguous
                self.seen.append((kernel, among, given["winner"] is not None))
            return checked(**given)

        return call


POOLING_ALONE = {"into_channels": {"maxpool2d_forward"}, "winner_is_optional": True}


def branches(backend):
    draw = Draw("float32")
    row = [Chain([draw.conv(5, 3), Relu()]), Pooling(3, 3, 1, 1), Chain([draw.conv(4, 3), Relu()])]
    return Network([Branches(row)], "float32", backend)


@pytest.mark.parametrize(
    ("freedoms", "convolutions", "pooling"),
    [
        ({}, False, (False, True)),
        ({"winner_is_optional": True}, False, (False, False)),
        ({"into_channels": {"conv2d_block_forward"}}, True, (False, True)),
        ({"into_channels": {"maxpool2d_forward"}}, False, (False, True)),
        (
            {"into_channels": {"maxpool2d_forward"}, "winner_is_optional": True},
            False,
            (True, False),
        ),
    ],
    ids=["nothing", "winner", "convolution", "pooling with winner", "pooling without"],
)
def test_a_backend_gets_what_it_says_that_it_takes(registry, freedoms, convolutions, pooling, rng):
    mine = Watched(**freedoms)
    registry.register("mine", lambda: mine)
    network = branches("mine")
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    expected, prepared = network.predict(x), network.prepare(x.shape)
    assert not any(among or not winner for kernel, among, winner in mine.seen if "max" in kernel)
    mine.seen.clear()
    np.testing.assert_array_equal(prepared.predict(x), expected)
    one = "conv2d_block_forward", convolutions, False
    assert mine.seen == [one, ("maxpool2d_forward", *pooling), one]


def test_a_winner_that_is_needed_is_missed():
    g = window_geometry("test", SHAPE, 3, 3)
    x, out = images(SHAPE, "float32"), images(g.output_shape(16), "float32")
    with pytest.raises(ContractBroken, match="maxpool2d_forward: winner is missing"):
        Watched().maxpool2d_forward(x=x, geometry=g, out=out, winner=None)


# What is not rewritten, each by one change of two calls that are.
ABLE = SimpleNamespace(into_channels={"conv2d_forward", "conv2d_block_forward"})


def steps_of_two_branches(backend=ABLE, dtype="float32", layout="channels_last", **more):
    """A convolution, copied to the first channels of others, and what it takes to change that."""
    made, other = images((2, 4, 3, 5), "float32"), images((2, 6, 3, 5), "float32")
    joined = images((2, 10, 3, 5), dtype, layout)
    first = Call(backend, "conv2d_forward", {"x": images(SHAPE, "float32"), "out": made} | more)
    move = Call(None, MOVE, {"source": made, "factor": 1, "out": joined[:, :4]})
    beside = Call(None, MOVE, {"source": other, "factor": 1, "out": joined[:, 4:]})
    return [first, move, beside], made, joined


def test_a_convolution_writes_where_it_would_be_copied():
    steps, _, joined = steps_of_two_branches()
    (new, old), (beside, same) = rewritten(steps, joined)
    assert old is steps[0] and beside is same is steps[2]
    assert (new.kernel, new.backend, new.arguments["x"]) == (
        *("conv2d_forward", ABLE),
        old.arguments["x"],
    )
    place = new.arguments["out"]
    assert (place.ctypes.data, place.strides) == (joined.ctypes.data, joined.strides)


def scaled(steps, made, joined):
    steps[1].arguments["factor"] = 0.5


def read_twice(steps, made, joined):
    steps.append(Call(None, MOVE, {"source": made, "factor": 1, "out": np.empty(made.shape)}))


def written_in_two_steps(steps, made, joined):
    steps.insert(1, Call(None, MOVE, {"source": made * 2, "factor": 1, "out": made[:1]}))


def made_in_part(steps, made, joined):
    steps[0].arguments["out"] = made[:1]


def read_before(steps, made, joined):
    steps.insert(
        0, Call(None, MOVE, {"source": joined, "factor": 1, "out": np.empty(joined.shape)})
    )


def written_over(steps, made, joined):
    steps[2].arguments["out"] = joined[:, 3:9]


def written_by_a_kernel(steps, made, joined):
    steps[2] = Call(ABLE, "relu_forward", {"x": joined * 2, "out": joined, "mask": None})


@pytest.mark.parametrize(
    "change",
    [
        *(scaled, read_twice, written_in_two_steps, made_in_part, read_before, written_over),
        written_by_a_kernel,
    ],
)
def test_steps_that_others_would_notice_stay(change):
    steps, made, joined = steps_of_two_branches()
    change(steps, made, joined)
    assert [new for new, _ in rewritten(steps, joined)] == steps


@pytest.mark.parametrize(
    "more",
    [
        *({"backend": SimpleNamespace()}, {"dtype": "float64"}, {"layout": "channels_first"}),
        *({"residual": np.ones(1)}, {"winner": np.ones(1)}, {"pool": True}),
    ],
)
def test_calls_that_no_backend_takes_stay(more):
    steps, _, joined = steps_of_two_branches(**more)
    assert [new for new, _ in rewritten(steps, joined)] == steps


def test_what_is_taken_from_the_program_stays():
    steps, made, _ = steps_of_two_branches()
    assert [new for new, _ in rewritten(steps, made)] == steps


# ---- whole programs -------------------------------------------------------------------------


@pytest.mark.parametrize("programs", ["on", "off"])
def test_googlenet_has_its_layers_and_nothing_else(rng, cython, programs):
    """3 + 9 * 6 convolutions, 4 + 9 max poolings, an average, and one layer for the classes."""
    network = make_model("googlenet", (3, 32, 32), 10, seed=0, dtype="float32", backend="cython")
    config.set_programs(programs)
    prepared = network.prepare((2, 3, 32, 32))
    x = rng.random((2, 3, 32, 32), dtype=np.float32)
    with forward_by(CONSTANT):
        expected = network.predict(x)
    with ways(cython) as taken:
        np.testing.assert_array_equal(prepared.predict(x), expected)
    kernels = Counter(step.kernel for step in prepared.description.steps)
    assert kernels["conv2d_block_forward"] + kernels["conv2d_forward"] == 57
    assert (kernels["maxpool2d_forward"], kernels["avgpool2d_forward"]) == (13, 1)
    assert kernels["affine_forward"] == 1 and kernels.total() == 72
    fused = Counter(part for step in prepared.description.steps for part in step.fused)
    assert (fused["norm"], fused["relu"], fused["concat"]) == (57, 57, 36)
    assert "+relu +concat" in str(prepared.description)
    pools = {key: n for key, n in parts_and_hows(taken).items() if key[0] == "maxpool2d_forward"}
    assert pools == {("maxpool2d_forward", "values"): 13}


def test_measured_algorithms_write_there_too(rng, cython, tmp_path, monkeypatch):
    network = branches("cython")
    x = rng.standard_normal((2, 3, 6, 5)).astype(np.float32)
    prepared = network.prepare(x.shape, algorithms="measured")
    assert [step.fused for step in prepared.description.steps] == [
        *(("relu", "concat"), ("concat",), ("relu", "concat")),
    ]
    assert_close(prepared.predict(x), network.predict(x))


# ---- the check of backends ------------------------------------------------------------------


@pytest.mark.parametrize("says", [True, False])
def test_pooling_without_positions_is_compared(registry, monkeypatch, says):
    """A backend that says that it can, but has another maximum then, is found."""
    mine, g = Watched(winner_is_optional=says), window_geometry("test", (1, 2, 4, 4), 2, 2, 2)
    x, right = numbers(0, np.float32)(*g.input_shape), mine.maxpool2d_forward

    def maxpool2d_forward(self, x, geometry, out, winner):
        right(x, geometry, out, winner)
        if winner is None:
            out[...] = 0

    monkeypatch.setattr(mine, "maxpool2d_forward", MethodType(maxpool2d_forward, mine))
    one = [("maxpool2d_forward", {"x": x, "geometry": g}, True)]
    monkeypatch.setattr(testing, "cases", lambda reference, dtype: one)
    registry.register("mine", lambda: mine)
    if says:
        with pytest.raises(AssertionError, match=r"maxpool2d_forward: .* out .* is off by"):
            check_backend("mine")
    else:
        assert check_backend("mine").comparisons > 0
