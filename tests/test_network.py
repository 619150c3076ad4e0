"""DeepConvNet: the seeded behaviour of the reference, gradients, accuracy, dtypes."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet, Trainer, functions
from fastconv.errors import ArgumentError, LabelError, ShapeError
from fastconv.layers import Affine
from fastconv.models import MODELS, make_model
from fastconv.network import Network

from . import naive, reference_net
from .awkward import unchanged
from .compare import assert_close

STEPS, BATCH = 5, 6


def tiny(**options) -> DeepConvNet:
    """A DeepConvNet of a few hundred parameters, for images (1, 8, 8) of 3 classes."""
    conv = {"filter_num": 2, "filter_size": 3, "pad": 1, "stride": 1}
    params = {f"conv_param_{i}": dict(conv, pad=2 if i == 4 else 1) for i in range(1, 7)}
    return DeepConvNet((1, 8, 8), **params, hidden_size=6, output_size=3, **options)


@pytest.fixture(scope="module")
def data():
    """Random images without ties, and labels."""
    rng = np.random.default_rng(1)
    return rng.random((20, 1, 28, 28)), rng.integers(0, 10, 20)


# ---- the reference, draw for draw ------------------------------------------------------


def test_weights_are_drawn_as_the_reference_draws_them():
    """He-normal, W1 to W8 in order, from NumPy's global generator; biases are zero."""
    np.random.seed(3)
    network = DeepConvNet(dtype="float64")
    after = np.random.rand()
    np.random.seed(3)
    fan_in = [1 * 9, 16 * 9, 16 * 9, 32 * 9, 32 * 9, 64 * 9, 64 * 4 * 4, 50]
    shapes = [
        (16, 1, 3, 3),
        (16, 16, 3, 3),
        (32, 16, 3, 3),
        (32, 32, 3, 3),
        (64, 32, 3, 3),
        (64, 64, 3, 3),
        (64 * 4 * 4, 50),
        (50, 10),
    ]
    for i, (fan, shape) in enumerate(zip(fan_in, shapes, strict=True), start=1):
        expected = np.sqrt(2.0 / fan) * np.random.randn(*shape)
        np.testing.assert_array_equal(network.params[f"W{i}"], expected)
        np.testing.assert_array_equal(network.params[f"b{i}"], np.zeros(shape[0 if i < 7 else 1]))
    assert after == np.random.rand()
    assert list(network.params) == [f"{name}{i}" for i in range(1, 9) for name in "Wb"]


def test_a_seed_draws_the_same_weights_and_leaves_the_global_generator_alone():
    np.random.seed(3)
    expected = DeepConvNet(dtype="float64").params
    np.random.seed(8)
    network = DeepConvNet(dtype="float64", seed=3)
    assert np.random.rand() == np.random.RandomState(8).rand()
    for key, value in expected.items():
        np.testing.assert_array_equal(network.params[key], value)


@pytest.fixture(scope="module")
def reference_run(data):
    """Losses, parameters and the next global draw after a few steps of the reference."""
    np.random.seed(7)
    network = reference_net.ReferenceNet()
    losses = reference_net.train(network, *data, BATCH, STEPS)
    return losses, network.named("values"), np.random.rand()


def test_a_seeded_run_gives_the_numbers_of_the_reference(backend, data, reference_run):
    """Weights, batches, dropout masks, the second pass's loss and Adam, over several steps.

    Rounding differs in the last bit of a sum. Adam divides each gradient by its own size,
    which lets an error in a gradient near zero grow by up to a few hundred in a step:
    1e-9 leaves room for that, and no room for any other batch, mask or formula.
    """
    np.random.seed(7)
    network = DeepConvNet(dtype="float64", backend=backend)
    trainer = Trainer(
        network,
        *data,
        *data,
        epochs=STEPS * BATCH / len(data[0]) + 1e-9,
        mini_batch_size=BATCH,
        optimizer="Adam",
        optimizer_param={"lr": 0.001},
        evaluate_sample_num_per_epoch=0,
        verbose=False,
        reference_loss=True,
    )
    trainer.train()
    losses, params, draw = reference_run
    assert np.random.rand() == draw
    assert_close(trainer.train_loss_list, losses, tolerance=1e-9)
    for key, value in params.items():
        assert_close(network.params[key], value, dtype=np.float64, tolerance=1e-9)


def test_one_gradient_in_float32(backend, data):
    np.random.seed(7)
    network = DeepConvNet(backend=backend)
    gradients = network.gradient(data[0][:BATCH], data[1][:BATCH])
    np.random.seed(7)
    reference = reference_net.ReferenceNet()
    expected = reference.gradient(data[0][:BATCH], data[1][:BATCH])
    assert network.last_layer.loss == pytest.approx(reference.last_loss, rel=1e-5)
    for key, value in expected.items():
        # Twenty layers deep, each as good as float32 allows.
        assert_close(gradients[key], value, dtype=np.float32, tolerance=2e-4)


def test_scores_are_before_softmax_and_without_random_draws(backend, data):
    np.random.seed(7)
    network = DeepConvNet(dtype="float64", backend=backend)
    np.random.seed(7)
    reference = reference_net.ReferenceNet()
    state = np.random.get_state()[1].copy()
    scores = network.predict(data[0][:3])
    assert_close(scores, reference.scores(data[0][:3]), dtype=np.float64, tolerance=1e-11)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_layers_are_where_the_books_scripts_look_for_them():
    network = DeepConvNet(seed=0)
    names = [type(layer).__name__ for layer in network.layers]
    block = ["Convolution", "Relu", "Convolution", "Relu", "Pooling"]
    assert names == [*block * 3, "Affine", "Relu", "Dropout", "Affine", "Dropout"]
    assert type(network.last_layer).__name__ == "SoftmaxWithLoss"
    for number, position in enumerate((0, 2, 5, 7, 10, 12, 15, 18), start=1):
        layer = network.layers[position]
        assert layer.W is network.params[f"W{number}"]
        assert layer.b is network.params[f"b{number}"]
    assert [network.layers[i].pad for i in (0, 2, 5, 7, 10, 12)] == [1, 1, 1, 2, 1, 1]
    pools = [network.layers[i] for i in (4, 9, 14)]
    assert all((p.pool_h, p.pool_w, p.stride, p.pad) == (2, 2, 2, 0) for p in pools)


# ---- gradients ------------------------------------------------------------------------


def test_gradient_is_that_of_finite_differences(backend, rng):
    """Every parameter of every layer, through dropout with the masks of a seed."""
    network = tiny(dtype="float64", backend=backend, seed=4)
    for key in [f"b{i}" for i in range(1, 9)]:
        network.params[key][...] = 0.3  # keep most units of so small a network alive
    x, t = rng.standard_normal((8, 1, 8, 8)), rng.integers(0, 3, 8)

    def loss() -> float:
        # Without the 1e-7 inside the logarithm, which (y - onehot)/N leaves out.
        np.random.seed(2)
        y = naive.softmax(network.predict(x, train_flg=True))
        return float(-np.log(y[np.arange(8), t]).mean())

    np.random.seed(2)
    gradients = network.gradient(x, t)
    assert set(gradients) == set(network.params)
    for key, value in network.params.items():
        expected = naive.numerical_gradient(loss, value)
        assert np.abs(expected).max() > 1e-4, f"{key} has no gradient to compare"
        assert_close(gradients[key], expected, tolerance=1e-7)


def test_gradient_writes_into_neither_data_nor_parameters(backend, data):
    network = DeepConvNet(backend=backend, seed=0)
    x, t = data[0][:4].astype(np.float32), data[1][:4]
    with unchanged(x, t, *network.params.values()):
        network.gradient(x, t)
        network.predict(x)


def test_one_hot_labels_give_the_same(backend, data):
    network = tiny(backend=backend, seed=0)
    x, t = data[0][:6, :, :8, :8], data[1][:6] % 3
    one_hot = np.eye(3)[t]
    np.random.seed(1)
    expected = network.gradient(x, t)
    np.random.seed(1)
    for key, value in network.gradient(x, one_hot).items():
        np.testing.assert_array_equal(value, expected[key])
    assert network.accuracy(x, one_hot) == network.accuracy(x, t)


# ---- accuracy -------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_accuracy_counts_the_last_incomplete_batch(batch_size):
    identity = Network([Affine(np.eye(4), np.zeros(4))], dtype="float64")
    x = np.eye(4)[[0, 1, 2, 3, 0, 1, 2]]  # scores are the input itself
    t = np.array([0, 1, 2, 0, 1, 1, 2])  # 5 of 7 are right, the last one among them
    assert identity.accuracy(x, t, batch_size=batch_size) == 5 / 7
    assert identity.accuracy(x, np.eye(4)[t], batch_size=batch_size) == 5 / 7


def test_accuracy_predicts_in_batches():
    seen = []

    class Watched(Affine):
        def forward(self, x):
            seen.append(len(x))
            return super().forward(x)

    network = Network([Watched(np.eye(2), np.zeros(2))], dtype="float64")
    network.accuracy(np.ones((250, 2)), np.zeros(250, int))
    assert seen == [100, 100, 50]


def test_accuracy_of_nothing_is_no_number():
    assert np.isnan(tiny(seed=0).accuracy(np.ones((0, 1, 8, 8)), np.ones(0, int)))


# ---- arguments ------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "float32", np.float32, "float64", np.dtype(float)])
def test_dtype(backend, data, given):
    expected = np.dtype("float32" if given is None else given)
    network = tiny(backend=backend, seed=0, **({} if given is None else {"dtype": given}))
    assert network.dtype == expected
    assert {value.dtype for value in network.params.values()} == {expected}
    for x in (data[0], data[0].astype(np.float32), (data[0] * 255).astype(np.uint8)):
        small = x[:4, :, :8, :8]
        assert network.predict(small).dtype == expected
        gradients = network.gradient(small, data[1][:4] % 3)
        assert {value.dtype for value in gradients.values()} == {expected}


@pytest.mark.parametrize("bad", ["float16", "int64", "nonsense", object])
def test_other_dtypes_are_refused(bad):
    with pytest.raises(ArgumentError, match="dtype must be float32 or float64, got"):
        DeepConvNet(dtype=bad)


def test_sizes_follow_the_arguments():
    conv = {"filter_num": 5, "filter_size": 5, "pad": 2, "stride": 2}
    network = DeepConvNet((3, 40, 33), conv_param_1=conv, hidden_size=7, output_size=4, seed=0)
    # 40 x 33 -> 20 x 17 -> 20 x 17 -> 10 x 8 -> 10 x 8 -> 12 x 10 -> 6 x 5 -> 3 x 2
    assert network.params["W1"].shape == (5, 3, 5, 5)
    assert network.params["W2"].shape == (16, 5, 3, 3)
    assert network.params["W7"].shape == (64 * 3 * 2, 7)
    draws = np.random.RandomState(0)
    fan_in = [3 * 25, 5 * 9, 16 * 9, 32 * 9, 32 * 9, 64 * 9, 64 * 3 * 2, 7]
    for i, fan in enumerate(fan_in, start=1):
        weight = network.params[f"W{i}"]
        expected = np.sqrt(2 / fan) * draws.randn(*weight.shape)
        np.testing.assert_array_equal(weight, expected.astype(np.float32))
    assert network.predict(np.ones((2, 3, 40, 33))).shape == (2, 4)


def test_an_empty_batch(backend):
    network = tiny(backend=backend, seed=0)
    x, t = np.ones((0, 1, 8, 8), np.float32), np.ones(0, int)
    assert network.predict(x).shape == (0, 3)
    gradients = network.gradient(x, t)
    assert network.last_layer.loss == 0
    assert all(not value.any() for value in gradients.values())
    assert {key: value.shape for key, value in gradients.items()} == {
        key: value.shape for key, value in network.params.items()
    }


def test_backend_is_that_of_every_layer(backend):
    network = tiny(backend=backend, seed=0)
    assert {layer.backend for layer in [*network.layers, network.last_layer]} == {backend}
    network.backend = None
    assert {layer.backend for layer in [*network.layers, network.last_layer]} == {None}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: DeepConvNet((28, 28)), ArgumentError, r"input_dim must be \(C, H, W\), got"),
        (lambda: DeepConvNet((1, 3, 3)), ShapeError, r"pooling 3: window of 2 x 2 is larger"),
        (lambda: DeepConvNet(hidden_size=0), ArgumentError, "hidden_size must be at least 1"),
        (
            lambda: DeepConvNet(conv_param_2={"filter_num": 3}),
            ArgumentError,
            "conv_param_2 must have exactly filter_num, filter_size, pad, stride, got filter_num",
        ),
        (
            lambda: tiny(seed=0).predict(np.ones((2, 3, 8, 8))),
            ShapeError,
            "conv2d: input has 3 channels, weight expects 1",
        ),
        (
            lambda: tiny(seed=0).predict(np.ones((2, 1, 16, 16))),
            ShapeError,
            "affine: input has 8 features, weight expects 2",
        ),
        (
            lambda: tiny(seed=0).loss(np.ones((2, 1, 8, 8)), [0, 3]),
            LabelError,
            "labels must be 0 to 2 for 3 classes, got 0 to 3",
        ),
        (
            lambda: tiny(seed=0).accuracy(np.ones((2, 1, 8, 8)), np.ones((2, 4))),
            LabelError,
            r"accuracy: labels have shape \(2, 4\)",
        ),
        (
            lambda: tiny(seed=0).accuracy(np.ones((2, 1, 8, 8)), [0, 1], batch_size=0),
            ArgumentError,
            "batch_size must be at least 1, got 0",
        ),
    ],
)
def test_what_does_not_fit_is_told(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_table_of_models():
    assert MODELS["deepconvnet"] is fastconv.DeepConvNet


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_a_caller_who_lets_numpy_raise_is_not_troubled_by_underflow(backend, name):
    """Softmax and products of small numbers underflow by design; overflow would be an error."""
    network = make_model(name, (1, 32, 32), 3, seed=0)
    network.backend = backend
    x = np.random.default_rng(0).standard_normal((4, 1, 32, 32)).astype(np.float32)
    x[0] *= np.float32(1e-38)
    for key in network.params:
        if key in ("fc.weight", "fc3.weight"):
            network.params[key] *= np.float32(200)  # scores far apart
    plain = copy.deepcopy(network).gradient(x, [0, 1, 2, 0])
    with np.errstate(all="raise"):
        gradients = network.gradient(x, [0, 1, 2, 0])
    for key, gradient in plain.items():
        np.testing.assert_array_equal(gradients[key], gradient)


def test_functions_that_underflow_by_design_do_not_raise():
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(functions.softmax([[0.0, -1e5]]), [[1, 0]])
        np.testing.assert_array_equal(functions.sigmoid([-1e5, 1e5]), [0, 1])
