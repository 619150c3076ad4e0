"""The Trainer: the steps it takes, what it draws, its hooks, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import fastconv
from fastconv import Trainer, optimizer
from fastconv.dropin.trainer import Trainer as ScriptTrainer
from fastconv.errors import ArgumentError, FallbackWarning, ShapeError, UnknownBackend
from fastconv.layers import Affine, Dropout, Relu
from fastconv.network import Network

X, T = np.arange(250.0).reshape(250, 1), np.arange(250) % 3
X_TEST, T_TEST = np.arange(30.0).reshape(30, 1), np.arange(30) % 3


class Watched:
    """Anything with params, gradient, loss, accuracy; it writes down what it is asked."""

    def __init__(self, keeps_loss_on: str | None = "last_layer") -> None:
        self.params = {"W": np.zeros(2)}
        self.calls: list[tuple] = []
        self.kept = SimpleNamespace(loss=None)
        if keeps_loss_on:
            setattr(self, keeps_loss_on, self.kept)

    def gradient(self, x, t):
        self.calls.append(("gradient", x[:, 0].tolist(), t.tolist()))
        self.kept.loss = 2.5 - len([c for c in self.calls if c[0] == "gradient"]) / 4
        return {"W": np.ones(2)}

    def loss(self, x, t):
        self.calls.append(("loss", x[:, 0].tolist(), float(self.params["W"][0])))
        return 0.125

    def accuracy(self, x, t):
        self.calls.append(("accuracy", len(x), len(t)))
        return len(x) / 1000

    def of(self, kind):
        return [call for call in self.calls if call[0] == kind]


def trainer(network=None, *, x=X, t=T, **options) -> Trainer:
    options = {"mini_batch_size": 100, "verbose": False, **options}
    return Trainer(network or Watched(), x, t, X_TEST, T_TEST, **options)


def classifier(dtype="float64", backend=None) -> Network:
    """A small network with dropout, for two features."""
    rng = np.random.default_rng(0)
    layers = [
        Affine(rng.standard_normal((2, 16)).astype(dtype), np.zeros(16, dtype)),
        Relu(),
        Dropout(0.2),
        Affine(rng.standard_normal((16, 2)).astype(dtype) / 4, np.zeros(2, dtype)),
    ]
    return Network(layers, dtype, backend)


@pytest.fixture(scope="module")
def clouds():
    """Two separate clouds of points, and which each belongs to."""
    rng = np.random.default_rng(1)
    t = rng.integers(0, 2, 200)
    return rng.standard_normal((200, 2)) + 4 * t[:, None] - 2, t


# ---- steps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "batch", "epochs", "steps"),
    [(200, 100, 3, 6), (250, 100, 2, 5), (250, 100, 1, 2), (50, 100, 3, 3), (100, 30, 0, 0)],
)
def test_number_of_steps(samples, batch, epochs, steps):
    """int(epochs * max(samples / batch, 1)), also with a batch larger than the training set."""
    network = Watched()
    run = trainer(network, x=X[:samples], t=T[:samples], epochs=epochs, mini_batch_size=batch)
    assert run.max_iter == steps
    assert run.iter_per_epoch == max(samples / batch, 1)
    run.train()
    assert len(network.of("gradient")) == len(run.train_loss_list) == run.current_iter == steps
    assert {len(call[1]) for call in network.of("gradient")} <= {batch}


def test_the_books_defaults():
    run = Trainer(Watched(), X, T, X_TEST, T_TEST)
    assert run.max_iter == 50 and run.batch_size == 100 and run.verbose
    assert type(run.optimizer) is optimizer.SGD
    assert run.optimizer.lr == 0.01


def test_batches_are_those_of_a_seeded_script():
    network = Watched()
    np.random.seed(11)
    trainer(network, epochs=2).train()
    after = np.random.rand()
    np.random.seed(11)
    for _, x, t in network.of("gradient"):
        chosen = np.random.choice(250, 100)
        assert x == chosen.tolist()
        assert t == (chosen % 3).tolist()
    assert np.random.rand() == after


def test_each_step_updates_the_parameters():
    network = Watched()
    trainer(network, epochs=2, optimizer_param={"lr": 0.5}).train()
    np.testing.assert_array_equal(network.params["W"], [-2.5, -2.5])


def test_the_loss_is_that_of_the_gradients_own_pass():
    network = Watched()
    run = trainer(network, epochs=2)
    run.train()
    assert run.train_loss_list == [2.25, 2.0, 1.75, 1.5, 1.25]
    assert not network.of("loss")


def test_reference_loss_is_that_of_a_second_pass_after_the_update():
    network = Watched()
    run = trainer(network, epochs=2, reference_loss=True, optimizer_param={"lr": 1.0})
    run.train()
    assert run.train_loss_list == [0.125] * 5
    for step, (gradient, loss) in enumerate(
        zip(network.of("gradient"), network.of("loss"), strict=True), start=1
    ):
        assert loss[1] == gradient[1]
        assert loss[2] == -step


def test_reference_loss_draws_a_second_dropout_mask(clouds):
    """Draw for draw: choice, mask of the gradient, mask of the loss."""
    np.random.seed(4)
    Trainer(
        classifier(), *clouds, *clouds, 0.1, 50, verbose=False, reference_loss=True
    ).train_step()
    after = np.random.rand()
    np.random.seed(4)
    np.random.choice(200, 50)
    np.random.rand(50, 16)
    np.random.rand(50, 16)
    assert np.random.rand() == after


def test_a_network_that_keeps_no_loss_pays_for_a_second_pass_and_is_told_once():
    run = trainer(Watched(keeps_loss_on=None), epochs=2)
    with pytest.warns(FallbackWarning, match=r"Watched keeps no last_layer\.loss") as told:
        run.train()
    assert len(told) == 1
    assert run.train_loss_list == [0.125] * 5


def test_the_books_other_networks_call_it_lastLayer():
    run = trainer(Watched(keeps_loss_on="lastLayer"), epochs=2)
    run.train()
    assert run.train_loss_list[0] == 2.25


@pytest.mark.parametrize("name", ["SGD", "momentum", "NESTEROV", "AdaGrad", "RMSprop", "Adam"])
def test_optimizers_by_name(name):
    run = trainer(optimizer=name, optimizer_param={"lr": 0.25})
    assert type(run.optimizer).__name__.lower() == name.lower()
    assert run.optimizer.lr == 0.25


def test_an_optimizer_object_is_used_as_it_is():
    own = optimizer.Momentum(lr=0.5)
    assert trainer(optimizer=own).optimizer is own


def test_star_import_gives_the_optimizers():
    names: dict = {}
    exec("from fastconv.trainer import *", names)
    assert {"Trainer", "SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"} <= set(names)


# ---- seeds ----------------------------------------------------------------------------


def trained(clouds, **options):
    network = classifier()
    Trainer(network, *clouds, *clouds, 2, 50, "Adam", verbose=False, **options).train()
    return network.params


def test_a_seed_repeats_a_run_and_leaves_the_global_generator_alone(clouds):
    np.random.seed(0)
    first = trained(clouds, seed=5)
    assert np.random.rand() == np.random.RandomState(0).rand()
    np.random.seed(1)
    second, other = trained(clouds, seed=5), trained(clouds, seed=6)
    assert np.random.rand() == np.random.RandomState(1).rand()
    for key, value in first.items():
        np.testing.assert_array_equal(second[key], value)
    assert any(not np.array_equal(other[key], value) for key, value in first.items())


def test_two_seeded_runs_may_take_turns(clouds):
    expected = trained(clouds, seed=5)
    networks = [classifier(), classifier()]
    runs = [
        Trainer(network, *clouds, *clouds, 2, 50, "Adam", verbose=False, seed=5)
        for network in networks
    ]
    for _ in range(runs[0].max_iter):
        for run in runs:
            run.train_step()
    for network in networks:
        for key, value in expected.items():
            np.testing.assert_array_equal(network.params[key], value)


# ---- hooks ----------------------------------------------------------------------------


def test_the_schedule_sets_the_rate_before_each_update():
    network, asked = Watched(), []

    def schedule(iteration):
        asked.append(iteration)
        return 10.0**-iteration

    run = trainer(network, epochs=2, lr_schedule=schedule)
    run.train()
    assert asked == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(network.params["W"], -1.1111, rtol=1e-12)
    assert run.optimizer.lr == 1e-4
    assert [record["learning_rate"] for record in run.history] == [1e-1, 1e-4]


def test_callbacks_get_each_finished_epoch_with_its_record():
    seen = []
    run = trainer(epochs=2, callbacks=[lambda t, r: seen.append((t, t.current_iter, r))])
    run.train()
    assert [(t, step) for t, step, _ in seen] == [(run, 2), (run, 5)]
    assert [record for _, _, record in seen] == run.history
    first, second = run.history
    assert (first["epoch"], first["iteration"], second["epoch"], second["iteration"]) == (
        1,
        2,
        2,
        5,
    )
    assert first["train_loss"] == (2.25 + 2.0) / 2
    assert second["train_loss"] == (1.75 + 1.5 + 1.25) / 3
    assert first["train_accuracy"] == 0.25 and first["test_accuracy"] == 0.03
    for record in run.history:
        assert record["seconds"] > 0
        steps = 2 if record is first else 3
        assert record["images_per_second"] == pytest.approx(steps * 100 / record["seconds"])


def test_stop_returns_after_the_step_and_train_goes_on_from_there(clouds):
    expected = trained(clouds, seed=5)
    network = classifier()
    run = Trainer(network, *clouds, *clouds, 2, 50, "Adam", verbose=False, seed=5)

    def stop_in_the_third_step(iteration):
        if iteration == 2:
            run.stop()
        return 0.001

    run.lr_schedule = stop_in_the_third_step
    run.train()
    assert run.stopped and run.current_iter == 3
    run.lr_schedule = None
    run.train()
    assert not run.stopped and run.current_iter == run.max_iter == 8
    for key, value in expected.items():
        np.testing.assert_array_equal(network.params[key], value)


def test_backend_is_that_of_the_whole_run(backend):
    class Asking(Watched):
        def gradient(self, x, t):
            seen.add(fastconv.get_backend())
            return super().gradient(x, t)

        def accuracy(self, x, t):
            seen.add(fastconv.get_backend())
            return super().accuracy(x, t)

    seen: set[str] = set()
    with fastconv.use_backend("numpy"):
        trainer(Asking(), epochs=1, backend=backend).train()
    assert seen == {backend}


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam"])
def test_it_learns(backend, dtype, clouds, name):
    """Two separate clouds, from 200 steps of each optimizer."""
    network = classifier(dtype, backend)
    lr = 0.05 if name in ("AdaGrad", "Adam") else 0.01
    run = Trainer(
        network, *clouds, *clouds, 20, 20, name, {"lr": lr}, verbose=False, seed=0, backend=backend
    )
    run.train()
    assert network.accuracy(*clouds) >= 0.98
    assert np.mean(run.train_loss_list[-20:]) < np.mean(run.train_loss_list[:5])


# ---- what it refuses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"t": T[:-1]}, ShapeError, "250 training samples but 249 training labels"),
        ({"x": X[:0], "t": T[:0]}, ShapeError, "the training set is empty"),
        ({"optimizer": "lion"}, ArgumentError, "unknown optimizer 'lion'"),
        ({"optimizer_param": {"rate": 1}}, ArgumentError, "optimizer 'SGD'.*rate"),
        ({"evaluate": "middle"}, ArgumentError, "evaluate must be 'start' or 'end', got 'middle'"),
        ({"epochs": -1}, ArgumentError, "epochs must not be negative, got -1"),
        ({"mini_batch_size": 0}, ArgumentError, "mini_batch_size must be at least 1, got 0"),
        ({"mini_batch_size": 2.5}, ArgumentError, r"mini_batch_size must be .* got 2\.5"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        trainer(**options)


def test_a_test_set_of_other_length_than_its_labels():
    with pytest.raises(ShapeError, match="30 test samples but 29 test labels"):
        Trainer(Watched(), X, T, X_TEST, T_TEST[1:])


def test_an_unknown_backend_fails_at_the_first_step():
    with pytest.raises(UnknownBackend, match="unknown backend 'cuda'"):
        trainer(backend="cuda").train_step()


def test_a_network_tied_to_another_backend_is_refused():
    with pytest.raises(ArgumentError, match="backend='numba', but the network is tied to 'numpy'"):
        trainer(classifier(backend="numpy"), backend="numba")


def test_a_run_without_a_test_set():
    run = Trainer(Watched(), X, T, X[:0], T[:0], epochs=2, verbose=False)
    run.train()
    assert run.test_acc_list == []
    assert len(run.train_acc_list) == 2


# ---- its own defaults --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(optimizer.OPTIMIZERS))
@pytest.mark.parametrize("settings", [None, {}])
def test_an_optimizer_starts_from_its_own_learning_rate(name, settings):
    expected = {"adam": 0.001, "adamw": 0.001}.get(name, 0.01)
    run = Trainer(Watched(), X, T, X_TEST, T_TEST, optimizer=name, optimizer_param=settings)
    assert run.optimizer.lr == expected


@pytest.mark.parametrize("name", ["SGD", "Adam", "adagrad"])
def test_the_trainer_of_a_script_starts_from_the_books(name):
    """Its signature says so, and a script's numbers come from it."""
    run = ScriptTrainer(Watched(), X, T, X_TEST, T_TEST, optimizer=name)
    assert run.optimizer.lr == 0.01
    assert ScriptTrainer(Watched(), X, T, X_TEST, T_TEST, 20, 100, "Adam", {}).optimizer.lr == 0.001


def test_validation_and_what_is_kept_are_said(clouds, capsys):
    x, t = clouds
    accuracy = iter([(0.5, 1.0), (0.75, 0.5), (0.75, 0.6), (0.5, 0.25)])
    network = classifier()
    run = Trainer(network, x, t, x, t, 9, 50, seed=0, validation=(x, t), early_stopping=2)
    run.validation.measure = lambda *given: next(accuracy)
    run.train()
    lines = [line for line in capsys.readouterr().out.splitlines() if "train" not in line]
    assert lines == [
        "validation acc:0.5, validation loss:1.0",
        "validation acc:0.75, validation loss:0.5",
        "validation acc:0.75, validation loss:0.6",
        "validation acc:0.5, validation loss:0.25",
        "early stopping: no better epoch in 2",
        "kept: the weights of epoch 2, best on validation",
        "=============== Final Test Accuracy ===============",
        f"test acc:{network.accuracy(x, t)}",
    ]


def test_a_run_that_reaches_its_end_says_what_is_kept(clouds, capsys):
    x, t = clouds
    run = Trainer(classifier(), x, t, x, t, 1, 50, seed=0, validation=(x, t), early_stopping=2)
    run.train()
    out = capsys.readouterr().out
    assert "early stopping" not in out and "kept: the weights of epoch 1" in out
    quiet = Trainer(
        classifier(), x, t, x, t, 1, 50, verbose=False, validation=(x, t), early_stopping=2
    )
    quiet.train()
    assert capsys.readouterr().out == ""
