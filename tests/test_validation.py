"""Validation splits, and runs that end by them."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import Trainer
from fastconv.errors import ArgumentError, ShapeError
from fastconv.randomness import stratified
from fastconv.training.averaging import EMA
from fastconv.training.validation import Validation, held_out

from . import naive
from .test_trainer import T_TEST, X_TEST, T, Watched, X, classifier, clouds, trainer

__all__ = ["clouds"]  # a fixture


def labels_of(counts, seed=0):
    t = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(t)


# ---- the split ------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(100, 100), (250, 40, 7), (3, 5, 11, 13, 17, 23)])
def test_each_class_gives_its_share(share, counts):
    t = labels_of(counts)
    chosen = held_out(t, share, seed=5)
    taken = np.bincount(t[chosen], minlength=len(counts))
    assert (np.abs(taken - share * np.array(counts)) <= 1).all()
    assert (taken < counts).all()
    assert abs(chosen.sum() - share * len(t)) <= 1


def test_the_seed_makes_the_choice_and_nothing_else_does():
    t = labels_of((50, 50, 50))
    np.random.seed(1)
    chosen = held_out(t, 0.2, seed=5)
    assert np.random.rand() == np.random.RandomState(1).rand()
    np.testing.assert_array_equal(held_out(t, 0.2, seed=5), chosen)
    np.testing.assert_array_equal(held_out(np.eye(3)[t], 0.2, seed=5), chosen)
    np.testing.assert_array_equal(held_out(t.reshape(-1, 1).astype(float), 0.2, seed=5), chosen)
    assert (held_out(t, 0.2, seed=6) != chosen).any()


def test_without_a_seed_it_is_numpys_global_generator_that_draws():
    t = labels_of((50, 50))
    np.random.seed(1)
    chosen = held_out(t, 0.2, seed=None)
    after = np.random.rand()
    np.random.seed(1)
    np.testing.assert_array_equal(held_out(t, 0.2, seed=None), chosen)
    assert np.random.rand() == after


def test_of_a_class_with_one_sample_that_one_is_trained_on():
    t = np.array([0, 1, 1, 1, 2, 3])
    assert not held_out(t, 0.5, seed=0)[[0, 4, 5]].any()


def test_without_samples_none_are_chosen():
    for every_class in (False, True):
        empty = stratified(np.zeros(0, int), 0.5, np.random.default_rng(0), every_class=every_class)
        assert empty.shape == (0,)


def test_a_trainer_trains_on_the_rest_and_measures_on_the_part(clouds):
    x, t = clouds
    run = Trainer(classifier(), x, t, x, t, 2, 50, verbose=False, seed=5, validation=0.2)
    apart = held_out(t, 0.2, seed=5)
    np.testing.assert_array_equal(run.x_train, x[~apart])
    np.testing.assert_array_equal(run.t_train, t[~apart])
    assert (run.train_size, run.iter_per_epoch, run.max_iter) == (160, 3.2, 6)
    run.train()
    network = run.network
    probabilities = naive.softmax(network.predict(x[apart]))
    last = run.history[-1]
    assert last["validation_accuracy"] == network.accuracy(x[apart], t[apart])
    assert last["validation_loss"] == pytest.approx(
        naive.cross_entropy(probabilities, t[apart]), rel=1e-9
    )


def test_samples_of_ones_own_leave_the_training_set_whole(clouds):
    x, t = clouds
    options = {"label_smoothing": 0.3, "validation": (x[:130], np.eye(2)[t[:130]])}
    run = Trainer(classifier(), x, t, x, t, 1, 50, verbose=False, seed=5, **options)
    run.train()
    assert run.train_size == 200
    probabilities = naive.softmax(run.network.predict(x[:130]))
    expected = naive.cross_entropy(probabilities, t[:130])  # without smoothing
    assert run.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-9)


def test_without_validation_the_history_says_none():
    run = trainer(epochs=1)
    run.train()
    assert run.history[0]["validation_accuracy"] is None
    assert run.history[0]["validation_loss"] is None


# ---- early stopping -------------------------------------------------------------------


class Told(Watched):
    """Its validation accuracy is as told, epoch by epoch; its weight counts the steps."""

    def __init__(self, *right: int) -> None:
        super().__init__()
        self.right = list(right)

    def gradient(self, x, t):
        super().gradient(x, t)
        return {"W": -np.ones(2)}

    def predict(self, x):
        """Scores with the next number of right answers, always with the same loss."""
        scores = np.zeros((len(x), 2))
        right = self.right.pop(0)
        scores[:right, 0] = scores[right:, 1] = 1
        return scores


def told(*right, patience=2, epochs=8, **options):
    """Two steps an epoch; 4 validation samples of class 0."""
    network = Told(*right)
    samples = X[:4], np.zeros(4, int)
    options = {"optimizer_param": {"lr": 1.0}, **options}
    return trainer(
        network,
        x=X[:200],
        t=T[:200],
        epochs=epochs,
        validation=samples,
        early_stopping=patience,
        **options,
    )


def test_patience_ends_the_run_with_the_best_epochs_weights():
    run = told(1, 3, 2, 2)
    run.train()
    assert run.finished and not run.stopped
    assert (len(run.history), run.current_iter) == (4, 8)
    assert run.validation.best_epoch == 2
    np.testing.assert_array_equal(run.network.params["W"], 4)  # of two steps an epoch
    run.train()
    assert run.current_iter == 8


def test_a_better_epoch_renews_patience():
    run = told(1, 1, 2, 2, 3, 3, 3, patience=2)
    run.train()
    assert len(run.history) == 7 and run.validation.best_epoch == 5


def test_a_run_that_gets_to_its_end_has_the_best_weights_too():
    run = told(1, 2, 1, patience=5, epochs=3)
    run.train()
    np.testing.assert_array_equal(run.network.params["W"], 4)


def test_at_the_same_accuracy_the_lower_loss_is_better():
    network = Watched()
    validation = Validation(X_TEST, T_TEST, 3)
    for accuracy, loss, best in [
        (0.5, 2.0, 1),
        (0.5, 1.5, 2),
        (0.5, 1.5, 2),
        (0.4, 0.1, 2),
        (0.6, np.nan, 5),
        (0.6, 9.0, 6),
    ]:
        validation.note(network, accuracy, loss)
        assert validation.best_epoch == best
        assert not validation.exhausted


def test_the_best_weights_are_those_that_were_measured():
    """With averages these are what validation sees, and what the run ends with."""
    run = told(1, 3, 2, 2, averaging=EMA(0.5))
    run.train()
    shares = 0.5 ** np.arange(4)[::-1]
    expected = (shares * [1, 2, 3, 4]).sum() / shares.sum()
    np.testing.assert_allclose(run.network.params["W"], expected, rtol=1e-12)


# ---- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation": 0.0}, ArgumentError, r"validation must lie between 0 and 1, got 0\.0"),
        ({"validation": 1}, ArgumentError, r"validation must lie between 0 and 1, got 1\.0"),
        (
            {"validation": 0.001},
            ArgumentError,
            r"validation=0\.001 of 250 samples in 3 classes sets none",
        ),
        ({"validation": "some"}, ArgumentError, "share of the training set, .* got str"),
        ({"validation": (X[:3], T[:2])}, ShapeError, "3 validation samples but 2 validation"),
        ({"validation": (X[:0], T[:0])}, ShapeError, "the validation set is empty"),
        ({"early_stopping": 3}, ArgumentError, "early_stopping needs validation samples"),
        (
            {"validation": 0.1, "early_stopping": 0},
            ArgumentError,
            "early_stopping must be at least 1, got 0",
        ),
        ({"label_smoothing": 0.1}, ArgumentError, "network's last layer takes no label_smoothing"),
        ({"label_smoothing": 1.0}, ArgumentError, r"Trainer: label_smoothing must be .* got 1\.0"),
        ({"lr_factors": {"fc.*": 0.1}}, ArgumentError, r"lr_factors: 'fc\.\*' matches .* are W$"),
        (
            {"lr_factors": {"W": 0.1}, "optimizer": Watched()},
            ArgumentError,
            "Trainer: Watched takes no lr_factors",
        ),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        trainer(Told(), **options)


def test_validation_needs_a_network_that_predicts():
    with pytest.raises(ArgumentError, match=r"validation needs a network with predict\(x\)"):
        trainer(validation=0.1)
