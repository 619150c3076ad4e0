"""Weights of samples and classes in the loss."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import Trainer, ops
from fastconv.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastconv.gradient import numerical_gradient
from fastconv.layers import Affine, AuxiliaryHead, SoftmaxWithLoss
from fastconv.network import Network
from fastconv.training.weighting import sample_weights

from . import naive
from .compare import assert_close
from .test_trainer import Watched

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 3))
LABELS = np.array([0, 2, 1, 0, 0, 2])
WEIGHTS = np.array([0.5, 2.0, 0.0, 3.0, 1.0, 0.25])
SOFT = RNG.dirichlet(np.ones(3), 6)


def affine(features: int, units: int) -> Affine:
    return Affine(RNG.normal(size=(features, units)), np.zeros(units))


# ---- the loss --------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("t", [LABELS, np.eye(3)[LABELS]], ids=["indices", "one-hot"])
def test_the_loss_is_the_weighted_mean_of_the_samples_losses(backend, dtype, smoothing, t):
    layer = SoftmaxWithLoss(backend, smoothing)
    loss = layer.forward(SCORES.astype(dtype), t, WEIGHTS)
    each = [layer.forward(row[None], [label]) for row, label in zip(SCORES, LABELS, strict=True)]
    assert loss == pytest.approx(np.average(each, weights=WEIGHTS), rel=1e-5)
    layer.forward(SCORES.astype(dtype), t, WEIGHTS)
    y = naive.softmax(SCORES.astype(dtype))
    expected = naive.softmax_cross_entropy_gradient(y, LABELS, 1, smoothing)
    expected *= 2 * WEIGHTS[:, None] / WEIGHTS.sum()
    assert_close(layer.backward(2), expected, dtype=dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_is_that_of_the_loss(smoothing):
    """By differences; the book's 1e-7 in the logarithm is not in its gradient."""
    layer = SoftmaxWithLoss(label_smoothing=smoothing)

    def loss(scores):
        return layer.forward(scores, LABELS, WEIGHTS)

    expected = numerical_gradient(loss, SCORES.copy())
    loss(SCORES)
    np.testing.assert_allclose(layer.backward(), expected, atol=1e-6)


def test_equal_weights_of_any_size_change_nothing(backend, dtype):
    scores = SCORES.astype(dtype)
    layer = SoftmaxWithLoss(backend)
    loss, gradient = layer.forward(scores, LABELS), layer.backward()
    for weight in (1e-300, 1, 7, 1e308):
        assert layer.forward(scores, LABELS, np.full(6, weight)) == pytest.approx(loss, rel=1e-5)
        assert_close(layer.backward(), gradient, dtype=dtype)


def test_a_weight_of_two_is_a_sample_twice():
    twice = [0, 0, 1, 2, 3, 3, 3, 4, 5]
    layer = SoftmaxWithLoss()
    loss = layer.forward(SCORES[twice], LABELS[twice])
    assert layer.forward(SCORES, LABELS, [2, 1, 1, 3, 1, 1]) == pytest.approx(loss, rel=1e-12)


def test_soft_targets_pull_by_their_samples_weights(backend):
    layer = SoftmaxWithLoss(backend)
    layer.forward(SCORES, SOFT, WEIGHTS)
    expected = (naive.softmax(SCORES) - SOFT) * WEIGHTS[:, None] / WEIGHTS.sum()
    assert_close(layer.backward(), expected)


def test_no_weight_no_loss(backend):
    layer = SoftmaxWithLoss(backend)
    assert layer.forward(SCORES, LABELS, np.zeros(6)) == 0
    assert not layer.backward().any()
    assert layer.forward(SCORES[:0], LABELS[:0], []) == 0
    assert layer.backward().shape == (0, 3)


@pytest.mark.parametrize(
    ("weights", "error", "said"),
    [
        (np.ones(5), ShapeError, r"weights of samples has shape \(5,\), expected \(6,\)"),
        (np.ones((6, 1)), ShapeError, r"has shape \(6, 1\), expected \(6,\)"),
        ([1, 1, 1, 1, 1, -1], ArgumentError, "finite and at least 0, got -1.0 to 1.0"),
        ([1, 1, 1, 1, 1, np.nan], ArgumentError, "finite and at least 0, got nan"),
        ([1, 1, 1, 1, 1, np.inf], ArgumentError, "finite and at least 0, got 1.0 to inf"),
        (["1"] * 6, DTypeError, "<U1"),
    ],
)
def test_weights_that_are_none(weights, error, said):
    with pytest.raises(error, match=said):
        ops.softmax_cross_entropy_forward(SCORES, LABELS, weights=weights)


def test_a_networks_gradient_is_that_of_its_weighted_loss():
    """With an auxiliary head, whose loss is of the same samples."""
    layers = {"aux": AuxiliaryHead([affine(4, 3)]), "fc": affine(4, 3)}
    network = Network(layers, "float64")
    x = RNG.normal(size=(6, 4))
    got = network.gradient(x, LABELS, WEIGHTS)
    assert network.last_layer.loss == network.loss(x, LABELS, sample_weight=WEIGHTS)
    head, last = network.layers[0].layers["0"], network.layers[1]
    alone = [Network([layer], "float64").loss(x, LABELS, WEIGHTS) for layer in (last, head)]
    assert network.last_layer.loss == pytest.approx(alone[0] + 0.3 * alone[1])
    for name, value in network.params.items():
        expected = numerical_gradient(lambda _: network.loss(x, LABELS, WEIGHTS), value)
        np.testing.assert_allclose(got[name], expected, atol=1e-6)


# ---- which weights ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "t", [LABELS, LABELS[:, None], np.eye(3)[LABELS], LABELS.astype(float)], ids=np.shape
)
def test_weights_of_classes(t):
    by_hand = {0: 2 / 3, 1: 2, 2: 1}  # 6 / (3 * count)
    expected = [by_hand[label] for label in LABELS]
    np.testing.assert_allclose(sample_weights(t, "balanced", None), expected)
    np.testing.assert_allclose(sample_weights(t, by_hand, None), expected)
    both = sample_weights(t, list(by_hand.values()), WEIGHTS)
    np.testing.assert_allclose(both, expected * WEIGHTS)
    assert sample_weights(t, {2: 5.0}, None).tolist() == [1, 5, 1, 1, 1, 5]
    assert sample_weights(t, None, None) is None


@pytest.mark.parametrize(
    ("class_weight", "error", "said"),
    [
        ("even", ArgumentError, "must be 'balanced', .* got 'even'"),
        ({3: 1.0}, ArgumentError, "has the class 3, expected classes from 0 to 2"),
        ({"0": 1.0}, ArgumentError, "has the class '0', expected"),
        ([1.0, 2.0], ArgumentError, r"has shape \(2,\), expected a weight for each of 3 classes"),
        ({0: -1.0}, ArgumentError, "must be finite and at least 0, got -1.0 to 1.0"),
        ({0: 0, 1: 0, 2: 0}, ArgumentError, "weights of all samples are zero"),
        ([None] * 3, DTypeError, "object"),
    ],
)
def test_weights_of_classes_that_are_none(class_weight, error, said):
    with pytest.raises(error, match=said):
        sample_weights(LABELS, class_weight, None)


@pytest.mark.parametrize("t", [[-1, 0], [0.5, 1.0], [np.nan, 1.0], ["0", "1"]])
def test_labels_that_have_no_weight(t):
    with pytest.raises(LabelError, match="whole numbers from 0 on"):
        sample_weights(np.array(t), [1.0, 2.0], None)


# ---- the Trainer -----------------------------------------------------------------------------


class Weighted(Watched):
    """It also writes down the weights."""

    def gradient(self, x, t, sample_weight=None):
        self.calls.append(("weights", t.tolist(), sample_weight.tolist()))
        return super().gradient(x, t)

    def loss(self, x, t, sample_weight=None):
        self.calls.append(("weights", t.tolist(), sample_weight.tolist()))
        return super().loss(x, t)

    def predict(self, x):
        return np.zeros((len(x), 4))


X, T = np.arange(40.0).reshape(40, 1), np.repeat([0, 1, 2, 3], [25, 10, 4, 1])


def run(network, **options) -> Trainer:
    options = {"mini_batch_size": 20, "epochs": 3, "seed": 0, "verbose": False, **options}
    trainer = Trainer(network, X, T, X[:0], T[:0], **options)
    trainer.train()
    return trainer


@pytest.mark.parametrize("augment", [None, lambda x, rng: x], ids=["plain", "augmented"])
@pytest.mark.parametrize("reference_loss", [False, True])
def test_each_step_gets_the_weights_of_its_samples(augment, reference_loss):
    network = Weighted()
    own = np.linspace(1, 2, 40)
    run(
        network,
        class_weight="balanced",
        sample_weight=own,
        augment=augment,
        reference_loss=reference_loss,
    )
    counts = {0: 25, 1: 10, 2: 4, 3: 1}
    expected = own * [40 / (4 * counts[label]) for label in T]
    batches, weighted = network.of("gradient"), network.of("weights")
    assert len(weighted) == len(batches) * (2 if reference_loss else 1)
    for (_, x, _), (_, _, weights) in zip(batches, weighted[:: 1 + reference_loss], strict=True):
        np.testing.assert_allclose(weights, expected[np.array(x, int)])


def test_what_validation_sets_apart_takes_its_weights_with_it():
    network = Weighted()
    own = np.arange(1.0, 41)
    trainer = run(network, sample_weight=own, validation=0.25)
    assert len(trainer.x_train) == 30
    for (_, x, _), (_, _, weights) in zip(
        network.of("gradient"), network.of("weights"), strict=True
    ):
        assert weights == own[np.array(x, int)].tolist()


def test_class_weights_are_learned():
    """Two classes that no input tells apart, 9 to 1: the answer is the weighted prior."""
    x, t = np.ones((1000, 1)), np.repeat([0, 1], [900, 100])

    def answer(**options):
        network = Network([Affine(np.zeros((1, 2)), np.zeros(2))], "float64")
        Trainer(
            *(network, x, t, x, t, 20, 1000, "SGD", {"lr": 1.0}),
            verbose=False,
            seed=0,
            **options,
        ).train()
        return network.predict_proba(x[:1])[0, 1]

    assert answer() == pytest.approx(0.1, abs=0.03)
    assert answer(class_weight="balanced") == pytest.approx(0.5, abs=0.03)
    assert answer(class_weight={1: 3}) == pytest.approx(300 / 1200, abs=0.03)


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        (Watched, {"class_weight": "balanced"}, "Watched.gradient takes no sample_weight"),
        (Watched, {"sample_weight": np.ones(40)}, "Watched.gradient takes no sample_weight"),
        (Weighted, {"sample_weight": np.ones(39)}, r"shape \(39,\), expected \(40,\)"),
        (
            Weighted,
            {"balanced": True, "class_weight": "balanced"},
            "classes balanced twice",
        ),
    ],
)
def test_what_a_trainer_refuses(network, options, said):
    with pytest.raises((ArgumentError, ShapeError), match=f"^Trainer: .*{said}"):
        run(network(), **options)
