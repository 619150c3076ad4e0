"""The compliance suite: it passes what is right, and finds each kind of wrong."""

from __future__ import annotations

import inspect
import itertools
import re
import time

import numpy as np
import pytest

import fastconv
from fastconv import selection, testing
from fastconv.backends.algorithms import ConvAlgorithms
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import KERNELS, Way
from fastconv.errors import UnknownBackend
from fastconv.geometry import window_geometry
from fastconv.testing import Report, call_kernel, check_backend

from .stand_ins import StandIn, fresh_registry, only_cases_of

pytestmark = pytest.mark.usefixtures("fine_grained")


@pytest.mark.parametrize("name", ["numba", "cython"])
def test_the_projects_own_backends_pass(name):
    """The reference passes too: below, it is compared with itself in the other layout."""
    if not (status := selection.registry().status(name)):
        pytest.skip(status.reason)
    report = check_backend(name)
    assert isinstance(report, Report)
    assert report.backend == name
    assert report.completed == ()
    assert report.comparisons > 1000
    assert report.in_programs > 1000
    assert set(report.largest_error) == set(KERNELS)
    assert 0 < report.largest_error["conv2d_forward"] <= 2e-5
    assert report.largest_error["im2col"] == 0


@pytest.fixture
def once(monkeypatch):
    """One number of threads, and programs of one dtype: the test above compares all of them."""
    monkeypatch.setattr(testing, "THREADS", (2,))
    monkeypatch.setattr(testing, "IN_PROGRAMS", ((np.dtype(np.float32), 2),))


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("max_isa", ["baseline", "avx2"])
def test_narrower_instruction_sets_pass(monkeypatch, max_isa):
    """Each is a separate build of Cython's; those that this CPU runs are checked.

    How work is shared among threads, and recorded, does not depend on vectors.
    """
    registry = fresh_registry(monkeypatch, max_isa=max_isa)
    status = registry.status("cython")
    if not status:
        pytest.skip(status.reason)
    check_backend("cython")


@pytest.mark.usefixtures("once")
def test_a_backend_of_others_passes_in_the_other_layout(registry, monkeypatch):
    """In float32: neither layout nor registration depends on the dtype."""
    monkeypatch.setattr(testing, "TOLERANCE", {np.dtype(np.float32): 2e-5})
    registry.register("mine", lambda: StandIn("mine", "channels_last"))
    assert check_backend("mine").completed == ()


def test_completed_families_are_reported(registry, monkeypatch):
    only_cases_of("relu_forward", monkeypatch)
    kernels = tuple(kernel for kernel in KERNELS if "relu" not in kernel)
    registry.register("mine", lambda: StandIn("mine", kernels=kernels))
    assert check_backend("mine").completed == ("relu_forward", "relu_backward")


def test_an_unknown_backend():
    with pytest.raises(UnknownBackend, match="unknown backend 'cuda'"):
        check_backend("cuda")


# ---- what it must find ----------------------------------------------------------------


def mistake(kernel: str):
    """Decorates a wrong kernel, which gets the right one and its arguments by name."""

    def decorate(wrong):
        MISTAKES[wrong.__name__] = kernel, wrong
        return wrong

    return decorate


MISTAKES: dict = {}
turns = itertools.count()


@mistake("conv2d_forward")
def forgets_the_bias(right, a):
    right(**{**a, "bias": np.zeros_like(a["bias"])})


@mistake("conv2d_forward")
def is_off_by_a_little(right, a):
    right(**a)
    a["out"] *= 1 + (4e-5 if a["out"].dtype == np.float32 else 4e-12)


@mistake("conv2d_forward")
def convolves_instead_of_correlating(right, a):
    right(**{**a, "weight": np.ascontiguousarray(a["weight"][..., ::-1, ::-1])})


@mistake("conv2d_forward")
def leaves_noise_of_zeros(right, a):
    """The noise that cancelling sums leave; whole numbers would not show it."""
    right(**a)
    if np.any(np.nan_to_num(a["x"]) % 1):
        a["out"] += np.abs(a["out"]) * np.finfo(a["out"].dtype).eps


@mistake("conv2d_block_forward")
def leaves_noise_of_zeros_in_a_block(right, a):
    leaves_noise_of_zeros(right, a)


@mistake("conv2d_backward")
def computes_in_float32(right, a):
    floats = {key: value for key, value in a.items() if isinstance(value, np.ndarray)}
    low = {**a, **{key: value.astype(np.float32) for key, value in floats.items()}}
    right(**low)
    for key in ("dx", "dweight", "dbias"):
        if a[key] is not None:
            a[key][...] = low[key]


@mistake("conv2d_backward")
def adds_to_what_was_in_the_output(right, a):
    before = a["dweight"].copy()
    right(**a)
    a["dweight"] += before


@mistake("conv2d_backward")
def wants_an_input_gradient(right, a):
    right(**a)
    if a["dx"] is None:
        a["dbias"][...] = 0


@mistake("col2im")
def leaves_gaps_as_they_were(right, a):
    x = a["x"].copy()
    right(**a)
    a["x"][...] = np.where(a["x"] == 0, x, a["x"])


@mistake("im2col")
def orders_channels_last(right, a):
    right(**a)
    g = a["geometry"]
    rows = a["col"].reshape(len(a["col"]), g.c, g.window).transpose(0, 2, 1)
    a["col"][...] = rows.reshape(a["col"].shape)


@mistake("maxpool2d_forward")
def lets_the_last_maximum_win(right, a):
    """By pooling the image upside down."""
    g = a["geometry"]
    right(**a)
    if any(g.pads) or g.strides != (1, 1):
        return
    out, winner = np.empty_like(a["out"]), np.empty_like(a["winner"])
    right(**{**a, "x": np.array(a["x"][:, :, ::-1, ::-1]), "out": out, "winner": winner})
    a["out"][...] = out[:, :, ::-1, ::-1]
    a["winner"][...] = g.window - 1 - winner[:, :, ::-1, ::-1]


@mistake("maxpool2d_forward")
def ignores_nan(right, a):
    right(**{**a, "x": np.nan_to_num(a["x"], nan=-np.inf, neginf=-np.inf)})


@mistake("maxpool2d_forward")
def lets_padding_win(right, a):
    right(**a)
    if any(a["geometry"].pads):
        np.maximum(a["out"], 0, out=a["out"])


@mistake("relu_forward")
def stops_nan(right, a):
    right(**a)
    a["out"][np.isnan(a["out"])] = 0


@mistake("relu_backward")
def multiplies_by_the_mask(right, a):
    with np.errstate(invalid="ignore"):
        a["dx"][...] = a["dout"] * a["mask"]


@mistake("affine_forward")
def writes_into_its_input(right, a):
    right(**a)
    a["x"].flags.writeable = True
    a["x"] *= 2


@mistake("affine_forward")
def writes_outside_of_its_output(right, a):
    right(**a)
    out = a["out"]
    beyond = np.lib.stride_tricks.as_strided(out.reshape(-1), (out.size + 1,), out.strides[-1:])
    beyond[-1] = 0


@mistake("affine_forward")
def writes_in_front_of_its_output(right, a):
    right(**a)
    np.lib.stride_tricks.as_strided(a["out"].reshape(-1)[::-1], (a["out"].size + 1,))[-1] = 0


@mistake("affine_backward")
def skips_the_last_row(right, a):
    right(**{**a, "dout": a["dout"][:-1], "x": a["x"][:-1], "dx": None})
    if a["dx"] is not None:
        np.matmul(a["dout"], a["weight"].T, out=a["dx"])


@mistake("batchnorm_train")
def takes_the_unbiased_variance(right, a):
    right(**a)
    n = len(a["x"])
    a["variance"] *= n / max(n - 1, 1)


@mistake("batchnorm_backward")
def takes_the_statistics_for_constants(right, a):
    right(**a)
    a["dx"][...] = a["gamma"] / np.sqrt(a["variance"] + a["epsilon"]) * a["dout"]


@mistake("avgpool2d_forward")
def divides_by_the_places(right, a):
    places = {key: a[key].copy() for key in ("rows", "cols")}
    for bounds in places.values():
        bounds[:, 2] = np.maximum(bounds[:, 1] - bounds[:, 0], 1)
    right(**{**a, **places})


@mistake("batchnorm2d_statistics")
def takes_the_variance_of_the_first_image(right, a):
    right(**a)
    a["variance"][...] = np.var(a["x"][0], axis=(1, 2))


@mistake("batchnorm2d_apply")
def adds_behind_the_relu(right, a):
    right(**{**a, "residual": None})
    if a["residual"] is not None:
        a["out"] += a["residual"]


@mistake("batchnorm2d_backward")
def leaves_the_gate_open(right, a):
    right(**{**a, "gate": None})


@mistake("softmax_cross_entropy_forward")
def sums_the_loss(right, a):
    return right(**a) * len(a["labels"])


@mistake("softmax_cross_entropy_forward")
def returns_nothing(right, a):
    right(**a)


@mistake("adam_update")
def takes_the_moments_of_the_step_before(right, a):
    m, v = a["m"].copy(), a["v"].copy()
    right(**a)
    a["m"][...], a["v"][...] = m, v


@mistake("adam_update")
def rolls_dice(right, a):
    """Within the tolerance, but never the same twice."""
    right(**a)
    a["param"] *= 1 + (next(turns) % 7) * np.finfo(a["param"].dtype).eps


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_kernel_is_found_and_named(registry, monkeypatch, name):
    kernel, wrong = MISTAKES[name]

    class Wrong(StandIn):
        def _watched(self, this, function):
            if this != kernel:
                return function

            def call(**arguments):
                return wrong(function, arguments)

            call.__signature__ = inspect.signature(function)
            return call

    only_cases_of(kernel, monkeypatch)
    registry.register("wrong", lambda: Wrong("wrong", "channels_last"))
    with pytest.raises(AssertionError, match=rf"^{kernel}\b"):
        check_backend("wrong")


def test_the_message_has_operation_shapes_dtype_threads_and_error(registry, monkeypatch):
    only_cases_of("conv2d_forward", monkeypatch)

    class Wrong(StandIn):
        def configure(self, *, threads, math_mode, algorithm):
            self.now = threads

        def _watched(self, kernel, function):
            if kernel != "conv2d_forward":
                return function

            def conv2d_forward(x, weight, bias, geometry, out):
                function(x, weight, bias, geometry, out)
                if self.now == 3:
                    out += 1

            return conv2d_forward

    registry.register("wrong", lambda: Wrong("wrong"))
    with pytest.raises(AssertionError) as caught:
        check_backend("wrong")
    message = str(caught.value)
    for part in (
        "conv2d_forward: x float32 (2, 1, 28, 28), weight float32 (16, 1, 3, 3)",
        "window 3 x 3, stride 1, pad 1, 3 threads: out of shape (2, 16, 28, 28) is off by 1.0",
    ):
        assert part in message
    assert re.search(r"allowed 2\.\d+e-04 \(largest value 1\.\d+e\+01\)", message)


def test_another_signature_is_found(registry):
    class Wrong(StandIn):
        def _watched(self, kernel, function):
            if kernel != "relu_forward":
                return function
            return lambda x, mask, out: function(x, out, mask)

    registry.register("wrong", lambda: Wrong("wrong"))
    message = r"wrong: relu_forward takes \(x, mask, out\), expected \(x, out, mask\)"
    with pytest.raises(AssertionError, match=message):
        check_backend("wrong")


def test_scratch_that_python_threads_share_is_found(registry, monkeypatch):
    """A kernel that keeps its input on the object: right alone, wrong beside another thread."""

    class Wrong(StandIn):
        def _watched(self, kernel, function):
            if kernel != "im2col":
                return function

            def im2col(x, geometry, col):
                self.scratch = x
                time.sleep(0.001)
                if self.scratch is x:
                    function(x, geometry, col)

            return im2col

    only_cases_of("im2col", monkeypatch)
    registry.register("wrong", lambda: Wrong("wrong"))
    with pytest.raises(AssertionError, match=r"^im2col: .*called from 4 Python threads at once"):
        check_backend("wrong")


@pytest.mark.parametrize(
    ("took", "message"),
    [
        ("winograd4", r"forward took \['winograd4'\], where wrong says \['winograd2'\]"),
        (None, r"forward took \[\], where wrong says \['winograd2'\]"),
    ],
)
def test_a_convolution_that_takes_another_way_than_it_says_is_found(
    registry, monkeypatch, took, message
):
    class Wrong(StandIn):
        def conv2d_algorithms(self, geometry, filters, pooled):
            return ConvAlgorithms("winograd2", "direct", "direct")

        def ways_taken(self):
            count = self.calls.count("conv2d_forward")
            return {Way("forward", took, "float32", 4, False): count} if took else {}

    only_cases_of("conv2d_forward", monkeypatch)
    registry.register("wrong", lambda: Wrong("wrong"))
    with pytest.raises(AssertionError, match=message):
        check_backend("wrong")


# ---- the strict caller ----------------------------------------------------------------


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_call_kernel_gives_memory_that_forgives_nothing(layout):
    seen = {}

    class Looking(NumpyBackend):
        def conv2d_forward(self, x, weight, bias, geometry, out):
            seen.update(x=x, weight=weight, bias=bias, out=out, filled=out.copy())
            super().conv2d_forward(x, weight, bias, geometry, out)

    backend = Looking()
    backend.layout = layout
    g = window_geometry("test", (2, 3, 5, 4), 3, 3, 1, 1)
    inputs = {"x": np.ones((2, 3, 5, 4)), "weight": np.ones((4, 3, 3, 3)), "bias": np.ones(4)}
    call_kernel(backend, "conv2d_forward", **inputs, geometry=g)
    assert np.isnan(seen["filled"]).all()
    for name in ("x", "weight", "bias"):
        assert not seen[name].flags.writeable
        assert seen[name].flags.aligned
        np.testing.assert_array_equal(seen[name], inputs[name])
    assert seen["out"].ctypes.data % 64 and seen["x"].ctypes.data % 64
    for name in ("x", "out"):
        array = seen[name] if layout == "channels_first" else seen[name].transpose(0, 2, 3, 1)
        assert array.flags.c_contiguous
    assert seen["weight"].flags.c_contiguous


def test_the_choice_of_threads_is_as_before_after_a_check(registry, monkeypatch):
    only_cases_of("relu_forward", monkeypatch)
    mine = StandIn("mine")
    registry.register("mine", lambda: mine)
    fastconv.set_num_threads(5)
    check_backend("mine")
    assert mine.threads[0] == mine.threads[-1] == 5
    assert {1, 2, 3} <= set(mine.threads)
