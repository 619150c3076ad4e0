"""Weight decay and learning rates by group of parameters, against the formulas and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv import optimizer
from fastconv.errors import ArgumentError, ShapeError
from fastconv.optimizer import SGD, AdamW, Momentum
from fastconv.training.groups import matching, rate_factors

SHAPES = {"conv.W": (3, 2, 2, 2), "conv.b": (3,), "fc.W": (4, 5), "fc.b": (5,)}


def drawn(rng, dtype="float64"):
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def after(made, params, steps):
    """Copies of the parameters after steps along these gradients."""
    params = {name: value.copy() for name, value in params.items()}
    for grads in steps:
        made.update(params, grads)
    return params


@pytest.fixture
def steps(rng):
    return [drawn(rng) for _ in range(4)]


# ---- weight decay ---------------------------------------------------------------------

TORCH = {
    "AdamW": (
        {"lr": 0.1, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.2, "eps": 1e-3},
        {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.2, "eps": 1e-3},
    ),
    "SGD": ({"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.1, "weight_decay": 0.3}),
    "Momentum": (
        {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.3},
        {"lr": 0.1, "momentum": 0.7, "weight_decay": 0.3},
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_as_in_pytorch(rng, steps, name):
    """PyTorch decays whatever it is given."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    settings, theirs = TORCH[name]
    params = drawn(rng)
    leaves = {key: torch.tensor(value, requires_grad=True) for key, value in params.items()}
    make = torch.optim.AdamW if name == "AdamW" else torch.optim.SGD
    reference = make(leaves.values(), **theirs)
    for grads in steps:
        for key, leaf in leaves.items():
            leaf.grad = torch.tensor(grads[key])
        reference.step()
    ours = after(getattr(optimizer, name)(**settings, decayed=["*"]), params, steps)
    for key, leaf in leaves.items():
        np.testing.assert_allclose(ours[key], leaf.detach().numpy(), rtol=1e-12, atol=1e-14)


def test_the_defaults_of_adamw_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    theirs = torch.optim.AdamW([torch.zeros(1)]).defaults
    ours = AdamW()
    assert (ours.lr, ours.eps, ours.weight_decay) == (
        theirs["lr"],
        theirs["eps"],
        theirs["weight_decay"],
    )
    assert (ours.beta1, ours.beta2) == theirs["betas"]


@pytest.mark.parametrize("make", [SGD, Momentum])
def test_coupled_decay_is_the_gradient_of_a_penalty(rng, steps, make):
    """One step with decay is one without along g + decay*p, for weights; biases take g alone."""
    params = drawn(rng)
    penalised = {
        key: value + 0.3 * params[key] if key.endswith("W") else value
        for key, value in steps[0].items()
    }
    got = after(make(lr=0.1, weight_decay=0.3), params, steps[:1])
    expected = after(make(lr=0.1), params, [penalised])
    for key in params:
        np.testing.assert_array_equal(got[key], expected[key])


def test_decoupled_decay_does_not_enter_the_moments(rng, steps):
    """AdamW shrinks the weights beside Adam's step, by lr times the decay."""
    params = drawn(rng)
    plain, decayed = AdamW(lr=0.1, weight_decay=0), AdamW(lr=0.1, weight_decay=0.5)
    still, moved = after(plain, params, steps[:1]), after(decayed, params, steps[:1])
    for key in params:
        np.testing.assert_array_equal(plain.m[key], decayed.m[key])
        shrunk = 0.05 * params[key] if key.endswith("W") else 0.0
        np.testing.assert_allclose(still[key] - moved[key], shrunk, rtol=0, atol=1e-15)


@pytest.mark.parametrize("make", [SGD, Momentum])
def test_patterns_say_what_decays(rng, steps, make):
    params = drawn(rng)
    free = after(make(lr=0.1), params, steps[:1])
    some = after(make(lr=0.1, weight_decay=0.3, decayed=["fc.*"]), params, steps[:1])
    for key in params:
        shrunk = 0.03 * params[key] if key.startswith("fc") else 0.0
        np.testing.assert_allclose(free[key] - some[key], shrunk, rtol=0, atol=1e-15)


@pytest.mark.parametrize("make", [SGD, Momentum])
def test_no_decay_is_the_books_step_bit_for_bit(rng, steps, make):
    params = drawn(rng, "float32")
    small = [{key: value.astype("float32") for key, value in step.items()} for step in steps]
    got = after(make(0.1), params, small)
    for key, value in params.items():
        expected, v = value.copy(), np.zeros_like(value)
        for step in small:
            if make is SGD:
                expected -= 0.1 * step[key]
            else:
                v *= 0.9
                v -= 0.1 * step[key]
                expected += v
        np.testing.assert_array_equal(got[key], expected)


# ---- learning rates by group ----------------------------------------------------------


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "AdamW"])
def test_a_factor_is_that_on_the_learning_rate(rng, steps, name):
    params = drawn(rng)
    grouped = getattr(optimizer, name)(lr=0.02)
    grouped.lr_factors = {"fc.W": 5.0, "fc.b": 0.5}
    got = after(grouped, params, steps)
    for factor, keys in ((1.0, ["conv.W", "conv.b"]), (5.0, ["fc.W"]), (0.5, ["fc.b"])):
        expected = after(getattr(optimizer, name)(lr=0.02 * factor), params, steps)
        for key in keys:
            np.testing.assert_array_equal(got[key], expected[key])


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "AdamW"])
def test_a_frozen_parameter_needs_no_gradient_and_keeps_no_moments(rng, steps, name):
    params = drawn(rng)
    made = getattr(optimizer, name)(lr=0.02)
    made.lr_factors = {"conv.W": 0.0}
    without = [{key: g for key, g in step.items() if key != "conv.W"} for step in steps]
    got = after(made, params, without)
    np.testing.assert_array_equal(got["conv.W"], params["conv.W"])
    assert not any("conv.W" in key for key in made.state())
    assert (got["fc.W"] != params["fc.W"]).all()
    made.lr_factors = {}  # thawed
    assert (after(made, got, steps)["conv.W"] != params["conv.W"]).all()


def test_the_first_pattern_decides():
    names = ["conv1.W", "conv1.b", "conv2.W", "fc.W"]
    factors = rate_factors("test", {"conv1.*": 0, "*.W": 2}, names)
    assert factors == {"conv1.W": 0.0, "conv1.b": 0.0, "conv2.W": 2.0, "fc.W": 2.0}
    assert matching("test", "*.b", names) == ["conv1.b"]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"head.*": 1}, r"test: 'head\.\*' matches no parameter; there are conv\.W, fc\.W"),
        (
            {"*": 1, "fc.*": 10},
            r"'fc\.\*' decides nothing: patterns before it match the same names",
        ),
        ({"fc.*": -1}, r"'fc\.\*' takes a number of at least 0, got -1"),
        ({"fc.*": math.nan}, "takes a number of at least 0, got nan"),
        ({"fc.*": "ten"}, "takes a number of at least 0, got 'ten'"),
    ],
)
def test_wrong_factors(factors, message):
    with pytest.raises(ArgumentError, match=message):
        rate_factors("test", factors, ["conv.W", "fc.W"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(weight_decay=-1), "SGD: weight_decay must be at least 0, got -1"),
        (lambda: Momentum(weight_decay=math.inf), "Momentum: weight_decay must be .* got inf"),
        (lambda: AdamW(weight_decay=math.nan), "AdamW: weight_decay must be at least 0, got nan"),
        (lambda: AdamW(beta1=1), "AdamW: beta1 must be at least 0 and below 1, got 1"),
        (lambda: AdamW(beta2=-0.1), r"AdamW: beta2 must be at least 0 and below 1, got -0\.1"),
        (lambda: AdamW(eps=0), "AdamW: eps must be greater than 0, got 0"),
        (lambda: AdamW(decayed="fc.*"), r"AdamW: decayed must be several patterns, got 'fc\.\*'"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_pattern_of_decay_that_matches_nothing_is_told():
    made = AdamW(decayed=["head.*"])
    with pytest.raises(
        ArgumentError, match=r"AdamW: decayed: 'head\.\*' matches no parameter; .*W"
    ):
        made.update({"W": np.ones((2, 2))}, {"W": np.ones((2, 2))})


def test_adamw_refuses_a_gradient_of_another_shape():
    with pytest.raises(ShapeError, match=r"AdamW: 'W': gradient has shape \(3,\), expected \(2,\)"):
        AdamW().update({"W": np.ones(2)}, {"W": np.ones(3)})
