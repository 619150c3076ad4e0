"""The optimizers, number by number, against the formulas of `naive`."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastconv
from fastconv import optimizer
from fastconv.errors import ArgumentError, ShapeError, WeightsError
from fastconv.optimizer import OPTIMIZERS, make_optimizer

from . import naive
from .awkward import unchanged

pytestmark = pytest.mark.usefixtures("way")

NAMES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam", "AdamW")
SETTINGS = {
    "SGD": {"lr": 0.1},
    "Momentum": {"lr": 0.1, "momentum": 0.7},
    "Nesterov": {"lr": 0.1, "momentum": 0.7},
    "AdaGrad": {"lr": 0.1},
    "RMSprop": {"lr": 0.1, "decay_rate": 0.8},
    "Adam": {"lr": 0.1, "beta1": 0.8, "beta2": 0.95},
    "AdamW": {"lr": 0.1, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.2, "eps": 1e-3},
}
NO_DECAY = {"AdamW": {"weight_decay": 0.0}}
"""What the naive formula needs for an array of fewer than two axes."""


def expected_after(name, values, gradients, **settings):
    """Each number of `values` after the steps along `gradients`, by the naive formula."""
    step = getattr(naive, name.lower())
    if name == "AdamW" and values.ndim < 2:
        settings["weight_decay"] = 0.0
    out = values.astype(float)
    for index, value in np.ndenumerate(out):
        state: dict = {}
        for gradient in gradients:
            value = step(value, float(gradient[index]), state, **settings)
        out[index] = value
    return out


@pytest.mark.parametrize("given", ["defaults", "settings"])
@pytest.mark.parametrize("name", NAMES)
def test_steps(backend, dtype, rng, name, given):
    settings = SETTINGS[name] if given == "settings" else {}
    shapes = {"W1": (3, 2, 2, 2), "b1": (3,), "W2": (4, 5)}
    params = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    steps = [
        {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
        for _ in range(3)
    ]
    steps[1]["b1"][0] = 0  # a moment that decays, and a square root of very little
    expected = {
        key: expected_after(name, params[key], [grads[key] for grads in steps], **settings)
        for key in shapes
    }
    arrays = dict(params)
    optimizer_ = getattr(optimizer, name)(**settings)
    with fastconv.use_backend(backend):
        for grads in steps:
            reordered = dict(reversed(grads.items()))
            with unchanged(*grads.values()):
                optimizer_.update(params, reordered)
    for key in shapes:
        assert params[key] is arrays[key]  # changed in place: the layers share the array
        assert params[key].dtype == dtype
        np.testing.assert_allclose(
            params[key], expected[key], rtol=0, atol=50 * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("name", NAMES)
def test_lr_may_change_between_updates(name):
    params, start = {"W": np.array([1.0])}, 1.0
    grads = {"W": np.array([0.5])}
    optimizer_ = getattr(optimizer, name)(lr=0.1)
    assert optimizer_.lr == 0.1
    optimizer_.update(params, grads)
    moved = start - params["W"][0]
    assert moved > 0
    optimizer_.lr = 0.0
    state: dict = {}
    step = partial(getattr(naive, name.lower()), **NO_DECAY.get(name, {}))
    expected = step(step(start, 0.5, state, lr=0.1), 0.5, state, lr=0.0)
    optimizer_.update(params, grads)
    assert params["W"][0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_plain_numbers_as_in_the_books_comparison_of_optimizers(name):
    """Its chapter 6 minimises x^2/20 + y^2 with params and gradients that are numbers."""
    params, optimizer_ = {"x": -7.0, "y": 2.0}, getattr(optimizer, name)(lr=0.1)
    expected = {}
    for key, slope in (("x", 0.1), ("y", 2.0)):
        value, state = params[key], {}
        for _ in range(3):
            step = partial(getattr(naive, name.lower()), **NO_DECAY.get(name, {}))
            value = step(value, slope * value, state, lr=0.1)
        expected[key] = value
    for _ in range(3):
        optimizer_.update(params, {"x": 0.1 * params["x"], "y": 2.0 * params["y"]})
    for key, value in expected.items():
        assert float(params[key]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_become_floats(name):
    params = {"x": 3, "y": np.array(3.0)}
    getattr(optimizer, name)(lr=0.5).update(params, {"x": 1, "y": np.array(1.0)})
    assert isinstance(params["x"], float) and params["x"] == params["y"] < 3


def test_moments_of_float16_parameters_do_not_vanish():
    """The square of a small gradient is 0 in float16, and a step would have no bounds."""
    params, adam = {"W": np.ones(1, np.float16)}, optimizer.Adam(lr=0.25)
    gradient = np.array([1e-4], np.float16)
    expected, state = 1.0, {}
    for _ in range(3):
        adam.update(params, {"W": gradient})
        expected = naive.adam(expected, float(gradient[0]), state, lr=0.25)
    assert params["W"].dtype == np.float16
    assert 0.2 < expected < 0.3  # nearly lr in each step
    np.testing.assert_allclose(params["W"], expected, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_state_continues_where_another_object_was(rng, name):
    grads = [{"W": rng.standard_normal(4), "b": rng.standard_normal(2)} for _ in range(4)]
    whole = {"W": np.ones(4), "b": np.ones(2)}
    first = getattr(optimizer, name)()
    for step in grads[:2]:
        first.update(whole, step)
    params = {key: value.copy() for key, value in whole.items()}
    second = getattr(optimizer, name)()
    second.load_state(first.state())
    for step in grads[2:]:
        first.update(whole, step)
        second.update(params, step)
    for key in whole:
        np.testing.assert_array_equal(params[key], whole[key])


@pytest.mark.parametrize("name", ["Momentum", "Nesterov", "RMSprop", "Adam", "AdamW"])
def test_what_is_kept_of_a_dead_unit_becomes_zero(name):
    """It would decay to a subnormal number that rounds to itself, and stay as slow as that is."""
    made = getattr(optimizer, name)()
    params = {"W": np.ones((2, 3), np.float32)}
    made.update(params, {"W": np.full((2, 3), 1e-17, np.float32)})
    before = {kept: np.abs(getattr(made, kept)["W"]) for kept in made.kept}
    assert all(np.all(value != 0) for value in before.values())
    for _ in range(1000):
        made.update(params, {"W": np.zeros((2, 3), np.float32)})
        for kept in made.kept:
            value = np.abs(getattr(made, kept)["W"])
            assert np.all((value == 0) | (value >= np.finfo(np.float32).smallest_normal))
            assert np.all(value <= before[kept])
            before[kept] = value


def test_state_of_another_optimizer_is_refused():
    adam = optimizer.Adam()
    adam.update({"W": np.ones(2)}, {"W": np.ones(2)})
    with pytest.raises(WeightsError, match="Momentum: cannot take the state"):
        optimizer.Momentum().load_state(adam.state())


def test_adam_refuses_a_gradient_of_another_shape():
    with pytest.raises(ShapeError, match=r"Adam: 'W': gradient has shape \(3,\), expected \(2,\)"):
        optimizer.Adam().update({"W": np.ones(2)}, {"W": np.ones(3)})


@pytest.mark.parametrize("name", NAMES)
def test_names_are_taken_in_any_case(name):
    for spelt in (name, name.lower(), name.upper()):
        made = make_optimizer(spelt, {"lr": 0.5})
        assert type(made) is OPTIMIZERS[name.lower()] is getattr(optimizer, name)
        assert made.lr == 0.5


def test_unknown_names_and_settings_are_told():
    with pytest.raises(ArgumentError, match=r"unknown optimizer 'lion'; known: .*adamw"):
        make_optimizer("lion", {})
    with pytest.raises(ArgumentError, match=r"optimizer 'sgd': .*momentum"):
        make_optimizer("sgd", {"momentum": 0.9})


@pytest.mark.parametrize("name", ["SGD", "Momentum"])
@pytest.mark.parametrize("memory", ["rows", "columns", "parts"])
def test_a_parameter_of_many_values_takes_the_step_of_each(rng, name, memory):
    """It is updated some thousands of values at a time: none is left out, none taken twice."""
    values, gradients = rng.standard_normal((3, 30001)), rng.standard_normal((2, 3, 30001))

    def laid(array):
        if memory == "rows":
            return array.copy()
        return np.asfortranarray(array) if memory == "columns" else array.repeat(2, axis=1)[:, ::2]

    params = {"W": laid(values)}
    made = getattr(optimizer, name)(lr=0.1, weight_decay=0.5)  # with it no backend's shorter way
    expected, v = values, np.zeros_like(values)
    for gradient in gradients:
        made.update(params, {"W": laid(gradient)})
        slope = gradient + 0.5 * expected
        v = 0.9 * v - 0.1 * slope if name == "Momentum" else -0.1 * slope
        expected = expected + v
    np.testing.assert_allclose(params["W"], expected, rtol=1e-13, atol=1e-14)


def test_a_step_of_ones_own_is_taken(backend):
    """A class that changes the step of another does not take that one's shorter way."""

    class Half(optimizer.SGD):
        def _take(self, step):
            param = step.param
            param -= step.lr * step.grad / 2

    class Same(optimizer.SGD):
        pass

    with fastconv.use_backend(backend):
        for make, expected in ((Half, 0.75), (Same, 0.5), (optimizer.SGD, 0.5)):
            params = {"W": np.ones((2, 3), np.float32)}
            make(lr=0.5).update(params, {"W": np.ones((2, 3), np.float32)})
            np.testing.assert_array_equal(params["W"], np.float32(expected))


def test_no_weight_decays_unasked():
    for name in NAMES:
        made = getattr(optimizer, name)()
        assert made.weight_decay == (0.01 if name == "AdamW" else 0)
        assert made.decayed is None
        assert not made.lr_factors


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_there_is_named(name):
    params = {"W": np.ones(2), "b": np.ones(2)}
    with pytest.raises(ArgumentError, match=f"^{name}: .*gradient of parameter 'b'"):
        getattr(optimizer, name)().update(params, {"W": np.ones(2)})
    np.testing.assert_array_equal(params["W"], 1)
