"""Weights to and from PyTorch: the twin of a network gives the same outputs, in both directions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

from fastconv import DeepConvNet
from fastconv.errors import ArgumentError, MissingDependency, WeightsError
from fastconv.io import from_torch, load_params, save_params, to_torch
from fastconv.layers import Affine, Convolution, Dropout, Pooling, Relu, Sigmoid
from fastconv.network import Network

from .conftest import ROOT


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


def twin(torch, dropout: str):
    """DeepConvNet written in PyTorch; `dropout` scales as PyTorch's does or as the book's."""
    nn = torch.nn

    class BooksDropout(nn.Module):
        def forward(self, x):
            return x * (torch.rand_like(x) > 0.5) if self.training else x * 0.5

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [(1, 16, 1), (16, 16, 1), (16, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 1)]
            layers = []
            for number, (channels, filters, pad) in enumerate(sizes):
                layers += [nn.Conv2d(channels, filters, 3, padding=pad), nn.ReLU()]
                if number % 2:
                    layers.append(nn.MaxPool2d(2, 2))
            self.features = nn.Sequential(*layers)
            drop = BooksDropout if dropout == "book" else nn.Dropout
            self.classifier = nn.Sequential(
                nn.Linear(1024, 50), nn.ReLU(), drop(), nn.Linear(50, 10), drop()
            )

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    torch.manual_seed(7)
    return Twin().eval()


IMAGES = np.random.default_rng(0).random((5, 1, 28, 28)).astype(np.float32)


def answers(torch, module) -> np.ndarray:
    with torch.no_grad():
        return module(torch.from_numpy(IMAGES)).numpy()


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def network_for(dropout: str, seed: int = 0) -> tuple[DeepConvNet, DeepConvNet | None]:
    """A network, and the argument of from_torch and to_torch for it."""
    network = DeepConvNet(seed=seed)
    for layer in network.layers:
        if hasattr(layer, "b"):  # a bias of 0 shows no mistake
            layer.b += np.random.default_rng(seed).random(layer.b.shape).astype(np.float32)
    return network, network if dropout == "pytorch" else None


@pytest.mark.parametrize("dropout", ["book", "pytorch"])
def test_from_torch_gives_equal_outputs(torch, dropout):
    module = twin(torch, dropout)
    network, told = network_for(dropout)
    network.set_params(from_torch(module.state_dict(), told))
    assert_same(network.predict(IMAGES), answers(torch, module))


@pytest.mark.parametrize("dropout", ["book", "pytorch"])
def test_to_torch_gives_equal_outputs(torch, dropout):
    module = twin(torch, dropout)
    network, told = network_for(dropout)
    module.load_state_dict(to_torch(network.params, network=told, tensors=True))
    assert_same(answers(torch, module), network.predict(IMAGES))


@pytest.mark.parametrize("dropout", ["book", "pytorch"])
def test_both_ways_through_safetensors(torch, tmp_path, dropout):
    library = pytest.importorskip(
        "safetensors.torch", reason="the package safetensors is not installed"
    )
    module, other = twin(torch, dropout), twin(torch, dropout)
    library.save_file(module.state_dict(), tmp_path / "torch.safetensors")
    network, told = network_for(dropout)
    network.set_params(from_torch(load_params(tmp_path / "torch.safetensors"), told))
    assert_same(network.predict(IMAGES), answers(torch, module))

    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    save_params(tmp_path / "ours.safetensors", to_torch(network.params, network=told))
    other.load_state_dict(library.load_file(tmp_path / "ours.safetensors"))
    assert_same(answers(torch, other), answers(torch, module))


def test_training_is_equal_too_where_dropout_is_rescaled(torch):
    """With one mask for both, the module in training mode gives what the network does."""
    module = twin(torch, "pytorch").train()
    network, told = network_for("pytorch")
    network.set_params(from_torch(module.state_dict(), told))
    np.random.seed(3)
    ours = network.predict(IMAGES, train_flg=True)
    masks = [torch.from_numpy(layer.mask) for layer in network.layers if isinstance(layer, Dropout)]
    for dropout, mask in zip((module.classifier[2], module.classifier[4]), masks, strict=True):
        dropout.forward = lambda x, mask=mask: x * mask / 0.5
    assert_same(ours, answers(torch, module))


def test_tensors_that_have_a_gradient_or_another_type(torch):
    network = Network([Affine(np.ones((2, 3), "f4"), np.ones(3, "f4"))])
    module = torch.nn.Sequential(torch.nn.Linear(2, 3))
    params = from_torch(OrderedDict(module.named_parameters()))
    np.testing.assert_array_equal(params["W1"], module[0].weight.detach().numpy().T)
    half = from_torch({key: value.bfloat16() for key, value in module.state_dict().items()})
    assert half["W1"].dtype == np.float32
    network.set_params(half)


# ---- without PyTorch ------------------------------------------------------------------


def state(*shapes: tuple[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights and biases of modules by name and shape, in the order of a state_dict."""
    rng = np.random.default_rng(1)
    arrays = {}
    for name, shape in shapes:
        arrays[f"{name}.weight"] = rng.standard_normal(shape)
        arrays[f"{name}.bias"] = rng.standard_normal(shape[0])
    return arrays


TWELVE = state(*((f"layers.{number}", (8, 8, 3, 3)) for number in range(12)), ("fc", (5, 32)))


def test_linear_weights_are_transposed_and_filters_are_not():
    arrays = state(("conv1", (4, 1, 3, 3)), ("fc1", (6, 16)), ("fc2", (3, 6)))
    params = from_torch(arrays)
    assert list(params) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    np.testing.assert_array_equal(params["W1"], arrays["conv1.weight"])
    np.testing.assert_array_equal(params["W2"], arrays["fc1.weight"].T)
    np.testing.assert_array_equal(params["b3"], arrays["fc2.bias"])
    assert all(array.flags.c_contiguous for array in params.values())
    back = to_torch(params, ["conv1", "fc1", "fc2"])
    assert list(back) == list(arrays)
    for key, value in arrays.items():
        np.testing.assert_array_equal(back[key], value)
        assert back[key].flags.c_contiguous
    for key, value in to_torch(params, arrays).items():  # a state_dict has the names, too
        np.testing.assert_array_equal(value, arrays[key])


def test_what_comes_out_shares_no_memory():
    arrays = state(("fc", (3, 4)))
    params = from_torch(arrays)
    before = {key: value.copy() for key, value in params.items()}
    for value in arrays.values():
        value[...] = 0
    for key, value in before.items():
        np.testing.assert_array_equal(params[key], value)


def test_a_file_in_alphabetical_order_is_put_right():
    """Where 10 comes before 2, and the classifier before the features."""
    expected = from_torch(TWELVE)
    found = from_torch({key: TWELVE[key] for key in sorted(TWELVE)})
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_names_from_a_file_are_put_right():
    params = from_torch(TWELVE)
    for key, value in to_torch(params, {key: TWELVE[key] for key in sorted(TWELVE)}).items():
        np.testing.assert_array_equal(value, TWELVE[key])


def test_the_order_of_a_state_dict_is_kept_whatever_the_names():
    arrays = state(("stem", (8, 1, 3, 3)), ("body", (8, 8, 3, 3)), ("also", (8, 8, 3, 3)))
    params = from_torch(arrays)
    np.testing.assert_array_equal(params["W2"], arrays["body.weight"])
    np.testing.assert_array_equal(params["W3"], arrays["also.weight"])


def test_an_order_that_cannot_be_told_is_asked_for():
    arrays = state(("stem", (8, 1, 3, 3)), ("body", (8, 8, 3, 3)), ("also", (8, 8, 3, 3)))
    from_file = {key: arrays[key] for key in sorted(arrays)}
    with pytest.raises(
        WeightsError, match=r"order of also, body, stem cannot be told .* as order="
    ):
        from_torch(from_file)
    params = from_torch(from_file, order=["stem", "body", "also"])
    np.testing.assert_array_equal(params["W2"], arrays["body.weight"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "missing NAME.weight; unknown none"),
        ({"fc.bias": np.ones(3)}, r"missing fc\.weight"),
        ({"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(3)}, r"bias of shape \(3,\), expected"),
        ({"weight": np.ones((2, 3))}, "weight is neither weight nor bias"),
        (state(("fc1", (4, 3)), ("fc2", (2, 5))), "fc2 takes 5 inputs, but .* gives 4"),
        (state(("c1", (4, 1, 3, 3)), ("c2", (4, 3, 3, 3))), "c2 takes 3 inputs, but .* gives 4"),
        (state(("c1", (4, 1, 3, 3)), ("fc", (2, 30))), "fc takes 30 inputs, but .* gives 4"),
        (state(("fc", (4, 3)), ("c", (4, 4, 3, 3))), "expected convolutions .*, then linear"),
        (state(("norm", (4,))), r"norm: a weight of shape \(4,\)"),
        (
            state(("norm", (4,))) | {"norm.running_mean": np.ones(4)},
            r"norm\.running_mean is neither weight nor bias",
        ),
    ],
)
def test_from_torch_refuses_other_modules(arrays, message):
    with pytest.raises(WeightsError, match=message):
        from_torch(arrays)


def params_of(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    arrays = {}
    for number, shape in enumerate(shapes, start=1):
        arrays[f"W{number}"] = np.ones(shape)
        arrays[f"b{number}"] = np.ones(shape[0] if len(shape) == 4 else shape[1])
    return arrays


@pytest.mark.parametrize(
    ("params", "names", "error", "message"),
    [
        (
            params_of((3, 4)),
            None,
            ArgumentError,
            "1 layers are not DeepConvNet's 8: pass the names",
        ),
        (params_of((3, 4)), ["a", "b"], ArgumentError, "2 names for 1 layers: a, b"),
        (params_of((3, 4), (5, 2)), ["a", "b"], WeightsError, "b takes 5 inputs, but .* gives 4"),
        ({"gamma1": np.ones(3), "beta1": np.ones(3)}, ["a"], WeightsError, "expected .* W1, b1"),
    ],
)
def test_to_torch_refuses(params, names, error, message):
    with pytest.raises(error, match=message):
        to_torch(params, names)


def small(*layers) -> Network:
    return Network([Convolution(np.ones((2, 1, 3, 3)), np.ones(2)), *layers], "float64")


def test_a_bias_may_be_missing():
    """As in modules made with ``bias=False``."""
    arrays = state(("conv1", (4, 1, 3, 3)), ("fc1", (6, 16)), ("fc2", (3, 6)))
    del arrays["conv1.bias"], arrays["fc2.bias"]
    network = Network(
        [
            Convolution(np.ones((4, 1, 3, 3))),
            Relu(),
            Dropout(0.2),
            Affine(np.ones((16, 6)), np.ones(6)),
            Affine(np.ones((6, 3))),
            Dropout(0.5),
        ],
        "float64",
    )
    params = from_torch(arrays, network)
    assert list(params) == ["W1", "W2", "b2", "W3"]
    np.testing.assert_allclose(params["W2"], arrays["fc1.weight"].T / 0.8)
    np.testing.assert_allclose(params["W3"], arrays["fc2.weight"].T / 0.5)
    network.set_params(params)
    back = to_torch(network.params, ["conv1", "fc1", "fc2"], network)
    assert list(back) == list(arrays)
    for key, value in arrays.items():
        np.testing.assert_allclose(back[key], value)


def test_inverted_dropout_is_pytorchs():
    network = small(Dropout(0.2, inverted=True), Affine(np.ones((2, 3)), np.ones(3)))
    for key, value in to_torch(network.params, ["conv", "fc"], network).items():
        np.testing.assert_array_equal(value, np.ones(value.shape), err_msg=key)


def test_groups_are_seen_in_the_chain():
    arrays = state(("conv", (8, 3, 3, 3)), ("depthwise", (8, 1, 3, 3)), ("groups", (6, 4, 1, 1)))
    assert from_torch(arrays)["W2"].shape == (8, 1, 3, 3)
    with pytest.raises(WeightsError, match=r"groups takes 4 inputs, but .* gives 8"):
        from_torch({**arrays, "groups.weight": np.ones((5, 4, 1, 1)), "groups.bias": np.ones(5)})


def test_rescaling_is_undone_by_its_inverse():
    network = small(
        Relu(), Dropout(0.2), Pooling(2, 2, 2), Affine(np.ones((8, 3)), np.ones(3)), Dropout(0.25)
    )
    arrays = to_torch(network.params, ["conv", "fc"], network)
    np.testing.assert_allclose(arrays["conv.weight"], 1)
    np.testing.assert_allclose(arrays["fc.weight"], 0.8 * 0.75)
    np.testing.assert_allclose(arrays["fc.bias"], 0.75)
    for key, value in from_torch(arrays, network).items():
        np.testing.assert_allclose(value, network.params[key])


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (small(Sigmoid(), Dropout(0.5)), ArgumentError, "does not pass through Sigmoid"),
        (small(Dropout(1)), ArgumentError, "Dropout of ratio 1 cannot be rescaled"),
        (
            small(Dropout(0.5), Affine(np.ones((8, 3)), np.ones(3))),
            WeightsError,
            "W2: the network has .*, the weights nothing",
        ),
        (
            Network([Convolution(np.ones((3, 1, 3, 3)), np.ones(3)), Dropout(0.5)]),
            WeightsError,
            r"W1: the network has \(3, 1, 3, 3\), the weights \(2, 1, 3, 3\)",
        ),
        (Network([Dropout(0.5)]), WeightsError, "weights of 1 layers for a network of 0"),
    ],
)
def test_rescaling_refuses_what_it_cannot_do(network, error, message):
    with pytest.raises(error, match=message):
        from_torch(state(("conv", (2, 1, 3, 3))), network)


def test_without_pytorch_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    params = params_of((3, 4))
    assert set(to_torch(params, ["fc"])) == {"fc.weight", "fc.bias"}
    with pytest.raises(MissingDependency, match="needs PyTorch: pip install torch"):
        to_torch(params, ["fc"], tensors=True)


def test_pytorch_is_not_imported_unasked():
    code = (
        "import sys, numpy, fastconv.io as io\n"
        "params = io.from_torch({'fc.weight': numpy.ones((2, 3)), 'fc.bias': numpy.ones(2)})\n"
        "io.to_torch(params, ['fc'])\n"
        "assert not {'torch', 'onnx', 'safetensors'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-P", "-c", code], env=environment, check=True, timeout=60)
