"""No caller and no file may get an unchecked array into a kernel.

Ways in: optimizers' state, averages, best weights, what backward uses of forward, derived classes.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
import warnings

import numpy as np
import pytest

import fastconv
from fastconv import functions, ops
from fastconv.errors import (
    ArgumentError,
    DTypeError,
    FastconvError,
    LabelError,
    ShapeError,
    WeightsError,
)
from fastconv.io.arrays import load_arrays, save_arrays
from fastconv.layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
    Tanh,
)
from fastconv.network import Network
from fastconv.optimizer import OPTIMIZERS, Adam, Momentum
from fastconv.trainer import Trainer
from fastconv.training.averaging import EMA, SWA, WeightAverage
from fastconv.training.validation import Validation

pytestmark = pytest.mark.usefixtures("way")

NAMES = list(OPTIMIZERS)
KEEPING = [name for name in NAMES if OPTIMIZERS[name].kept]


def trained(name, shape=(3, 4)):
    """An optimizer after two steps, and its parameter."""
    optimizer, params = OPTIMIZERS[name](), {"W": np.ones(shape)}
    for _ in range(2):
        optimizer.update(params, {"W": np.full(shape, 0.5)})
    return optimizer, params


def state_of(optimizer):
    return {key: value.copy() for key, value in optimizer.state().items()}


def same(state, other):
    assert state.keys() == other.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(value, other[key])


# ---- an optimizer's state ---------------------------------------------------------------


def first_kept(state):
    return next(key for key in state if key != "iter")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: np.array(["1.5"] * a.size).reshape(a.shape),
        lambda a: a.astype(object),
        lambda a: a.astype(complex),
        lambda a: a.astype(np.int64),
        lambda a: a > 0,
        lambda a: a.astype(np.longdouble),
        lambda a: a.astype([("m", "f8")]),
    ],
    ids=["text", "object", "complex", "integers", "bool", "longdouble", "record"],
)
@pytest.mark.parametrize("name", KEEPING)
def test_a_state_of_another_dtype_is_refused_and_the_old_one_stays(name, wrong):
    optimizer, _ = trained(name)
    before, state = state_of(optimizer), state_of(optimizer)
    key = first_kept(state)
    state[key] = wrong(state[key])
    with pytest.raises(WeightsError, match=f"^{type(optimizer).__name__}: .*{key}'.* got dtype"):
        optimizer.load_state(state)
    same(optimizer.state(), before)


@pytest.mark.parametrize("cut", [lambda a: a[:1], lambda a: a.reshape(-1), lambda a: a[0, 0]])
@pytest.mark.parametrize("name", KEEPING)
def test_a_state_of_another_shape_is_refused_by_the_first_step(backend, name, cut):
    """At once if the parameters are known, else when they are seen, before any has changed."""
    optimizer, params = trained(name)
    state = {key: a if key == "iter" else cut(a) for key, a in state_of(optimizer).items()}
    before = state_of(optimizer)
    with pytest.raises(WeightsError, match=r"has shape .*, expected \(3, 4\)"):
        optimizer.load_state(state, params)
    same(optimizer.state(), before)
    optimizer.load_state(state)
    values, steps = params["W"].copy(), getattr(optimizer, "iter", None)
    with fastconv.use_backend(backend), pytest.raises(ShapeError, match=r"expected .*\(3, 4\)"):
        optimizer.update(params, {"W": np.ones((3, 4))})
    np.testing.assert_array_equal(params["W"], values)
    assert getattr(optimizer, "iter", None) == steps


def test_states_of_different_parameters_are_refused():
    optimizer, _ = trained("adam")
    for change in (lambda s: s.pop("v/W"), lambda s: s.update({"v/W": s["v/W"][:1]})):
        state = state_of(optimizer)
        change(state)
        with pytest.raises(WeightsError, match="'m' and 'v' are of other parameters, or differ"):
            optimizer.load_state(state)
    with pytest.raises(WeightsError, match=r"'m/W' has shape \(3, 4\), expected no such parameter"):
        optimizer.load_state(state_of(optimizer), {"V": np.ones((3, 4))})


@pytest.mark.parametrize(
    "steps",
    [-1, 2**53 + 1, np.uint64(2**64 - 1), 2.0, np.nan, True, "3", 3 + 0j, [3], None],
    ids=str,
)
def test_an_invalid_number_of_steps_is_refused(steps):
    optimizer, _ = trained("adam")
    state = state_of(optimizer)
    with pytest.raises(WeightsError, match="'iter' must be a whole number from 0 to"):
        optimizer.load_state(state | {"iter": np.array(steps)})
    assert optimizer.iter == 2
    del state["iter"]
    with pytest.raises(WeightsError, match="lacks 'iter'"):
        optimizer.load_state(state)


@pytest.mark.parametrize(
    "given",
    [
        lambda a: np.asfortranarray(a),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a.astype(a.dtype.newbyteorder()),
        lambda a: a.astype(np.float32),
        lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
    ],
    ids=["Fortran", "strided", "byte-swapped", "float32", "read-only"],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_state_in_any_memory_is_taken(backend, name, given):
    optimizer, params = trained(name)
    expected = {"W": params["W"].copy()}
    again = OPTIMIZERS[name]()
    state = {key: a if key == "iter" else given(a) for key, a in state_of(optimizer).items()}
    again.load_state(state)
    kept = [value for key, value in again.state().items() if key != "iter"]
    assert all(value.flags.c_contiguous and value.dtype.isnative for value in kept)
    with fastconv.use_backend(backend):
        again.update(params, {"W": np.full((3, 4), 0.25)})
        optimizer.update(expected, {"W": np.full((3, 4), 0.25)})
    np.testing.assert_allclose(params["W"], expected["W"], rtol=1e-5)


# ---- arrays that are set by hand, and arrays on the same memory -----------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.zeros(1), ShapeError, "m has shape"),
        (np.zeros((4, 3)), ShapeError, "m has shape"),
        (np.zeros((3, 4), int), DTypeError, "m must be of floating-point numbers"),
        (np.zeros((3, 4), "U3"), DTypeError, "m must be of floating-point numbers"),
        (np.broadcast_to(0.0, (3, 4)), ArgumentError, "m is read-only"),
        ([[0.0] * 4] * 3, ArgumentError, "m must be an array, got list"),
    ],
)
def test_moments_set_by_hand(backend, value, error, message):
    adam, params = trained("adam")
    adam.m["W"] = value
    before = params["W"].copy()
    with fastconv.use_backend(backend), pytest.raises(error, match=f"Adam: 'W': {message}"):
        adam.update(params, {"W": np.ones((3, 4))})
    np.testing.assert_array_equal(params["W"], before)


def test_what_a_step_changes_shares_no_memory():
    memory = np.ones(20)
    for a, b in ((memory[:12], memory[:12]), (memory[:12], memory[8:])):
        adam, params = trained("adam", 12)
        adam.m["W"], adam.v["W"] = a.copy(), b
        params["W"] = a
        with pytest.raises(ArgumentError, match="v shares memory"):
            adam.update(params, {"W": np.ones(12)})
    columns = np.ones((12, 2))  # interleaved columns do not overlap
    adam, params = trained("adam", 12)
    params["W"], adam.m["W"] = columns[:, 0], columns[:, 1]
    adam.update(params, {"W": np.ones(12)})


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_on_the_parameters_memory_is_read_before_it_changes(backend, name):
    """As for x*x/2, whose gradient is x; and for one that is shifted by a number."""
    memory = np.linspace(1, 2, 40_001)
    for shift in (0, 1):
        params = {"W": memory[:40_000].copy()}
        expected = {"W": params["W"].copy()}
        overlapping = memory.copy()
        params["W"] = overlapping[:40_000]
        gradient = overlapping[shift : 40_000 + shift]
        kept = gradient.copy()
        with fastconv.use_backend(backend):
            OPTIMIZERS[name]().update(params, {"W": gradient})
            OPTIMIZERS[name]().update(expected, {"W": kept})
        np.testing.assert_array_equal(params["W"], expected["W"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("grads", "error"),
    [
        ({"W": np.ones(3)}, ArgumentError),
        ({"W": np.ones(3), "b": np.ones(3)}, ShapeError),
        ({"W": np.ones(3), "b": np.ones(2, complex)}, DTypeError),
        ({"W": np.ones(3), "b": np.array(["1", "2"])}, DTypeError),
    ],
)
def test_a_step_that_cannot_be_taken_changes_nothing(name, grads, error):
    optimizer, params = OPTIMIZERS[name](), {"W": np.ones(3), "b": np.ones(2)}
    with pytest.raises(error, match="'b'"):
        optimizer.update(params, grads)
    np.testing.assert_array_equal(params["W"], 1)
    assert getattr(optimizer, "iter", 0) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.ones(3, int), np.ones(3, "U1"), np.broadcast_to(1.0, 3)])
def test_parameters_that_cannot_be_changed(name, value):
    with pytest.raises((DTypeError, ArgumentError), match="the parameter"):
        OPTIMIZERS[name]().update({"W": value}, {"W": np.ones(3)})


# ---- checkpoints ------------------------------------------------------------------------


def run(**options):
    rng = np.random.default_rng(0)
    layers = [
        Affine(rng.standard_normal((4, 6)), np.zeros(6)),
        BatchNormalization(np.ones(6), np.zeros(6)),
        Relu(),
        Affine(rng.standard_normal((6, 3)), np.zeros(3)),
    ]
    x, t = rng.standard_normal((20, 4)), np.arange(20) % 3
    options = {"optimizer": "Adam", "averaging": EMA(0.9), "early_stopping": 5} | options
    return Trainer(
        Network(layers, "float64"),
        *(x, t, x, t),
        epochs=3,
        mini_batch_size=10,
        seed=1,
        validation=(x, t),
        verbose=False,
        evaluate="end",
        **options,
    )


def everything(trainer):
    arrays = trainer._weights.state() | trainer.optimizer.state()
    return {key: np.array(value) for key, value in arrays.items()}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a.reshape(-1)[:1],
        lambda a: np.full(a.shape, "1.5"),
        lambda a: a.astype(complex),
    ],
    ids=["cut", "text", "complex"],
)
@pytest.mark.parametrize(
    "name",
    [
        "optimizer/m/W1",
        "optimizer/v/b3",
        "optimizer/iter",
        "params/W1",
        "statistics/1/running_var",
        "averaging/params/W3",
        "averaging/EMA",
        "averaging/statistics/1/running_mean",
        "validation/params/b1",
        "validation/progress",
    ],
)
def test_a_checkpoint_with_a_spoilt_array_is_refused_and_nothing_changes(tmp_path, name, wrong):
    path = tmp_path / "checkpoint.npz"
    first, second = run(), run()
    first.train()
    first.save_checkpoint(path)
    arrays, metadata = load_arrays(path)
    second.train_step()
    before = everything(second)
    spoilt = wrong(arrays[name])
    if name.endswith(("iter", "EMA")):
        spoilt = np.array(-3) if spoilt.dtype.kind in "iu" else spoilt
    save_arrays(path, arrays | {name: spoilt}, metadata)
    with pytest.raises(WeightsError):
        second.load_checkpoint(path)
    same(everything(second), before)
    save_arrays(path, arrays, metadata)
    second.load_checkpoint(path)
    same(everything(second), everything(first))


def test_an_average_of_whole_numbers_goes_on_in_float64():
    average = WeightAverage(SWA(1))
    average.load_state({"SWA": np.array(1), "params/W": np.arange(3)})
    assert average.averages["params/W"].dtype == np.float64
    for state in (
        {"SWA": np.array(2)},
        {"SWA": np.array(0), "params/W": np.ones(3)},
        {"SWA": np.array(1), "params/W": np.array(["a"])},
        {"SWA": np.array(0.5), "params/W": np.ones(3)},
    ):
        with pytest.raises(WeightsError):
            average.load_state(state)


@pytest.mark.parametrize("numbers", [[0, 0, 0], [np.nan] * 5, [1.5, 1], [3, 5], [-1, -1], [2, 1]])
def test_a_validation_that_cannot_have_been(numbers):
    validation = Validation(np.ones((2, 3)), np.arange(2), 3)
    if len(numbers) == 2:
        numbers = [validation._checksum, *numbers, 0.5, 0.5]
    with pytest.raises(WeightsError):
        validation.load_state({"progress": np.array(numbers, float)})
    assert (validation.best_epoch, validation.best) == (0, None)


@pytest.mark.parametrize(
    "wrong", [np.full((4, 6), "1"), np.ones((4, 6), complex), np.full((4, 6), None)]
)
def test_weights_that_are_not_numbers(wrong):
    network = run().network
    before = network.state()
    with pytest.raises(WeightsError, match="W1 must be real numbers"):
        network.set_state(network.state() | {"W1": wrong})
    same(network.state(), before)


# ---- what backward uses of forward ----------------------------------------------------------


def images(*shape):
    return np.random.default_rng(3).standard_normal(shape)


LAYERS = {
    "conv": lambda b: Convolution(images(4, 3, 3, 3), images(4), pad=1, backend=b),
    "grouped": lambda b: Convolution(images(6, 1, 3, 3), images(6), groups=3, backend=b),
    "max": lambda b: Pooling(2, 2, 2, backend=b),
    "average": lambda b: AveragePooling(2, 2, 2, backend=b),
    "relu": lambda b: Relu(backend=b),
    "tanh": lambda b: Tanh(backend=b),
    "lrn": lambda b: LocalResponseNormalization(3, backend=b),
    "norm2d": lambda b: BatchNormalization2d(images(3), images(3), backend=b),
    "norm": lambda b: BatchNormalization(images(108), images(108), backend=b),
    "affine": lambda b: Affine(images(108, 4), images(4), backend=b),
    "sigmoid": lambda b: Sigmoid(backend=b),
}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("name", LAYERS)
def test_backward_by_a_copied_context(backend, name, copied):
    """A pickle keeps the numbers of an array, not the order of its memory."""
    layer = LAYERS[name](backend)
    dout = images(*layer.forward(images(2, 3, 6, 6)).shape)
    other = copied(layer)
    other._context = copied(layer._context)
    np.testing.assert_array_equal(other.backward(dout), layer.backward(dout))
    for key in layer.parameter_names:
        np.testing.assert_array_equal(getattr(other, "d" + key), getattr(layer, "d" + key))


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("conv", (5, 3, 3, 3)),
        ("conv", (4, 2, 3, 3)),
        ("conv", (4, 3, 3, 2)),
        ("conv", ()),
        ("grouped", (5, 1, 3, 3)),
        ("grouped", (3, 1, 3, 3)),
        ("affine", (108, 5)),
        ("affine", (108,)),
        ("affine", (108, 0)),
        ("norm2d", (1,)),
        ("norm", (1,)),
        ("norm", (107,)),
    ],
)
def test_weights_replaced_by_others_between_forward_and_backward(backend, name, weight):
    layer = LAYERS[name](backend)
    shape = layer.forward(images(2, 3, 6, 6)).shape
    setattr(layer, "gamma" if "norm" in name else "W", np.ones(weight))
    wider = (
        shape
        if "norm" in name or not weight
        else (2, weight[-1 if name == "affine" else 0], *shape[2:])
    )
    for dout in (shape, wider):
        with pytest.raises(ShapeError, match=r"backward: (weight|gamma|dout) has shape"):
            layer.backward(np.ones(dout))


def test_weights_of_a_block_replaced_by_others(backend):
    for pool in (False, True):
        out, context = ops.conv2d_block_forward(
            images(2, 3, 6, 6), images(4, 3, 3, 3), images(4), pool=pool, backend=backend
        )
        with pytest.raises(ShapeError, match="weight has shape"):
            ops.conv2d_block_backward(np.ones(out.shape), images(8, 3, 3, 3), context)


@pytest.mark.parametrize("name", ["conv", "grouped", "affine"])
def test_the_input_that_a_layer_shows_may_be_given_another_shape(backend, name):
    layer = LAYERS[name](backend)
    out = layer.forward(np.ascontiguousarray(images(2, 3, 6, 6)))
    if not layer.x.flags.c_contiguous:
        pytest.skip("NumPy gives such memory no other shape")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        layer.x.shape = (1, *(2 * n if i == 0 else n for i, n in enumerate(layer.x.shape[1:])))
    with pytest.raises(ShapeError, match="x, as forward kept it, has shape"):
        layer.backward(np.ones(out.shape))


def test_labels_that_change_after_forward(backend):
    """Backward uses them as places in memory."""
    loss, t = SoftmaxWithLoss(backend=backend), np.array([0, 2, 1])
    loss.forward(images(3, 3), t)
    expected = loss.backward()
    loss.forward(images(3, 3), t)
    t[...] = 2**40
    np.testing.assert_array_equal(loss.backward(), expected)


@pytest.mark.parametrize("label", [np.inf, -np.inf, 1e300, np.nan, 3.0, -1.0, 0.5])
def test_labels_beyond_whole_numbers(backend, label):
    with pytest.raises(LabelError):
        SoftmaxWithLoss(backend=backend).forward(images(2, 3), np.array([0.0, label]))


@pytest.mark.parametrize("make", [Sigmoid, lambda: Dropout(0.5)])
def test_a_gradient_of_another_shape_is_not_stretched(make):
    layer = make()
    layer.forward(images(4, 3))
    with pytest.raises(ShapeError, match=r"dout has shape \(3,\), expected \(4, 3\)"):
        layer.backward(np.ones(3))


@pytest.mark.parametrize("shape", [(1,), (3, 1), (4,)])
@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("kind", [BatchNormalization, BatchNormalization2d])
def test_running_statistics_of_another_shape(kind, name, shape):
    layer = kind(np.ones(3), np.zeros(3), running_mean=np.zeros(3), running_var=np.ones(3))
    setattr(layer, name, np.ones(shape))
    x = images(5, 3) if kind is BatchNormalization else images(5, 3, 2, 2)
    for train in (True, False):
        with pytest.raises(ShapeError, match=r"(mean|var|variance) has shape"):
            layer.forward(x, train)


def test_statistics_that_do_not_fit_a_convolution_are_not_folded_into_it(backend):
    norm = BatchNormalization2d(np.ones(4), np.zeros(4))
    conv = Convolution(images(4, 3, 1, 1), images(4))
    network = Network([conv, norm], "float64", backend=backend)
    norm.running_var = np.ones(1)
    with pytest.raises(ShapeError, match="running_var has shape"):
        network.predict(images(2, 3, 6, 6))


# ---- arrays of derived classes -----------------------------------------------------------


class Metres(np.ndarray):
    """An array with a unit, whose class changes what NumPy's functions do."""

    def __array_ufunc__(self, *arguments, **named):
        raise AssertionError("computed by the derived class")

    def __array_finalize__(self, other):
        self.unit = "m"


def matrix(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return a.view(np.matrix) if a.ndim == 2 else a


def memmapped(a):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, a.dtype, "w+", shape=a.shape)
    mapped[...] = a
    return mapped


DERIVED = {
    "matrix": matrix,
    "unit": lambda a: a.view(Metres),
    "memmap": memmapped,
    "masked": np.ma.asarray,
}


@pytest.mark.parametrize("kind", DERIVED)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_give_plain_arrays_and_the_same_numbers(backend, name, kind):
    derived, rng = DERIVED[kind], np.random.default_rng(0)
    x = rng.standard_normal(
        (2, 108) if name in ("relu", "tanh", "norm", "affine", "sigmoid") else (2, 3, 6, 6)
    )
    plain, other = LAYERS[name](backend), LAYERS[name](backend)
    for key in other.parameter_names:
        setattr(other, key, derived(getattr(other, key)))
    out, got = plain.forward(x), other.forward(derived(x))
    dout = rng.standard_normal(out.shape)
    pairs = [(got, out), (other.backward(derived(dout)), plain.backward(dout))]
    pairs += [(getattr(other, "d" + k), getattr(plain, "d" + k)) for k in plain.parameter_names]
    for actual, expected in pairs:
        assert type(actual) is np.ndarray
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", DERIVED)
@pytest.mark.parametrize("name", NAMES)
def test_optimizers_change_them_in_place(backend, name, kind):
    derived = DERIVED[kind]
    plain, gradient = {"W": images(3, 3)}, images(3, 3)
    array = derived(plain["W"].copy())
    params = {"W": array}
    with fastconv.use_backend(backend):
        for target, made in ((plain, np.asarray), (params, derived)):
            optimizer = OPTIMIZERS[name]()
            for _ in range(2):
                optimizer.update(target, {"W": made(gradient)})
    assert params["W"] is array
    np.testing.assert_array_equal(np.asarray(array), plain["W"])


@pytest.mark.parametrize("kind", DERIVED)
def test_functions_losses_and_networks_take_them(kind):
    derived, x = DERIVED[kind], images(4, 3)
    for function in (functions.relu, functions.sigmoid, functions.softmax, functions.relu_grad):
        got = function(derived(x))
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, function(x))
    t = np.array([0, 1, 2, 0])
    assert SoftmaxWithLoss().forward(derived(x), derived(t)) == SoftmaxWithLoss().forward(x, t)
    network = Network([Affine(images(3, 3), np.zeros(3))], "float64")
    gradients = network.gradient(derived(x), derived(t))
    for key, expected in network.gradient(x, t).items():
        assert type(gradients[key]) is np.ndarray
        np.testing.assert_array_equal(gradients[key], expected)
    network.set_params({key: derived(value) for key, value in network.params.items()})
    assert {type(value) for value in network.params.values()} == {np.ndarray}


@pytest.mark.parametrize("name", LAYERS)
def test_masked_values_are_refused(backend, name):
    layer = LAYERS[name](backend)
    x = images(2, 3, 6, 6)
    with pytest.raises(ArgumentError, match="with 1 values masked; fill it first"):
        layer.forward(np.ma.masked_where(x == x.max(), x))
    out = layer.forward(x)
    with pytest.raises(ArgumentError, match="masked"):
        layer.backward(np.ma.masked_where(out == out.max(), out))


def test_masked_values_are_refused_by_optimizers():
    hidden = np.ma.masked_array(np.ones(3), [0, 0, 1])
    for params, grads in ((hidden, np.ones(3)), (np.ones(3), hidden)):
        with pytest.raises(ArgumentError, match="masked"):
            Momentum().update({"W": params}, {"W": grads})


def test_records_are_refused(backend):
    records = np.rec.array([(1.0, 2.0)], dtype=[("a", "f8"), ("b", "f8")])
    with pytest.raises(DTypeError, match="relu: expected real numbers"):
        Relu(backend=backend).forward(records)
    assert issubclass(DTypeError, FastconvError)


def test_adam_takes_its_step_from_a_state_that_was_loaded_before(backend):
    adam = Adam()
    adam.load_state({"iter": np.array(0)})
    params = {"W": np.ones(2)}
    with fastconv.use_backend(backend):
        adam.update(params, {"W": np.ones(2)})
    assert adam.iter == 1
