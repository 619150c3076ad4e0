"""Gradients held to a norm, against the definition, PyTorch's, and in a Trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv.errors import ArgumentError
from fastconv.training.clipping import clip_gradients, global_norm

from .awkward import unchanged
from .test_trainer import Watched, trainer


@pytest.fixture
def grads(rng, dtype):
    shapes = {"W": (5, 4, 3, 3), "b": (5,), "s": ()}
    return {key: np.asarray(rng.standard_normal(shape), dtype) for key, shape in shapes.items()}


def naive_norm(grads) -> float:
    return math.sqrt(math.fsum(float(x) ** 2 for g in grads.values() for x in g.reshape(-1)))


@pytest.mark.parametrize("limit", [0.5, 5.0, 1e3])
def test_as_in_pytorch(grads, dtype, limit):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    leaves = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads.values()]
    for leaf, gradient in zip(leaves, grads.values(), strict=True):
        leaf.grad = torch.tensor(gradient, dtype=torch.float64)
    theirs = torch.nn.utils.clip_grad_norm_(leaves, limit)
    clipped, norm = clip_gradients(grads, limit)
    assert norm == pytest.approx(float(theirs), rel=1e-12)
    for leaf, gradient in zip(leaves, clipped.values(), strict=True):
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=4 * np.finfo(dtype).eps)


def test_what_is_longer_gets_the_limits_length_and_keeps_its_direction(grads, dtype):
    with unchanged(*grads.values()):
        clipped, norm = clip_gradients(grads, 2.0)
    assert norm == pytest.approx(naive_norm(grads), rel=1e-14)
    assert naive_norm(clipped) == pytest.approx(2.0, rel=1e-6)
    for key, gradient in grads.items():
        np.testing.assert_allclose(clipped[key], gradient * (2 / norm), rtol=1e-6)


def test_what_is_shorter_is_left_alone(grads):
    clipped, norm = clip_gradients(grads, 1e3)
    assert clipped is grads
    assert norm == global_norm(grads)


def test_squares_of_float32_are_summed_in_float64():
    """The squares of these are 0 in float32, and those infinite."""
    tiny, huge = np.full(4, 1e-30, np.float32), np.full(4, 1e30, np.float32)
    assert global_norm({"W": tiny}) == pytest.approx(2e-30, rel=1e-6)
    assert global_norm({"W": huge}) == pytest.approx(2e30, rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_gradient_is_shown_and_not_hidden(value):
    grads = {"W": np.array([1.0, value]), "b": np.array([2.0])}
    clipped, norm = clip_gradients(grads, 1.0)
    assert clipped is grads and not math.isfinite(norm)


def test_a_trainer_clips_each_step_and_records_the_mean_norm():
    class Steep(Watched):
        def gradient(self, x, t):
            super().gradient(x, t)
            return {"W": np.array([3.0, 4.0]) * len(self.of("gradient"))}

    network = Steep()
    run = trainer(network, epochs=2, clip_norm=10.0, optimizer_param={"lr": 1.0})
    run.train()
    # Norms 5, 10, 15, 20, 25 of the direction (3, 4); the steps are 5, and 10 four times.
    np.testing.assert_allclose(network.params["W"], [-27, -36], rtol=1e-6)
    assert [record["gradient_norm"] for record in run.history] == pytest.approx([7.5, 20])


def test_frozen_parameters_do_not_count():
    class Two(Watched):
        def gradient(self, x, t):
            super().gradient(x, t)
            return {"W": np.array([3.0, 4.0]), "V": np.full(2, 1e9)}

    network = Two()
    network.params["V"] = np.zeros(2)
    run = trainer(network, epochs=1, clip_norm=10.0, lr_factors={"V": 0})
    run.train()
    assert run.history[0]["gradient_norm"] == pytest.approx(5)
    np.testing.assert_array_equal(network.params["V"], 0)


def test_without_clipping_no_norm_is_taken():
    run = trainer(epochs=1)
    run.train()
    assert run.history[0]["gradient_norm"] is None


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_wrong_limits(limit):
    with pytest.raises(ArgumentError, match=f"clip_norm must be greater than 0, got {limit}"):
        trainer(clip_norm=limit)
