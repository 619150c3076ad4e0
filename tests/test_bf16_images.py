"""Images as bfloat16s in memory, between the steps of a prepared network in the math mode bf16."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastconv import config, selection, testing
from fastconv.backends.calls import BFLOAT16, MOVE, Call
from fastconv.geometry import window_geometry
from fastconv.layers import Chain, Pooling, Relu, Shortcut
from fastconv.models import make_model
from fastconv.network import Network
from fastconv.network.rewriting import rewritten
from fastconv.ops.recording import root
from fastconv.testing import call_kernel
from fastconv.testing.contract import ContractBroken
from fastconv.testing.narrow import bits_of, check_bfloat16_images, narrow_call, of_bits

from . import naive
from .compare import assert_close
from .layer_rows import Draw
from .stand_ins import StandIn
from .test_bf16 import WAYS, all_nearest

pytestmark = pytest.mark.usefixtures("fine_grained")

METHODS = ("program", "step_program")

UNIT = 2.0**-8
"""The largest relative error of one rounding to bfloat16."""


@pytest.fixture(params=list(WAYS))
def table(request, monkeypatch):
    """Cython in this math mode, on two threads."""
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    backend = selection.registry().load("cython")
    if backend._bfloat16 < WAYS[request.param]:
        pytest.skip(f"no {request.param}: {backend.describe()['bfloat16 products']}")
    monkeypatch.setattr(backend, "_bfloat16", WAYS[request.param])
    config.set_num_threads(2)
    config.set_math_mode("bf16")
    return selection.active("cython")


# ---- kernels ------------------------------------------------------------------------------

ALL = ("x", "residual", "out")

# (N, C, H, W), filters, window, stride, pad: pixels that are read where they lie, others that are
# padded, channels that fill no tile or no vector, few products, several bands.
LAYERS = (
    ((2, 32, 5, 7), 64, 1, 1, 0),
    ((2, 40, 6, 5), 34, 1, 2, 0),
    ((1, 6, 9, 8), 18, 3, 2, 1),
    ((2, 2, 11, 9), 16, 3, 1, 1),
    ((3, 34, 4, 4), 70, 1, 1, 0),
    ((1, 16, 40, 37), 48, 5, 1, 2),
)


@pytest.mark.parametrize("narrow", [(), ("x",), ("out",), ALL], ids="-".join)
@pytest.mark.parametrize(("shape", "filters", "window", "stride", "pad"), LAYERS)
def test_direct_convolutions(table, rng, shape, filters, window, stride, pad, narrow):
    """Against the loops, on what bfloat16s hold; with a residual and ReLU, and with pooling."""
    config.set_conv_algorithm("direct")
    table = selection.active("cython")
    g = window_geometry("test", shape, window, window, stride, pad)
    sizes = shape, (filters, g.c, window, window), filters, g.output_shape(filters)
    x, weight, bias, residual = (rng.standard_normal(s).astype(np.float32) for s in sizes)
    if "residual" in narrow:
        residual = of_bits(bits_of(residual))
    given = {"x": x, "weight": weight, "bias": bias, "geometry": g, "winner": None}
    summed = naive.conv2d(all_nearest(x), all_nearest(weight), bias, stride, pad)
    got = narrow_call(
        table,
        "conv2d_block_forward",
        given | {"residual": residual, "relu": True, "pool": False},
        narrow,
    )
    expect_near(got, np.maximum(summed + residual, 0), narrow)
    got = narrow_call(
        table,
        "conv2d_block_forward",
        given | {"residual": None, "relu": True, "pool": True},
        narrow,
    )
    rows, cols = (size // 2 * 2 for size in summed.shape[2:])
    blocks = summed[:, :, :rows, :cols].reshape(*summed.shape[:2], rows // 2, 2, cols // 2, 2)
    expect_near(got, np.maximum(blocks.max((3, 5)), 0), narrow)


def expect_near(got, expected, narrow):
    """What the loops gave, rounded once more if it goes out as bfloat16s."""
    if "out" not in narrow:
        assert_close(got, expected, tolerance=1e-6)
        return
    np.testing.assert_array_equal(got, all_nearest(got))
    assert (np.abs(got - expected) <= UNIT * np.abs(expected) + 1e-6).all()
    same = got == all_nearest(expected.astype(np.float32))
    assert same.mean() > 0.99  # to the nearest, but where float32 rounds across the middle
    assert (got == 0).any() and (got > 0).any()


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("filters", [16, 34, 70])
def test_convolutions_by_transforms(table, rng, filters, pool):
    """As on float32, and then rounded: tiles inside and at the edge, vectors that are not full."""
    config.set_conv_algorithm("winograd2")
    table = selection.active("cython")
    g = window_geometry("test", (2, 18, 9, 12), 3, 3, 1, 1)
    sizes = g.input_shape, (filters, g.c, 3, 3), filters, g.output_shape(filters)
    x, weight, bias, residual = (rng.standard_normal(s).astype(np.float32) for s in sizes)
    given = {"x": x, "weight": weight, "bias": bias, "geometry": g, "relu": True, "pool": pool}
    given["residual"] = None if pool else residual
    assert check_bfloat16_images(table, "conv2d_block_forward", given, 1e-6, "") == 4 - pool


@pytest.mark.parametrize("narrow", [("x",), ("out",), ("x", "out")], ids="-".join)
@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1), (3, 2), (5, 3)])
def test_max_pooling(table, rng, window, stride, narrow):
    g = window_geometry("test", (2, 34, 9, 11), window, window, stride, 1)
    x = of_bits(bits_of(rng.standard_normal(g.input_shape).astype(np.float32)))
    x[0, :, 3, 4], x[1, 5, 0, 0] = -np.inf, np.nan
    got = narrow_call(table, "maxpool2d_forward", {"x": x, "geometry": g, "winner": None}, narrow)
    expected, _ = naive.maxpool2d(x, window, window, stride, 1)
    np.testing.assert_array_equal(got, expected)


def test_the_contract_wants_pairs(table):
    """Channels that come in pairs, in the mode's kernels, of a backend that says so."""
    g = window_geometry("test", (1, 3, 4, 4), 2, 2, 2)
    odd = np.zeros((1, 4, 4, 3), BFLOAT16).transpose(0, 3, 1, 2)
    out = np.zeros((1, 2, 2, 3), np.float32).transpose(0, 3, 1, 2)
    with pytest.raises(ContractBroken, match=r"x .* has bfloat16s that are no pairs"):
        table.maxpool2d_forward(x=odd, geometry=g, out=out, winner=None)
    with pytest.raises(ContractBroken, match="x has dtype"):
        StandIn("mine", "channels_last").maxpool2d_forward(odd, g, out, out.astype(np.uint8))


# ---- which images they are ------------------------------------------------------------------


def images(*shape):
    n, c, h, w = shape
    return np.zeros((n, h, w, c), np.float32).transpose(0, 3, 1, 2)


ABLE = SimpleNamespace(
    bfloat16_images={"conv2d_forward": ("x", "out"), "maxpool2d_forward": ("x",)}
)


def row_of(*made, last="conv2d_forward", backend=ABLE, **more):
    """A convolution from the first images to the second, and so on."""
    kernels = ["conv2d_forward"] * (len(made) - 2) + [last]
    return [
        Call(backend, kernel, {"x": x, "winner": None, "out": out} | more)
        for kernel, x, out in zip(kernels, made, made[1:], strict=False)
    ]


def narrowed(steps, out):
    """The dtypes of x and out of each step."""
    config.set_math_mode("bf16")
    return [
        tuple(step.arguments[name].dtype.name for name in ("x", "out"))
        for step, _ in rewritten(steps, out)
    ]


def test_images_between_kernels_that_can_are_narrow():
    a, b, c, d = (images(2, channels, 3, 5) for channels in (4, 6, 8, 2))
    assert narrowed(row_of(a, b, c, d), d) == [
        *(("float32", "uint16"), ("uint16", "uint16"), ("uint16", "float32"))
    ]
    assert narrowed(row_of(a, b, c, last="maxpool2d_forward"), c)[1] == ("uint16", "float32")
    (first, _), (second, _) = rewritten(row_of(a, b, c), c)
    out, x = first.arguments["out"], second.arguments["x"]
    assert (out.shape, out.strides) == (b.shape, tuple(s // 2 for s in b.strides))
    assert root(out) is root(x) and out.ctypes.data == x.ctypes.data
    config.set_math_mode("fast")
    assert next(new for new, _ in rewritten(row_of(a, b, c), c)).arguments["out"] is b


@pytest.mark.parametrize(
    "change",
    [
        *({"backend": SimpleNamespace()}, {"last": "lrn_forward"}, {"winner": np.ones(1)}),
        {"between": images(2, 5, 3, 5)},
        {"between": images(2, 10, 3, 5)[:, 1:7]},
        {"between": np.zeros((2, 6, 3, 5), np.float32)},
    ],
    ids=["backend", "kernel", "winner", "odd", "odd place", "layout"],
)
def test_others_stay_as_they_are(change):
    a, b, c = images(2, 4, 3, 5), change.pop("between", images(2, 6, 3, 5)), images(2, 2, 3, 5)
    assert narrowed(row_of(a, b, c, **change), c) == [("float32", "float32")] * 2


def test_one_that_is_copied_or_asked_for_stays_too():
    a, b, c = (images(2, 4, 3, 5) for _ in range(3))
    move = Call(None, MOVE, {"source": b, "factor": 0.5, "out": c})
    config.set_math_mode("bf16")
    steps = [*row_of(a, b), move]
    assert [new.arguments for new, _ in rewritten(steps, c)] == [old.arguments for old in steps]
    assert narrowed(row_of(a, b, c), b)[0] == ("float32", "float32")


# ---- whole programs -------------------------------------------------------------------------


def test_a_row_of_direct_convolutions_gives_the_same_bits(table, rng):
    """Each image is read rounded anyway; where it lies as such, no number is another one."""
    config.set_conv_algorithm("direct")
    draw = Draw("float32")
    row = [draw.conv(16, 6), Relu(), draw.conv(32, 16), Relu(), Pooling(2, 2, 2), draw.conv(4, 32)]
    network = Network(row, "float32", "cython")
    x = rng.standard_normal((3, 6, 12, 10)).astype(np.float32)
    prepared = network.prepare(x.shape)
    np.testing.assert_array_equal(prepared.predict(x), network.predict(x))
    sizes = [step.output_bytes for step in prepared.description.steps]
    config.set_math_mode("fast")
    wide = [step.output_bytes for step in network.prepare(x.shape).description.steps]
    assert sizes == [size // 2 for size in wide[:-1]] + wide[-1:]


@pytest.mark.parametrize("name", ["resnet20", "googlenet"])
def test_networks_lie_narrow_and_stay_near(table, rng, name):
    """Sums of shortcuts and concatenations; as near to float32 as without programs, nearly."""
    network = make_model(name, (3, 32, 32), 10, seed=0, dtype="float32", backend="cython")
    x = rng.random((2, 3, 32, 32), dtype=np.float32)
    prepared = network.prepare(x.shape)
    got, by_kernels = prepared.predict(x), network.predict(x)
    described = prepared.description
    config.set_math_mode("default")
    exact, wide = network.predict(x), network.prepare(x.shape).description
    assert described.block_bytes < 0.7 * wide.block_bytes
    off, by_kernels_off = (np.sqrt(np.mean((each - exact) ** 2)) for each in (got, by_kernels))
    assert 0.5 * by_kernels_off < off < 2 * by_kernels_off < 0.02 * np.abs(exact).max()


def test_shortcuts_read_and_write_bfloat16s(table, rng):
    draw = Draw("float32")
    body = [draw.conv(16, 16, pad=1), Relu(), draw.conv(16, 16, pad=1)]
    row = [draw.conv(16, 4), Relu(), Shortcut([Chain(body)]), Relu(), draw.conv(4, 16)]
    network = Network(row, "float32", "cython")
    x = rng.standard_normal((2, 4, 8, 8)).astype(np.float32)
    prepared = network.prepare(x.shape)
    assert [step.fused for step in prepared.description.steps][2] == ("add", "relu")
    assert_close(prepared.predict(x), network.predict(x), tolerance=2e-2)
    assert (prepared.predict(x) != network.predict(x)).any()


@pytest.mark.parametrize("rows", [1, 8, 9])
@pytest.mark.parametrize(("features", "units"), [(70, 50), (33, 16)])
def test_programs_of_predictions_keep_weights_of_affine_layers_as_bfloat16s(
    table, rng, rows, features, units
):
    """To the same bits; programs of steps read them anew."""
    numbers = (rng.standard_normal(s) for s in ((rows, features), (features, units), (units,)))
    x, weight, bias = (each.astype(np.float32) for each in numbers)
    out = np.empty((rows, units), np.float32)
    given = {"x": x, "weight": weight, "bias": bias, "out": out}
    before = call_kernel(table, "affine_forward", x=x, weight=weight, bias=bias)["out"]
    runs = [getattr(table, name)([Call(table, "affine_forward", given)]) for name in METHODS]
    weight *= 2
    bias *= 2
    for run, factor in zip(runs, (1, 2), strict=True):
        run.run()
        np.testing.assert_array_equal(out, factor * before)


# ---- the check of backends ------------------------------------------------------------------


@pytest.mark.parametrize("off", [0, 1, 2])
def test_the_check_of_backends_finds_other_numbers(table, monkeypatch, rng, off):
    """An `out` of bfloat16s may be one unit off, as where sums are in another order; not two."""
    g = window_geometry("test", (2, 8, 5, 6), 3, 3, 1, 1)
    right = table.maxpool2d_forward

    def maxpool2d_forward(x, geometry, out, winner):
        right(x, geometry, out, winner)
        if out.dtype == BFLOAT16:
            out += np.uint16(off)

    monkeypatch.setattr(table, "maxpool2d_forward", maxpool2d_forward)
    x = rng.uniform(1, 2, g.input_shape).astype(np.float32)
    monkeypatch.setattr(
        testing, "cases", lambda *_: [("maxpool2d_forward", {"x": x, "geometry": g}, True)]
    )
    if off < 2:
        testing.check_backend("cython")
        return
    with pytest.raises(AssertionError, match=r"maxpool2d_forward of .* by more than a unit"):
        testing.check_backend("cython")
