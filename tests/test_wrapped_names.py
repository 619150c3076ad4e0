"""State dicts by other names: PyTorch's wrappers hold a module, timm calls matrices otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.errors import WeightsError
from fastconv.io import from_torch, load_params, save_params
from fastconv.io.torch_names import by_own_names
from fastconv.layers import Affine
from fastconv.layers.containers import Chain
from fastconv.models import lenet, make_empty_model, resnet20
from fastconv.network import Network
from fastconv.network.transfer import take_weights


def around_all(prefix):
    return lambda name: prefix + name


def around_a_part(name):
    first, rest = name.split(".", 1)
    return f"{first}._orig_mod.{rest}"


WRAPPED = {
    "DataParallel": around_all("module."),
    "torch.compile": around_all("_orig_mod."),
    "compiled, then parallel": around_all("module._orig_mod."),
    "parallel, then compiled": around_all("_orig_mod.module."),
    "two averages": around_all("module.module."),
    "FSDP": around_all("_fsdp_wrapped_module."),
    "a compiled part": around_a_part,
    "all, and a part": lambda name: "module." + around_a_part(name),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_a_network_takes_the_state_of_a_wrapped_twin(tmp_path, wrapping):
    network = resnet20(3, seed=1)
    expected = network.state()
    state = {WRAPPED[wrapping](key): value.copy() for key, value in expected.items()}
    state[WRAPPED[wrapping]("bn1.num_batches_tracked")] = np.array(5)
    state["n_averaged"] = np.array(7)  # of AveragedModel
    assert not set(state) & set(expected)
    save_params(tmp_path / "w.npz", state)
    loaded, given, taken = resnet20(3, seed=2), resnet20(3, seed=2), resnet20(3, seed=2)
    loaded.load_params(tmp_path / "w.npz")
    given.set_state(from_torch(state, given))
    report = take_weights(taken, load_params(tmp_path / "w.npz"))
    assert sorted(report.taken) == sorted(expected)
    assert not report.missing
    assert not report.unused
    for other in (loaded, given, taken):
        for key, value in other.state().items():
            np.testing.assert_array_equal(value, expected[key], err_msg=key)


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_the_books_names_come_from_a_wrapped_module_too(wrapping):
    plain = {
        "features.0.weight": np.ones((2, 1, 3, 3)),
        "features.0.bias": np.ones(2),
        "head.0.weight": np.ones((3, 8)),
    }
    state = {WRAPPED[wrapping](key): value for key, value in plain.items()}
    state["n_averaged"] = np.array(7)
    order = ["features.0", "head.0"]
    wrapped_order = [WRAPPED[wrapping](f"{name}.weight").removesuffix(".weight") for name in order]
    for names in (None, order, wrapped_order):
        params = from_torch(state, order=names)
        assert list(params) == ["W1", "b1", "W2"]
        np.testing.assert_array_equal(params["W2"], np.ones((8, 3)))


def test_a_network_with_such_a_name_of_its_own_keeps_it():
    rng = np.random.default_rng(0)
    inner = Chain({"fc": Affine(rng.random((3, 2)), np.zeros(2))})
    network = Network({"module": inner}, "float64")
    state = network.state()
    assert set(state) == {"module.fc.weight", "module.fc.bias"}
    network.set_state(state)
    network.set_state({f"module.{key}": value for key, value in state.items()})


def test_what_is_not_the_networks_is_named_as_the_file_has_it():
    network = lenet(3, seed=0)
    state = {f"module.{key}": value for key, value in network.state().items()}
    state["module.fc4.weight"] = np.ones((2, 2))
    with pytest.raises(WeightsError, match=r"missing none; unknown module\.fc4\.weight"):
        network.set_state(state)


def test_two_arrays_for_one_name():
    network = lenet(3, seed=0)
    state = network.state()
    twice = state | {f"module.{key}": value for key, value in state.items()}
    for call in (network.set_state, lambda given: from_torch(given, network)):
        with pytest.raises(WeightsError, match=r"two arrays for conv1\.weight, one of them module"):
            call(twice)


def test_names_that_only_look_like_it():
    own = {"a.weight"}
    for name in ("modules.a.weight", "my_module.a.weight", "orig_mod.a.weight", "model.a.weight"):
        assert list(by_own_names({name: 1}, own)) == [name]


def test_pytorchs_own_wrappers():
    """What they really do to the names."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    plain = from_torch(module.state_dict())
    wrapped = [
        nn.DataParallel(module),
        torch.optim.swa_utils.AveragedModel(module),
        torch.optim.swa_utils.AveragedModel(nn.DataParallel(module)),
    ]
    for each in wrapped:
        assert not set(each.state_dict()) & set(module.state_dict())
        params = from_torch(each.state_dict())
        assert list(params) == list(plain)
        for key, value in plain.items():
            np.testing.assert_array_equal(params[key], value)


def test_timms_vgg_has_convolutions_where_there_are_matrices():
    """Names and shapes are those of timm 1.0's ``vgg16_bn``; its last layer is a matrix."""
    rng = np.random.default_rng(0)
    theirs = {
        "features.0.weight": rng.random((2, 3, 3, 3)),
        "features.1.running_mean": rng.random(2),
        "pre_logits.fc1.weight": rng.random((5, 2, 7, 7)),
        "pre_logits.fc1.bias": rng.random(5),
        "pre_logits.fc2.weight": rng.random((4, 5, 1, 1)),
        "pre_logits.fc2.bias": rng.random(4),
        "head.fc.weight": rng.random((3, 4)),
        "head.fc.bias": rng.random(3),
    }
    own = [
        *("features.0.weight", "features.1.running_mean"),
        *(f"classifier.{layer}.{kind}" for layer in (0, 3, 6) for kind in ("weight", "bias")),
    ]
    found = by_own_names({f"module.{key}": value for key, value in theirs.items()}, own)
    assert list(found) == own
    image = rng.random((2, 7, 7))
    convolved = np.einsum("fchw,chw->f", theirs["pre_logits.fc1.weight"], image)
    np.testing.assert_allclose(found["classifier.0.weight"] @ image.ravel(), convolved)
    np.testing.assert_array_equal(
        found["classifier.3.weight"], theirs["pre_logits.fc2.weight"][..., 0, 0]
    )
    for key in ("weight", "bias"):
        np.testing.assert_array_equal(found[f"classifier.6.{key}"], theirs[f"head.fc.{key}"])


def test_timms_names_mean_vgg_alone():
    """Of another network with a head, they stay."""
    own = {"head.fc.weight", "classifier.weight"}
    assert (
        list(by_own_names({"head.fc.weight": 1, "classifier.weight": 2}, own)) == sorted(own)[::-1]
    )
    assert list(by_own_names({"head.fc.weight": 1}, {"fc.weight"})) == ["head.fc.weight"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_timms_resnets_have_our_names(name):
    """Facts of timm 1.0's ``resnet.py``: its blocks as torchvision's, but for the activations."""
    stages = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}[name]
    convolutions = 2 if name == "resnet18" else 3
    norm = ("weight", "bias", "running_mean", "running_var")
    theirs = {"conv1.weight", *(f"bn1.{kind}" for kind in norm), "fc.weight", "fc.bias"}
    for stage, blocks in enumerate(stages, start=1):
        for block in range(blocks):
            place = f"layer{stage}.{block}"
            for number in range(1, convolutions + 1):
                theirs |= {f"{place}.conv{number}.weight"}
                theirs |= {f"{place}.bn{number}.{kind}" for kind in norm}
            if block == 0 and (stage > 1 or name == "resnet50"):
                theirs |= {f"{place}.downsample.0.weight"}
                theirs |= {f"{place}.downsample.1.{kind}" for kind in norm}
    assert set(make_empty_model("a test", name, (3, 224, 224), 1000).state()) == theirs
