"""dezero and CS231n under the hook: their known functions compute on kernels, all else is theirs.

The packages in ``neighbours`` stand in for both, under the fingerprints of their own text. What
is dezero's and Stanford's is tried where it is installed, or where FASTCONV_TEST_CS231N names a
folder with a ``cs231n``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastconv
from fastconv.dropin import cs231n, cs231n_columns, dezero
from fastconv.dropin.neighbours import definitions, fingerprints
from fastconv.errors import ShapeError, StateError

from .. import naive
from ..compare import assert_close
from .conftest import ROOT, assert_same_print, last_line, plainly, python

SHELF = Path(__file__).parent / "neighbours"
NAMES = ("dezero", "cs231n")


def forget():
    for name in [name for name in sys.modules if name.split(".")[0] in NAMES]:
        del sys.modules[name]


def read(path):
    return fingerprints(definitions(ast.parse(path.read_text())))


@pytest.fixture
def neighbours(tmp_path, monkeypatch):
    """A folder on the path with both packages, which are taken for the known ones."""
    assert not fastconv.is_installed()
    folder = tmp_path / "neighbours"
    shutil.copytree(SHELF, folder, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
    known = read(SHELF / "dezero" / "functions_conv.py")
    monkeypatch.setattr(dezero, "KNOWN", {part: known[part] for part in dezero.KNOWN})
    known = read(SHELF / "cs231n" / "fast_layers.py")
    kinds = ("conv_{}_im2col", "conv_{}_strides", "max_pool_{}_reshape", "max_pool_{}_im2col")
    pairs = [
        replace(
            pair,
            forwards=frozenset({known[kind.format("forward")]}),
            backwards=frozenset({known[kind.format("backward")]}),
        )
        for kind, pair in zip(kinds, cs231n.PAIRS, strict=True)
    ]
    monkeypatch.setattr(cs231n, "PAIRS", pairs)
    choosers = {known["max_pool_forward_fast"], known["max_pool_backward_fast"]}
    monkeypatch.setattr(cs231n, "CHOOSERS", choosers)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    forget()
    yield folder
    fastconv.uninstall()
    forget()


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def kernels():
    return {row["kernel"] for row in fastconv.stats()["kernels"]}


# ---- dezero -----------------------------------------------------------------------------

CONV = [
    ((2, 3, 8, 8), (4, 3, 3), 1, 1),
    ((2, 16, 12, 12), (8, 3, 3), 1, 1),
    ((2, 2, 7, 10), (3, 3, 2), 2, 0),
    ((1, 1, 6, 5), (2, 5, 1), 2, 1),
]
POOL = [
    ((2, 3, 8, 8), (2, 2), 2, 0),
    ((2, 3, 7, 9), (3, 2), 1, 0),
    ((2, 3, 7, 8), (3, 3), 2, 1),
    ((1, 2, 4, 4), (2, 2), 1, 2),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, filters, stride, pad", CONV)
def test_dezero_convolutions(neighbours, rng, shape, filters, stride, pad, dtype):
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    x = rng.standard_normal(shape).astype(dtype)
    W = rng.standard_normal((filters[0], shape[1], *filters[1:])).astype(dtype)
    b = rng.standard_normal(filters[0]).astype(dtype)
    function = module.Conv2d(stride, pad)
    y = function(x, W, b)
    assert_close(y, naive.conv2d(x, W, b, stride, pad), dtype=dtype)
    without = module.Conv2d(stride, pad)(x, W, None)
    assert_close(without, naive.conv2d(x, W, 0 * b, stride, pad), dtype=dtype)
    gy = rng.standard_normal(y.shape).astype(dtype)
    dx, dW, _ = naive.conv2d_gradients(gy, x, W, stride, pad)
    assert_close(module.Conv2DGradW(function)(x, gy), dW, dtype=dtype)
    gx = module.Deconv2d(stride, pad, outsize=shape[2:])(gy, W, None)
    assert_close(gx, dx, dtype=dtype)
    more = rng.standard_normal(shape[1]).astype(dtype)
    size = tuple(stride * (y.shape[i] - 1) + W.shape[i] - 2 * pad for i in (2, 3))
    exact = np.zeros((*shape[:2], *size))
    expected = naive.conv2d_gradients(gy, exact, W, stride, pad)[0] + more.reshape(-1, 1, 1)
    assert_close(module.Deconv2d(stride, pad)(gy, W, more), expected, dtype=dtype)
    assert kernels() == {"conv2d_forward", "conv2d_backward"}
    assert fastconv.stats()["theirs"] == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape, window, stride, pad", POOL)
def test_dezero_pooling(neighbours, rng, shape, window, stride, pad, dtype):
    """Padding is of zeros and may win; of equal ones the first does."""
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    x = rng.integers(-3, 3, shape).astype(dtype)
    function = module.Pooling(window, stride, pad)
    y = function(x)
    around = naive.padded(x, pad)
    expected, winner = naive.maxpool2d(around, *window, stride)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == dtype
    np.testing.assert_array_equal(function.indexes, winner)
    gy = rng.standard_normal(y.shape).astype(dtype)
    dx = naive.maxpool2d_gradient(gy, winner, around.shape, window[1], stride)
    inside = (..., slice(pad, pad + shape[2]), slice(pad, pad + shape[3]))
    assert_close(module.Pooling2DGrad(function)(gy), dx[inside], dtype=dtype)
    assert kernels() == {"maxpool2d_forward", "maxpool2d_backward"}


def test_dezero_columns(neighbours, rng):
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    x = rng.standard_normal((2, 3, 6, 7))
    col = module.im2col_array(x, (3, 2), 2, 1)
    np.testing.assert_array_equal(col, naive.im2col(x, 3, 2, 2, 1))
    assert_close(
        module.col2im_array(col, x.shape, (3, 2), 2, 1), naive.col2im(col, x.shape, 3, 2, 2, 1)
    )
    assert kernels() == {"im2col", "col2im"}
    six = module.im2col_array(x, (3, 2), 2, 1, to_matrix=False)
    assert six.shape == (2, 3, 3, 2, 3, 4) and six.flags.c_contiguous
    assert fastconv.stats()["theirs"] == {}  # that has no reason to be told


@pytest.mark.parametrize(
    "given, reason",
    [
        (lambda x, W: (x.astype(int), W.astype(int), 1, 0), "arrays of int64"),
        (lambda x, W: (x.astype(np.float16), W.astype(np.float16), 1, 0), "arrays of float16"),
        (lambda x, W: (x, W, (1, 2), 0), "a stride or pad of (1, 2)"),
        (lambda x, W: (x, W, 1, (0, 1)), "a stride or pad of (0, 1)"),
        (lambda x, W: (x[:0], W, 1, 0), "an array of shape (0, 3, 6, 6)"),
        (lambda x, W: (x.view(Elsewhere), W, 1, 0), f"arrays of {__name__}.Elsewhere"),
    ],
)
def test_what_kernels_do_not_take_is_dezeros(neighbours, rng, given, reason):
    x, W, stride, pad = given(rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3)))
    module = importlib.import_module("dezero.functions_conv")
    expected = module.Conv2d(stride, pad)(x, W, None)
    forget()
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    for _ in range(2):
        y = module.Conv2d(stride, pad)(x, W, None)
        assert type(y) is type(expected) and y.dtype == expected.dtype
        np.testing.assert_array_equal(y, expected)
    told = fastconv.stats()
    full = "dezero.functions_conv.Conv2d"
    assert told["theirs"] == {full: f"dezero's code where it gets {reason}"}
    assert told["kernels"] == []


class Elsewhere(np.ndarray):
    """Stands for an array of another library, such as one on a GPU."""


def test_a_pooling_that_was_dezeros_has_a_gradient_that_is(neighbours):
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    function = module.Pooling(2, (2, 1))
    x = np.array([[[[1.0, 5.0, 2.0], [0.0, 0.0, 0.0]]]])
    np.testing.assert_array_equal(function(x), [[[[5.0, 5.0]]]])
    dx = module.Pooling2DGrad(function)(np.array([[[[1.0, 2.0]]]]))
    np.testing.assert_array_equal(dx, [[[[0.0, 3.0, 0.0], [0.0, 0.0, 0.0]]]])
    again = function(np.ones((1, 1, 4, 4)))  # and not from what an earlier forward kept
    assert again.shape == (1, 1, 2, 3)
    module.Pooling.forward(function, x.astype(np.float32))
    assert function._fastconv is None


def test_the_bias_does_not_change_the_dtype(neighbours, rng):
    """It is added in place, in dezero."""
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    x, W = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
    assert module.Conv2d()(x, W, np.ones(1)).dtype == np.float32
    assert module.Conv2d()(x, W.astype(float), np.ones(1, np.float32)).dtype == np.float64


def test_the_dtype_that_is_asked_for(neighbours, rng):
    fastconv.install(dtype="float32")
    module = importlib.import_module("dezero.functions_conv")
    x, W = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3))
    function = module.Conv2d(1, 1)
    y = function(x, W, np.zeros(4))
    assert y.dtype == np.float32
    assert_close(y, naive.conv2d(x, W, np.zeros(4), 1, 1))
    assert module.Conv2DGradW(function)(x, y).dtype == np.float32
    pooling = module.Pooling(2, 2)
    z = pooling(x)
    assert z.dtype == module.Pooling2DGrad(pooling)(z).dtype == np.float32


# ---- whose it is --------------------------------------------------------------------------


def test_the_tables_are_well_formed():
    tables = [*dezero.KNOWN.values(), *cs231n.CHOOSERS]
    for pair in cs231n.PAIRS:
        tables += [*pair.forwards, *pair.backwards]
    assert len(set(tables)) == len(tables)
    assert all(len(value) == 20 and int(value, 16) >= 0 for value in tables)


CONV_FORWARD = 'y = np.einsum("ncklij,fckl->nfij", col, W)'
DEEP = f"many = {' + '.join(['1'] * 1000)}"
"""Too deep for a fingerprint, but not for Python."""


def test_what_is_written_otherwise_is_the_same(neighbours):
    path = neighbours / "dezero" / "functions_conv.py"
    edit(
        path,
        f"        {CONV_FORWARD}\n        return y if b is None else y + b.reshape(-1, 1, 1)",
        "        xp = cuda.get_array_module(x)\n"
        '        out = xp.einsum("ncklij,fckl->nfij", col, W)  # mine\n'
        "        return out if b is None else (out + b.reshape(-1, 1, 1))",
    )
    edit(
        path, "def forward(self, x, gy):", 'def forward(self, x, gy) -> "Array":\n        """dW."""'
    )
    path.write_text(path.read_text().replace("self", "this"))
    fastconv.install()
    importlib.import_module("dezero.functions_conv")
    told = fastconv.stats()
    assert told["theirs"] == {}
    assert told["served"] == {"dezero.functions_conv": [*dezero.FORWARDS, *dezero.COLUMNS]}


@pytest.mark.parametrize(
    "old, new, kept, why",
    [
        (CONV_FORWARD, f"print('mine'); {CONV_FORWARD}", ["Conv2d"], "Conv2d.forward"),
        (
            CONV_FORWARD,
            f"xp = [np, print('mine')][0]; {CONV_FORWARD.replace('np', 'xp')}",
            ["Conv2d"],
            "Conv2d.forward",
        ),
        (CONV_FORWARD, f"print('mine'); {DEEP}; {CONV_FORWARD}", ["Conv2d"], "Conv2d.forward"),
        ("flat.argmax(axis=2)", "flat.argmin(axis=2)", ["Pooling"], "Pooling.forward"),
        (
            "padded = np.pad(img",
            "print('mine'); padded = np.pad(img",
            ["Conv2DGradW", "Conv2d", "Pooling"],
            "im2col_array",
        ),
        (
            "padded = np.zeros((n, c, h",
            "print('mine'); padded = np.zeros((n, c, h",
            ["Deconv2d", "Pooling2DGrad"],
            "col2im_array",
        ),
    ],
)
def test_a_changed_definition_stays(neighbours, capsys, old, new, kept, why):
    edit(neighbours / "dezero" / "functions_conv.py", old, new)
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    told = fastconv.stats()
    reason = f"your own, as {why} is not dezero's"
    assert told["theirs"] == {f"dezero.functions_conv.{name}": reason for name in kept}
    assert not {*kept, why} & {*told["served"]["dezero.functions_conv"]}
    module.Conv2d()(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), None)
    assert ("mine" in capsys.readouterr().out) == ("Conv2d" in kept and "mine" in new)


def test_what_is_assigned_afterwards_stays(neighbours):
    path = neighbours / "dezero" / "functions_conv.py"
    path.write_text(path.read_text() + "\nConv2d.forward = lambda self, x, W, b: 'mine'\n")
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    x, W = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    assert module.Conv2d()(x, W, None) == "mine"
    assert "dezero.functions_conv.Conv2d" in fastconv.stats()["theirs"]


def test_another_count_of_windows_stays(neighbours):
    """What `forward` calls from another module is asked, as it may be changed there."""
    path = neighbours / "dezero" / "functions_conv.py"
    edit(path, "return (size - window + 2 * pad) // stride + 1", "return 1")
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    y = module.Conv2d()(np.ones((1, 1, 5, 5)), np.ones((1, 1, 2, 2)), None)
    np.testing.assert_array_equal(y, [[[[4.0]]]])
    assert "get_conv_outsize" in fastconv.stats()["theirs"]["dezero.functions_conv.Conv2d"]


@pytest.mark.parametrize("name", ["dezero.functions_conv", "cs231n.fast_layers"])
def test_install_names_a_neighbour_that_was_imported(neighbours, name):
    importlib.import_module(name)
    with pytest.raises(StateError, match=f"{name} imported already"):
        fastconv.install()
    assert not fastconv.is_installed()


def test_uninstall_forgets_them(neighbours):
    fastconv.install()
    before = importlib.import_module("dezero.functions_conv")
    fastconv.uninstall()
    assert not any(name.split(".")[0] in NAMES for name in sys.modules)
    after = importlib.import_module("dezero.functions_conv")
    assert after.Conv2d is not before.Conv2d
    assert not hasattr(after.Conv2d.forward, "__wrapped__")
    x, W = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(before.Conv2d()(x, W, None), np.full((1, 1, 2, 2), 4.0))
    forget()
    fastconv.install()
    assert importlib.import_module("dezero.functions_conv").Conv2d.forward.__wrapped__


def test_a_neighbour_that_is_not_there(neighbours):
    shutil.rmtree(neighbours / "cs231n")
    fastconv.install()
    for name in ("cs231n.fast_layers", "cs231n.im2col_cython"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_a_neighbour_without_source(neighbours):
    import py_compile

    path = neighbours / "dezero" / "functions_conv.py"
    py_compile.compile(str(path), str(path.with_suffix(".pyc")))
    path.unlink()
    fastconv.install()
    module = importlib.import_module("dezero.functions_conv")
    assert not hasattr(module.Conv2d.forward, "__wrapped__")
    told = fastconv.stats()["theirs"]
    assert told == {"dezero.functions_conv": "your own, which is not Python source"}


def test_an_error_in_a_neighbours_file_is_shown(neighbours):
    (neighbours / "dezero" / "functions_conv.py").write_text("def Conv2d(:\n")
    fastconv.install()
    with pytest.raises(SyntaxError) as raised:
        importlib.import_module("dezero.functions_conv")
    assert raised.value.filename == str(neighbours / "dezero" / "functions_conv.py")


# ---- CS231n ------------------------------------------------------------------------------


def fast_layers():
    fastconv.install()
    return importlib.import_module("cs231n.fast_layers")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["fast", "im2col", "strides"])
@pytest.mark.parametrize(
    "shape, filters, stride, pad",
    [((2, 3, 8, 8), (4, 3), 1, 1), ((2, 2, 9, 9), (3, 3), 2, 0), ((2, 3, 7, 7), (2, 5), 2, 2)],
)
def test_cs231n_convolutions(neighbours, rng, capsys, kind, shape, filters, stride, pad, dtype):
    module = fast_layers()
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((filters[0], shape[1], filters[1], filters[1])).astype(dtype)
    b = rng.standard_normal(filters[0]).astype(dtype)
    forward = getattr(module, f"conv_forward_{kind}")
    out, cache = forward(x, w, b=b, conv_param={"stride": stride, "pad": pad})
    assert_close(out, naive.conv2d(x, w, b, stride, pad), dtype=dtype)
    assert len(cache) == 5 and cache[0] is x and cache[1] is w and cache[2] is b
    dout = rng.standard_normal(out.shape).astype(dtype)
    gradients = getattr(module, f"conv_backward_{kind}")(dout, cache)
    for actual, expected in zip(
        gradients, naive.conv2d_gradients(dout, x, w, stride, pad), strict=True
    ):
        assert_close(actual, expected, dtype=dtype)
    assert kernels() == {"conv2d_forward", "conv2d_backward"}
    assert fastconv.stats()["theirs"] == {}
    assert capsys.readouterr().out == ""  # no message asks to build anything


def shared_gradient(dout, x, size):
    """Each maximum of a window gets the same part of its gradient."""
    dx = np.zeros(x.shape)
    for (n, c, i, j), gradient in np.ndenumerate(dout):
        place = (n, c, slice(size * i, size * (i + 1)), slice(size * j, size * (j + 1)))
        largest = x[place] == x[place].max()
        with np.errstate(all="ignore"):
            dx[place] = np.where(largest, gradient, 0.0) / largest.sum()
    return dx


@pytest.mark.parametrize("order", ["channels first", "channels last", "neither"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape, size", [((2, 3, 8, 6), 2), ((2, 2, 9, 9), 3), ((2, 1, 16, 32), 16)]
)
def test_cs231n_pooling_shares_among_equal_maxima(neighbours, rng, shape, size, dtype, order):
    x = np.maximum(rng.integers(-4, 3, shape), 0).astype(dtype)
    x[0, 0, :size, :size] = 0  # all places of a window
    if order == "channels last":
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif order == "neither":
        x = np.asfortranarray(x)
    module = fast_layers()
    param = {"pool_height": size, "pool_width": size, "stride": size}
    out, cache = module.max_pool_forward_fast(x, param)
    assert cache[0] == "reshape" and out.dtype == dtype
    np.testing.assert_array_equal(out, naive.maxpool2d(x, size, size, size)[0])
    dout = rng.integers(-9, 9, out.shape).astype(dtype)
    dx = module.max_pool_backward_fast(dout, cache)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, shared_gradient(dout, x, size).astype(dtype))
    assert not np.signbit(dx[dx == 0]).any()
    assert fastconv.stats()["theirs"] == {}


def test_cs231n_pooling_of_what_is_not_finite(neighbours):
    module = fast_layers()
    x = np.array([[[[np.nan, 1.0, 2.0, 2.0], [0.0, 1.0, 0.0, 2.0]]]])
    param = {"pool_height": 2, "pool_width": 2, "stride": 2}
    _, cache = module.max_pool_forward_fast(x, param)
    dout = np.array([[[[3.0, np.inf]]]])
    dx = module.max_pool_backward_fast(dout, cache)
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(dx, [[[[nan, nan, inf, inf], [nan, nan, 0.0, inf]]]])


def test_cs231n_pooling_of_windows_that_overlap(neighbours, rng):
    module = fast_layers()
    x = rng.integers(-3, 3, (2, 3, 7, 7)).astype(float)
    out, cache = module.max_pool_forward_fast(x, {"pool_height": 3, "pool_width": 3, "stride": 2})
    expected, winner = naive.maxpool2d(x, 3, 3, 2)
    np.testing.assert_array_equal(out, expected)
    dout = rng.standard_normal(out.shape)
    dx = module.max_pool_backward_fast(dout, cache)
    assert_close(dx, naive.maxpool2d_gradient(dout, winner, x.shape, 3, 2))
    assert kernels() == {"maxpool2d_forward", "maxpool2d_backward"}


def test_cs231n_refuses_what_it_refuses(neighbours):
    module = fast_layers()
    x, w, b = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), np.zeros(1)
    with pytest.raises(AssertionError, match="no whole number"):
        module.conv_forward_im2col(x, w, b, {"stride": 2, "pad": 0})
    out, cache = module.conv_forward_strides(x, w, b, {"stride": 2, "pad": 0})
    np.testing.assert_array_equal(out, [[[[9.0]]]])
    dx, _, _ = module.conv_backward_strides(np.ones((1, 1, 1, 1)), cache)
    assert dx.sum() == 9.0
    with pytest.raises(AssertionError, match="not alike"):
        module.max_pool_forward_reshape(x, {"pool_height": 2, "pool_width": 1, "stride": 2})
    with pytest.raises(AssertionError, match="no whole number"):
        module.max_pool_forward_im2col(x, {"pool_height": 3, "pool_width": 3, "stride": 2})
    assert fastconv.stats()["theirs"] == {}


def test_cs231n_refuses_it_in_the_readers_words(neighbours):
    """A message is no part of what is computed, and is shown as the reader has it."""
    edit(neighbours / "cs231n" / "fast_layers.py", '"not alike"', '"ungleich"')
    module = fast_layers()
    told = fastconv.stats()
    assert told["theirs"] == {}
    assert "max_pool_forward_reshape" in told["served"]["cs231n.fast_layers"]
    with pytest.raises(AssertionError, match="ungleich"):
        module.max_pool_forward_reshape(
            np.ones((1, 1, 4, 4)), {"pool_height": 2, "pool_width": 1, "stride": 2}
        )


def test_cs231n_arrays_of_integers_are_its_own(neighbours):
    module = fast_layers()
    x = np.arange(16).reshape(1, 1, 4, 4)
    out, cache = module.max_pool_forward_fast(x, {"pool_height": 2, "pool_width": 2, "stride": 2})
    assert out.dtype == x.dtype
    assert module.max_pool_backward_fast(np.ones((1, 1, 2, 2)), cache).sum() == 4
    told = fastconv.stats()["theirs"]
    name = "cs231n.fast_layers.max_pool_forward_reshape"
    assert told == {name: "your code where it gets arrays of int64"}


@pytest.mark.parametrize("more", ["", f"; {DEEP}"])
@pytest.mark.parametrize("changed, other", [("forward", "backward"), ("backward", "forward")])
def test_cs231n_halves_stay_together(neighbours, rng, changed, other, more):
    """What one half keeps, the other could not read."""
    path = neighbours / "cs231n" / "fast_layers.py"
    given = "x, w, b, conv_param" if changed == "forward" else "dout, cache"
    head = f"def conv_{changed}_strides({given}):\n"
    edit(path, head, f"{head}    seen.append(1){more}\n")
    path.write_text(path.read_text() + "\nseen = []\n")
    module = fast_layers()
    x, w = rng.standard_normal((2, 3, 5, 5)), rng.standard_normal((4, 3, 3, 3))
    out, cache = module.conv_forward_fast(x, w, np.zeros(4), {"stride": 1, "pad": 1})
    dx = module.conv_backward_fast(out, cache)[0]
    assert module.seen == [1]
    assert_close(dx, naive.conv2d_gradients(out, x, w, 1, 1)[0])
    told = fastconv.stats()["theirs"]
    name = "cs231n.fast_layers.conv_{}_strides"
    assert told == {
        name.format(changed): "your own, which is not the assignment's",
        name.format(other): f"your own, as its {changed} is not the assignment's",
    }
    assert "conv_forward_im2col" in fastconv.stats()["served"]["cs231n.fast_layers"]


def test_the_extension_is_given(neighbours, rng):
    fastconv.install()
    given = importlib.import_module("cs231n.im2col_cython")
    x = rng.standard_normal((2, 3, 6, 7))
    cols = given.im2col_cython(x, 3, 2, 1, 1)
    rows = naive.im2col(x, 3, 2, 1, 1).reshape(2, 6, 8, -1)  # n, y, x
    np.testing.assert_array_equal(cols, rows.transpose(3, 1, 2, 0).reshape(18, -1))
    expected = naive.col2im(rows.reshape(96, -1), x.shape, 3, 2, 1, 1)
    assert_close(given.col2im_cython(cols, 2, 3, 6, 7, 3, 2, 1, 1), expected)
    six = cols.reshape(3, 3, 2, 6, 8, 2).transpose(0, 1, 2, 5, 3, 4)
    assert_close(given.col2im_6d_cython(six, 2, 3, 6, 7, 3, 2, 1, 1), expected)
    with pytest.raises(ShapeError, match=r"cols has shape \(18, 95\), expected \(18, 96\)"):
        given.col2im_cython(cols[:, 1:], 2, 3, 6, 7, 3, 2, 1, 1)
    told = fastconv.stats()["served"]
    assert told == {"cs231n.im2col_cython": sorted(cs231n_columns.__all__)}


def test_an_extension_that_is_built_stays(neighbours):
    (neighbours / "cs231n" / "im2col_cython.py").write_text("built = True\n")
    fastconv.install()
    assert importlib.import_module("cs231n.im2col_cython").built
    assert fastconv.stats()["served"] == {}


# ---- scripts ------------------------------------------------------------------------------


def test_the_line_names_them(neighbours):
    """Of these stand-ins nothing is known, in a process of its own."""
    script = neighbours / "use.py"
    script.write_text(
        "from dezero.functions_conv import Conv2d\nfrom cs231n.fast_layers import *\n"
        "print(Conv2d()(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), None).sum())\n"
        "x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))\n"
        "print(conv_forward_im2col(x, w, np.zeros(1), {'stride': 1, 'pad': 0})[0].sum())\n"
    )
    done = python("-m", "fastconv", script, cwd=neighbours)
    assert done.stdout == "16.0\n16.0\n"
    line = last_line(done)
    assert "fastconv: served cs231n (im2col_cython); no kernel was called" in line
    assert re.search(
        r"dezero\.functions_conv \(Conv2d, [\w, ]+\): your own, as im2col_array is not dezero's",
        line,
    )
    assert re.search(
        r"cs231n\.fast_layers \([\w, ]*conv_forward_im2col[\w, ]*\): your own, which is not the",
        line,
    )


DEZERO = """
import numpy as np
np.int = int  # 0.0.13 was written for a NumPy that has it
import dezero, dezero.functions as F, dezero.layers as L
from dezero import Variable, optimizers
rng = np.random.default_rng(0)
np.random.seed(0)
def show(*variables):
    for v in variables:
        v = v.data
        weights = np.cos(np.arange(v.size)).reshape(v.shape)
        print(v.dtype, v.shape, round(float((v * weights).sum()), 7))
for shape, filters, stride, pad in [((2, 3, 8, 8), (4, 3), 1, 1), ((2, 1, 7, 9), (3, 2), 2, 0)]:
    c, (oc, k) = shape[1], filters
    x, b = Variable(rng.standard_normal(shape)), Variable(rng.standard_normal(oc))
    W, D = (Variable(rng.standard_normal(s)) for s in ((oc, c, k, k), (c, oc, k, k)))
    for y, w in ((F.conv2d(x, W, b, stride, pad), W), (F.deconv2d(x, D, b, stride, pad), D)):
        F.sum(y ** 2).backward(create_graph=True)
        show(y, x.grad, w.grad, b.grad)
        gx = x.grad
        for v in (x, w, b):
            v.cleargrad()
        F.sum(gx ** 3).backward(create_graph=True)
        show(x.grad, w.grad)
        for v in (x, w, b):
            v.cleargrad()
for window, stride, pad in [(2, 2, 0), (3, 2, 1), ((2, 3), 1, 0)]:
    x = Variable(rng.integers(-3, 3, (2, 3, 8, 9)).astype(float))
    for f in (F.pooling, F.average_pooling)[: 1 + isinstance(window, int)]:
        y = f(x, window, stride, pad)
        F.sum(y ** 3).backward(create_graph=True)
        gx = x.grad
        show(y, gx)
        x.cleargrad()
        F.sum(gx ** 2).backward()
        show(x.grad)
        x.cleargrad()
show(F.conv2d_simple(x, Variable(np.ones((2, 3, 3, 3))), None, 1, 1), F.pooling_simple(x, 2, 2))
class Net(dezero.Model):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.l = L.Conv2d(8, 3, 1, 1), L.Conv2d(8, 3, 1, 1), L.Linear(10)
    def forward(self, x):
        x = F.pooling(F.relu(self.c2(F.relu(self.c1(x)))), 2, 2)
        return self.l(F.reshape(x, (len(x), -1)))
net = Net()
optimizer = optimizers.Adam().setup(net)
images, labels = rng.random((20, 1, 12, 12)), rng.integers(0, 10, 20)
for _ in range(8):
    loss = F.softmax_cross_entropy(net(images), labels)
    net.cleargrads()
    loss.backward()
    optimizer.update()
    print(loss.data)
"""


def beside(folder):
    """Where Python finds a folder's packages, and fastconv."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def test_dezero_itself(tmp_path):
    """Values, gradients and gradients of gradients are those of dezero, and all is served."""
    spec = importlib.util.find_spec("dezero")
    if spec is None or spec.origin is None:
        pytest.skip("dezero is not installed")
    env = beside(Path(spec.origin).parents[1])
    script = tmp_path / "use.py"
    script.write_text(DEZERO)
    # It compares with "is", and Python warns of that.
    expected = python("-W", "ignore", script, cwd=tmp_path, **env)
    assert expected.returncode == 0, expected.stderr
    done = python("-W", "ignore", "-m", "fastconv", "--profile", script, cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert_same_print(done.stdout, expected.stdout, tolerance=1e-8)
    assert "fastconv: served dezero (functions_conv); " in last_line(done)
    assert "your own" not in last_line(done) and "dezero's code" not in last_line(done)
    for name in ("Conv2d ", "Deconv2d ", "Conv2DGradW ", "Pooling ", "Pooling2DGrad "):
        assert f"\n{name}" in "\n" + done.stderr


CS231N = """
import numpy as np
from cs231n.fast_layers import *
rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 3, 8, 8)), rng.standard_normal((4, 3, 3, 3)), rng.random(4)
out, cache = conv_forward_fast(x, w, b, {"stride": 1, "pad": 1})
relu = np.maximum(out, 0).round()
pool, kept = max_pool_forward_fast(relu, {"pool_height": 2, "pool_width": 2, "stride": 2})
dout = max_pool_backward_fast(rng.standard_normal(pool.shape), kept)
for array in (out, pool, dout, *conv_backward_fast(dout, cache)):
    weights = np.cos(np.arange(array.size)).reshape(array.shape)
    print(array.shape, round(float((array * weights).sum()), 9))
"""


def test_cs231n_itself(tmp_path):
    home = os.environ.get("FASTCONV_TEST_CS231N")
    if not home:
        pytest.skip("FASTCONV_TEST_CS231N names no folder with Stanford's cs231n, built")
    script = tmp_path / "use.py"
    script.write_text(CS231N)
    env = beside(home)
    expected = python(script, cwd=tmp_path, **env)
    assert expected.returncode == 0, expected.stderr
    done = python("-m", "fastconv", script, cwd=tmp_path, **env)
    assert_same_print(done.stdout, expected.stdout, tolerance=1e-8)
    assert "served cs231n (fast_layers" in last_line(done) and "your own" not in last_line(done)


# ---- CuPy ----------------------------------------------------------------------------------

CUPY = """
import numpy

class ndarray:
    def __init__(self, inner):
        self.inner = inner
    def __array__(self, *words, **more):
        raise TypeError("not by itself")
    def __array_function__(self, function, types, given, named):
        plain = [one.inner if isinstance(one, ndarray) else one for one in given]
        return ndarray(function(*plain, **named))
    def __le__(self, number):
        return self.inner <= number
    def __repr__(self):
        return f"on the GPU: {self.inner.tolist()}"

def array(values):
    return ndarray(numpy.array(values))
"""
FLAG = (
    "from common.config import GPU\nif GPU:\n    import cupy as np\nelse:\n    import numpy as np\n"
)
ALL = "from common.np import *\n"


@pytest.mark.parametrize("where", ["np", "layers"])
def test_without_cupy_its_flag_is_off(book, where):
    script = switching(book, where, gpu=False)
    expected = plainly(script, cwd=book)
    done = python("-m", "fastconv", script, cwd=book)
    assert done.stdout == expected == "[0.0, 2.0]\n"
    assert "served common (functions, layers, util)" in last_line(done)
    switching(book, where, gpu=True)
    assert "No module named 'cupy'" in python("-m", "fastconv", script, cwd=book).stderr


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("where", ["np", "layers", "relative"])
def test_what_can_switch_to_cupy_stays(book, where, gpu):
    """No layer of ours takes its arrays."""
    (book / "cupy.py").write_text(CUPY)
    script = switching(book, where, gpu)
    expected = plainly(script, cwd=book)
    assert expected.startswith("on the GPU" if gpu else "[0.0, 2.0]")
    done = python("-m", "fastconv", script, cwd=book)
    assert done.stdout == expected
    why = "common.layers: your own, as it can switch to CuPy, which is installed"
    assert why in last_line(done)


def switching(book, where, gpu):
    """A script whose layers have NumPy or CuPy by a flag, in a module of its own or in theirs."""
    common = book / "common"
    (common / "config.py").write_text(f"GPU = {gpu}\n")
    (common / "np.py").write_text(FLAG)
    imports = {"np": "from common.np import *\n", "relative": "from .np import *\n", "layers": FLAG}
    path = common / "layers.py"
    path.write_text(path.read_text().replace("import numpy as np\n", imports[where], 1))
    script = book / "use.py"
    script.write_text(
        "from common.np import *\nfrom common.layers import Relu\n"
        "y = Relu().forward(np.array([-1.0, 2.0]))\n"
        "print(y.tolist() if hasattr(y, 'tolist') else y)\n"
    )
    return script
