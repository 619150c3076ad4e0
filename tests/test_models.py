"""The models: counts of the papers and of PyTorch's models, and the latter's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv import models
from fastconv.errors import ArgumentError, ShapeError, WeightsError
from fastconv.models.build import Builder
from fastconv.network.summary import layer_facts, summary

from .compare import assert_close

COUNTS = {
    # As the documentation of PyTorch's models gives them.
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 6_624_904,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
SMALL_COUNTS = {
    "lenet": 61_706,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    # The same layers, built in PyTorch.
    "digitnet4": 68_678,
    "digitnet5": 110_682,
    "digitnet6": 77_786,
    "m3": 1_124_180,
    "m5": 1_128_180,
    "m7": 2_291_972,
}


@pytest.fixture
def no_weights(monkeypatch):
    """Weights that take no memory: one zero, seen everywhere."""

    def zeros(self, shape, deviation):
        return np.broadcast_to(np.zeros((), self.dtype), shape)

    monkeypatch.setattr(Builder, "normal", zeros)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_many_as_published(no_weights, name):
    network = models.MODELS[name]()
    assert sum(array.size for array in network.params.values()) == COUNTS[name]


@pytest.mark.parametrize("name", SMALL_COUNTS)
def test_parameters_of_small_models(no_weights, name):
    network = models.MODELS[name](seed=0)
    assert sum(array.size for array in network.params.values()) == SMALL_COUNTS[name]


def test_auxiliary_heads_are_counted_with_the_network(no_weights):
    network = models.googlenet(aux_logits=True)
    assert sum(array.size for array in network.params.values()) == 13_004_888


def test_names_are_those_of_pytorch_models(no_weights):
    assert {"layer1.0.conv1.weight", "layer2.0.downsample.1.running_var", "fc.bias"} <= set(
        models.resnet18().state()
    )
    assert {"features.0.weight", "classifier.6.bias"} <= set(models.vgg11().state())
    assert "inception3a.branch2.1.bn.running_mean" in models.googlenet().state()


def test_two_seeds_two_networks_one_seed_one_network():
    first, again, other = (models.resnet20(seed=seed) for seed in (1, 1, 2))
    for key, value in first.params.items():
        np.testing.assert_array_equal(value, again.params[key])
    assert not np.array_equal(first.params["conv1.weight"], other.params["conv1.weight"])


def test_first_weights_have_the_variance_of_he(rng):
    weight = models.resnet18(seed=0).params["layer3.1.conv2.weight"]
    assert weight.std() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.01)


@pytest.mark.parametrize(
    "name", ["lenet", "digitnet4", "digitnet5", "m7", "resnet20", "deepconvnet"]
)
def test_models_take_images_of_many_shapes(name, rng):
    network = models.make_model(name, (2, 36, 33), 7, seed=0)
    x, t = rng.random((3, 2, 36, 33)).astype(np.float32), np.array([0, 6, 3])
    assert network.predict(x).shape == (3, 7)
    gradient = network.gradient(x, t)
    assert set(gradient) == set(network.params)
    for key, value in gradient.items():
        assert value.shape == network.params[key].shape
        assert np.isfinite(value).all()


def test_bad_models_and_shapes():
    with pytest.raises(ArgumentError, match=r"unknown model 'alexnet'; known: deepconvnet, lenet"):
        models.make_model("alexnet", (3, 32, 32), 10)
    with pytest.raises(ArgumentError, match=r"must be \(C, H, W\), got \(28, 28\)"):
        models.make_model("lenet", (28, 28), 10)
    with pytest.raises(ShapeError, match=r"lenet pooling 2: window of 2 x 2 is larger"):
        models.lenet(input_size=(11, 40))
    with pytest.raises(ShapeError, match=r"lenet convolution 2: window of 5 x 5 is larger"):
        models.lenet(input_size=(8, 8))
    with pytest.raises(ShapeError, match=r"digitnet6 pooling 1: "):
        models.digitnet6(input_size=(5, 5))
    with pytest.raises(ArgumentError, match="num_classes must be at least 1, got 0"):
        models.resnet20(0)


def test_weights_go_to_a_file_and_back(tmp_path, rng):
    first, second = models.resnet20(seed=0), models.resnet20(seed=1)
    x = rng.random((4, 3, 32, 32)).astype(np.float32)
    first.gradient(x, np.arange(4))  # moves the running statistics
    for name in ("weights.npz", "weights.safetensors"):
        first.save_params(tmp_path / name)
        second.load_params(tmp_path / name)
        np.testing.assert_array_equal(first.predict(x), second.predict(x))
    state = first.state()
    del state["bn1.running_var"]
    with pytest.raises(WeightsError, match=r"missing bn1\.running_var"):
        second.set_state(state)


def test_summary_is_that_of_the_paper(no_weights):
    facts = layer_facts(models.vgg16(), (3, 224, 224))
    assert sum(fact.multiply_adds for fact in facts) == 15_470_264_320
    by_name = {fact.name: fact for fact in facts}
    assert by_name["features.2"].receptive_field == 5
    assert by_name["features.4"].receptive_field == 6
    assert by_name["features.28"].output_shape == (512, 14, 14)
    assert by_name["features.30"].receptive_field == 212
    assert by_name["classifier.6"].parameters == 4_097_000
    text = summary(models.resnet18(), (3, 224, 224)).splitlines()
    assert text[0].split() == [
        "layer",
        "kind",
        "output",
        "parameters",
        "multiply-adds",
        "receptive",
        "field",
    ]
    assert "11,689,512" in text[-1]
    assert any(line.startswith("layer2.0.downsample.0") for line in text)


# ---- against PyTorch ----------------------------------------------------------------


@pytest.fixture
def twins(monkeypatch):
    """By name, what makes a network and its twin."""
    pytest.importorskip("torch")
    from benchmarks.peers import torch_twins

    monkeypatch.setattr(models.vgg, "HIDDEN", 32)
    options = {"dtype": "float64", "seed": 0}
    return {
        "vgg11": lambda: (
            models.vgg11(5, dropout=0.0, **options),
            torch_twins.vgg(11, False, 5, 3, 32).eval(),
        ),
        "vgg16_bn": lambda: (
            models.vgg16(5, batch_norm=True, dropout=0.0, **options),
            torch_twins.vgg(16, True, 5, 3, 32),
        ),
        "resnet18": lambda: (models.resnet18(5, **options), torch_twins.ResNet(18, 5, 3)),
        "resnet50": lambda: (models.resnet50(5, **options), torch_twins.ResNet(50, 5, 3)),
        "resnet20": lambda: (models.resnet20(5, **options), torch_twins.SmallResNet(20, 5, 3)),
        "googlenet": lambda: (
            models.googlenet(5, aux_logits=True, dropout=0.0, **options),
            torch_twins.GoogLeNet(5, 3),
        ),
        "digitnet5": lambda: (
            models.digitnet5(5, 3, input_size=(64, 48), **options),
            torch_twins.DigitNet(((16, 32), (48, 64), (96,)), 5, 3, units=7 * 5),
        ),
    }


@pytest.mark.parametrize(
    "name", ["vgg11", "vgg16_bn", "resnet18", "resnet50", "resnet20", "googlenet", "digitnet5"]
)
def test_a_model_is_its_twin_in_pytorch(twins, backend, rng, name):
    import torch

    if backend == "numpy" and name not in ("resnet20", "googlenet", "digitnet5"):
        pytest.skip("slow on the reference; the layers are compared one by one elsewhere")
    network, twin = twins[name]()
    network.backend = backend
    for head in network.heads:
        head.layers["dropout"].dropout_ratio = 0.0
    twin = twin.double()
    # Statistics and weights that were trained a little: no zeros and ones.
    torch.manual_seed(0)
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network.set_state({key: value.numpy() for key, value in twin.state_dict().items()})
    x = rng.standard_normal((3, 3, 64, 48))
    t = np.array([0, 4, 2])

    twin.train()
    scores = twin(torch.from_numpy(x))
    weights = (1.0, 0.3, 0.3)
    every = scores if isinstance(scores, tuple) else (scores,)
    loss = sum(
        weight * torch.nn.functional.cross_entropy(part, torch.from_numpy(t))
        for weight, part in zip(weights, every, strict=False)
    )
    loss.backward()
    gradients = network.gradient(x, t)
    assert network.last_layer.loss == pytest.approx(loss.item(), abs=1e-5)  # the book's 1e-7
    expected = {key: value.grad.numpy() for key, value in twin.named_parameters()}
    assert set(gradients) == set(expected)
    for key, value in gradients.items():
        got = value.T if value.ndim == 2 else value
        # A bias before batch normalisation has no gradient but rounding errors.
        beside = key.rpartition(".")[0] + ".weight"
        scale = max(np.abs(expected[key]).max(), np.abs(expected[beside]).max())
        np.testing.assert_allclose(got / scale, expected[key] / scale, atol=1e-6, err_msg=key)

    twin.eval()
    with torch.no_grad():
        wanted = twin(torch.from_numpy(x)).numpy()
    assert_close(network.predict(x), wanted, dtype=np.float64)  # by the new running statistics
    for key, value in network.buffers.items():
        np.testing.assert_allclose(value, twin.state_dict()[key].numpy(), rtol=1e-9, atol=1e-12)


UNPADDED = {  # filters of the tables in arXiv:2008.10400
    "m3": (3, range(32, 177, 16)),
    "m5": (5, range(32, 161, 32)),
}


@pytest.mark.parametrize("name", UNPADDED)
def test_an_unpadded_model_is_its_twin_in_pytorch(rng, name):
    torch = pytest.importorskip("torch")
    from benchmarks.peers import torch_twins

    side, (size, filters) = models.LEAST_SIDE[name] + 1, UNPADDED[name]
    network = models.make_model(name, (1, side, side), 5, dtype="float64", seed=0)
    twin = torch_twins.Unpadded(size, filters, 5, side).double()
    twin.load_state_dict({key: torch.from_numpy(value) for key, value in network.state().items()})
    x, t = rng.random((6, 1, side, side)), np.arange(6) % 5
    torch.nn.functional.cross_entropy(twin(torch.from_numpy(x)), torch.from_numpy(t)).backward()
    gradients = network.gradient(x, t)
    expected = {key: value.grad.numpy() for key, value in twin.named_parameters()}
    assert set(gradients) == set(expected)
    for key, value in gradients.items():
        got, wanted = value.T if value.ndim == 2 else value, expected[key]
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(got / scale, wanted / scale, atol=1e-6, err_msg=key)
    # PyTorch's statistics: the book's running variance is the batch's, theirs an estimate from it.
    network.set_state({key: value.numpy() for key, value in twin.state_dict().items()})
    with torch.no_grad():
        wanted = twin.eval()(torch.from_numpy(x)).numpy()
    assert_close(network.predict(x), wanted, dtype=np.float64)


@pytest.fixture
def _no_weights(monkeypatch):
    """Weights of 0, which take neither time nor memory: sizes do not depend on them."""
    monkeypatch.setattr(
        Builder, "normal", lambda self, shape, deviation: np.zeros(shape, self.dtype)
    )


@pytest.mark.usefixtures("_no_weights")
@pytest.mark.parametrize("name", models.MODELS)
def test_the_least_image_of_each_model(name, monkeypatch):
    """One pixel less, high or wide, and a layer has nothing to work on."""
    least = models.LEAST_SIDE.get(name, 1)
    for height, width in ((least, 40), (40, least)):
        network = models.make_model(name, (1, height, width), 2, seed=0)
        facts = layer_facts(network, (1, height, width))
        assert all(min(fact.output_shape) > 0 for fact in facts)
    if least == 1:
        return
    for height, width in ((least - 1, 40), (40, least - 1)):
        text = rf"{name}: images of {height} x {width} .*at least {least} x {least}$"
        with pytest.raises(ShapeError, match=text):
            models.make_model(name, (1, height, width), 2)
        with monkeypatch.context() as patch:
            patch.setattr(models, "LEAST_SIDE", {})
            patch.setattr(
                "fastconv.network.summary.MOST_SIDE", 0
            )  # without looking for the least itself
            with pytest.raises(ShapeError, match="larger than the padded image"):
                layer_facts(models.make_model(name, (1, height, width), 2), (1, height, width))


def test_the_image_where_nobody_says():
    assert {name: models.default_image(name) for name in ("lenet", "resnet18", "vgg16_bn")} == {
        "lenet": (1, 28, 28),
        "resnet18": (1, 28, 28),
        "vgg16_bn": (3, 224, 224),
    }
    for name in models.MODELS:
        assert min(models.default_image(name)[1:]) >= models.LEAST_SIDE.get(name, 1)


@pytest.mark.parametrize(
    ("model", "small", "least"),
    [("deepconvnet", 20, 28), ("googlenet", 30, 31), ("lenet", 10, 28)],
)
def test_the_summary_of_a_small_image_names_the_least_size(model, small, least):
    size = max(least, 28)
    network = models.make_model(model, (1, size, size), 10, seed=0)
    expected = (
        f"^images of 1 x {small} x {small} are too small for the network, .* {least} x {least}: "
    )
    with pytest.raises(ShapeError, match=expected):
        summary(network, (1, small, small))
    summary(network, (1, least, least))


def test_the_summary_of_an_image_that_is_not_small_says_what_is_wrong():
    network = models.make_model("deepconvnet", (1, 28, 28), 10, seed=0)
    with pytest.raises(ShapeError, match=r"^affine: input has 4096 features"):
        summary(network, (1, 60, 60))
    with pytest.raises(ShapeError, match=r"^conv2d: input has 3 channels"):
        summary(network, (3, 4, 4))
