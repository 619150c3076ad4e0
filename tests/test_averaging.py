"""Averages of weights, against their definitions, and which weights a Trainer uses when."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastconv.errors import ArgumentError, WeightsError
from fastconv.layers import Affine, BatchNormalization, Relu
from fastconv.network import Network
from fastconv.training.averaging import EMA, SWA, WeightAverage
from fastconv.training.learned import exchanged, learned, put

from .test_trainer import T, Watched, X, trainer


class Walking(Watched):
    """Its weight after step n is n^2, and its accuracy is the weight it is asked with."""

    def gradient(self, x, t):
        super().gradient(x, t)
        return {"W": -(2.0 * len(self.of("gradient")) - 1) * np.ones(2)}

    def accuracy(self, x, t):
        return float(self.params["W"][0])

    def predict(self, x):
        return np.zeros((len(x), 3))


def walk(**options):
    """The first 5 steps, 2 of the first epoch and 3 of the second, at 1, 4 | 9, 16, 25."""
    network = Walking()
    run = trainer(network, epochs=2, optimizer_param={"lr": 1.0}, **options)
    return network, run


def ema(values, decay):
    """By the definition: a mean with weights that fall by `decay` from step to step."""
    shares = decay ** np.arange(len(values))[::-1]
    return float((shares * values).sum() / shares.sum())


WEIGHTS = np.array([1.0, 4, 9, 16, 25])


def test_ema_is_the_mean_with_falling_shares():
    network, run = walk(averaging=EMA(0.6), evaluate="end")
    run.train()
    assert network.params["W"][0] == pytest.approx(ema(WEIGHTS, 0.6), rel=1e-12)
    expected = [ema(WEIGHTS[:2], 0.6), ema(WEIGHTS, 0.6)]
    assert run.test_acc_list == pytest.approx(expected, rel=1e-12)
    assert run.train_acc_list == pytest.approx(expected, rel=1e-12)


def test_ema_of_a_slow_decay_begins_at_the_weights_and_not_at_zero():
    average = WeightAverage(EMA(0.999999))
    network = Walking()
    for value in (3.0, 5.0):
        network.params["W"][...] = value
        average.after_step(network)
    np.testing.assert_allclose(average.averages["params/W"], 4.0, rtol=1e-6)


def test_small_shares_of_float32_weights_are_not_lost():
    """In float32 a ten-thousandth of a small difference would be rounded away."""
    network, average, later = Walking(), WeightAverage(EMA(0.9999)), float(np.float32(1.0001))
    network.params["W"] = np.ones(2, np.float32)
    for value in (1, *[later] * 5000):
        network.params["W"][...] = value
        average.after_step(network)
    first = 0.9999**5000 * 1e-4 / (1 - 0.9999**5001)
    expected = later - (later - 1) * first
    np.testing.assert_allclose(average.averages["params/W"], expected, rtol=1e-12)
    assert average.averages["params/W"].dtype == np.float64


@pytest.mark.parametrize(("start", "expected"), [(1, (4 + 25) / 2), (2, 25)])
def test_swa_is_the_mean_over_the_ends_of_epochs(start, expected):
    network, run = walk(averaging=SWA(start), evaluate="end")
    run.train()
    assert network.params["W"][0] == pytest.approx(expected, rel=1e-12)
    assert run.test_acc_list == pytest.approx([4, expected])


def test_training_goes_on_with_the_weights_and_not_with_their_averages():
    seen = []
    network, run = walk(averaging=EMA(0.5), validation=(X[:3], T[:3]))
    run.callbacks = (lambda trainer, record: seen.append(float(network.params["W"][0])),)
    for _ in range(5):
        run.train_step()
    assert seen == [4, 25]
    with run.final_weights():
        assert network.params["W"][0] == pytest.approx(ema(WEIGHTS, 0.5))
    assert network.params["W"][0] == 25
    run.train()  # nothing left to do but to end
    assert network.params["W"][0] == pytest.approx(ema(WEIGHTS, 0.5))
    run.train_step()
    assert network.params["W"][0] == 36


def test_a_stopped_run_has_the_weights_that_it_goes_on_with():
    network, run = walk(averaging=EMA(0.5))
    run.callbacks = (lambda trainer, record: trainer.stop(),)
    run.train()
    assert run.stopped and network.params["W"][0] == 4


def test_weights_that_a_user_puts_in_after_the_run_stay():
    network, run = walk(averaging=EMA(0.5))
    run.train()
    network.params["W"][...] = 7
    run.train()
    assert network.params["W"][0] == 7


# ---- what a network has learned -------------------------------------------------------


def normalised() -> Network:
    """A network with running statistics, for two features."""
    rng = np.random.default_rng(0)
    layers = [
        Affine(rng.standard_normal((2, 4)), np.zeros(4)),
        BatchNormalization(np.ones(4), np.zeros(4)),
        Relu(),
        Affine(rng.standard_normal((4, 3)), np.zeros(3)),
    ]
    return Network(layers, "float64")


def test_running_statistics_are_averaged_like_the_weights(rng):
    network, average, seen = normalised(), WeightAverage(EMA(0.7)), []
    for _ in range(4):
        network.gradient(rng.standard_normal((8, 2)) * 3 + 1, np.arange(8) % 3)
        average.after_step(network)
        seen.append(learned(network)["statistics/1/running_var"].copy())
    shares = 0.7 ** np.arange(4)[::-1]
    expected = (shares[:, None] * np.array(seen)).sum(axis=0) / shares.sum()
    np.testing.assert_allclose(average.averages["statistics/1/running_var"], expected, rtol=1e-12)


def test_exchanged_weights_and_statistics_come_back(rng):
    network, x = normalised(), rng.standard_normal((8, 2))
    network.gradient(x, np.arange(8) % 3)
    kept = {name: value.copy() for name, value in learned(network).items()}
    scores = network.predict(x)
    network.gradient(x + 5, np.arange(8) % 3)
    network.params["W1"] += 1
    now = network.predict(x)
    with pytest.raises(RuntimeError), exchanged(network, kept):
        np.testing.assert_array_equal(network.predict(x), scores)
        raise RuntimeError
    np.testing.assert_array_equal(network.predict(x), now)
    put(network, kept)
    np.testing.assert_array_equal(network.predict(x), scores)
    assert network.params["W1"] is network.layers[0].W


def test_statistics_inside_of_layers_that_hold_layers_are_found():
    norm = BatchNormalization(np.ones(2), np.zeros(2), 0.9, np.ones(2), np.ones(2))
    block = SimpleNamespace(layers={"norm": norm})
    network = SimpleNamespace(params={}, layers={"block": block})
    assert set(learned(network)) == {
        "statistics/block/norm/running_mean",
        "statistics/block/norm/running_var",
    }


# ---- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMA(1), "EMA: decay must lie between 0 and 1, got 1"),
        (lambda: EMA(0), "EMA: decay must lie between 0 and 1, got 0"),
        (lambda: EMA(float("nan")), "EMA: decay must lie between 0 and 1, got nan"),
        (lambda: SWA(0), "SWA: start_epoch must be at least 1, got 0"),
        (lambda: SWA(1.5), "SWA: start_epoch must be a whole number"),
        (lambda: walk(averaging=0.999), r"averaging must be EMA\(...\) or SWA\(...\), got 0.999"),
        (lambda: walk(averaging=SWA(3)), "SWA.* in a run of 2 epochs averages nothing"),
    ],
)
def test_wrong_settings(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_the_state_of_another_kind_of_average_is_refused():
    average = WeightAverage(EMA(0.5))
    average.after_step(Walking())
    with pytest.raises(
        WeightsError, match="the checkpoint's average of the weights is not one by SWA"
    ):
        WeightAverage(SWA(1)).load_state(average.state())


def test_a_run_without_epochs_ends_with_its_own_weights():
    network = Walking()
    trainer(network, epochs=0, averaging=EMA(0.5)).train()
    np.testing.assert_array_equal(network.params["W"], 0)
