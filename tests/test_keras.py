"""Weights from Keras: a file that Keras wrote gives its scores; others are refused, and why."""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastconv.cli import main as cli
from fastconv.datasets import DATASETS
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound, WeightsError
from fastconv.io import from_keras, load_params
from fastconv.io.keras_file import read_keras
from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    BatchNormalization2d,
    Convolution,
    Dropout,
    GlobalAveragePooling,
    Layer,
    Pooling,
    Relu,
    Shortcut,
)
from fastconv.models import make_model
from fastconv.network import Network

from .keras_sample import SCORES, images
from .mutations import COUNT, expect_harmless, mutated

SAMPLE = Path(__file__).with_name("keras_sample.keras")


def f4(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def norm(channels: int) -> BatchNormalization2d:
    return BatchNormalization2d(f4(channels), f4(channels))


def sample_network(**changes) -> Network:
    """The architecture of the stored file, with names that are not Keras's."""
    layers = {
        "a": Convolution(f4(4, 3, 3, 2), f4(4), 1, "same"),
        "b": norm(4),
        "c": Relu(),
        "d": Convolution(f4(6, 4, 3, 3), None, 2, "same"),
        "e": Relu(),
        "f": Convolution(f4(6, 1, 3, 3), f4(6), 1, 1, groups=6),
        "g": Affine(f4(72, 5), f4(5)),
        "h": Relu(),
        "i": Dropout(0.5, inverted=True),
        "j": Affine(f4(5, 4), f4(4)),
    }
    return Network(layers | changes)


def weights_of_sample() -> bytes:
    with zipfile.ZipFile(SAMPLE) as archive:
        return archive.read("model.weights.h5")


def assert_scores(network: Network) -> None:
    got = network.predict(images().transpose(0, 3, 1, 2))
    np.testing.assert_allclose(got, SCORES, rtol=2e-6)


def test_scores_are_those_that_keras_computed(tmp_path):
    network = sample_network()
    network.load_params(SAMPLE)
    assert_scores(network)
    path = tmp_path / "m.weights.h5"
    path.write_bytes(weights_of_sample())
    network = sample_network()
    network.set_state(from_keras(path, network, input_shape=(3, 7, 6), epsilon=1e-3))
    assert_scores(network)


def test_what_a_weights_file_does_not_tell_is_asked_for(tmp_path):
    path = tmp_path / "m.weights.h5"
    path.write_bytes(weights_of_sample())
    with pytest.raises(ArgumentError, match=r"g takes images, .* input_shape=\(C, H, W\)"):
        from_keras(path, sample_network(), epsilon=1e-3)
    with pytest.raises(ArgumentError, match=r"epsilon, which a \.weights\.h5 does not tell"):
        from_keras(path, sample_network(), input_shape=(3, 7, 6))
    with pytest.raises(
        WeightsError, match=r"g takes images of 6 x 3 x 4, got .*\(72, 5\)|expected"
    ):
        from_keras(
            path, sample_network(g=Affine(f4(72, 6), f4(6))), epsilon=1e-3, input_shape=(3, 7, 6)
        )
    with pytest.raises(ArgumentError, match=r"input_shape must be \(C, H, W\), got \(7, 6\)"):
        from_keras(path, sample_network(), input_shape=(7, 6))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        (
            {"j": Affine(f4(5, 3), f4(3))},
            WeightsError,
            r"dense_1 .* j\.weight .*\(4, 5\).*\(3, 5\)",
        ),
        ({"d": Convolution(f4(6, 4, 3, 3), None, 1, "same")}, WeightsError, "has strides"),
        ({"d": Convolution(f4(6, 4, 3, 3), None, 2, 1)}, WeightsError, r"'same', expected '1'"),
        ({"a": Convolution(f4(4, 3, 3, 2), f4(4))}, WeightsError, "'same', expected 'valid'"),
        ({"d": Convolution(f4(6, 4, 3, 3), f4(6), 2, "same")}, WeightsError, "d has W, b, got"),
        ({"b": Relu()}, WeightsError, r"the file has batch_normalization \(called 'alpha'"),
        ({"c": norm(4)}, WeightsError, "the network has c, a BatchNorm.*the file no batch_norm"),
        ({"i": Dropout(0.5)}, ArgumentError, "inverted=True, which scales as Keras's"),
    ],
)
def test_another_architecture_is_told_from_this_one(changes, error, told):
    network = sample_network(**changes)
    before = {key: value.copy() for key, value in network.state().items()}
    with pytest.raises(error, match=told):
        network.load_params(SAMPLE)
    for key, value in before.items():
        np.testing.assert_array_equal(network.state()[key], value)


class Scale(Layer):
    """One of the user's own, with weights."""

    parameter_names = ("gamma",)

    def __init__(self) -> None:
        super().__init__()
        self.gamma = f4(4)

    def forward(self, x, train_flg=False):
        return x


def test_a_layer_that_keras_has_not():
    told = "the network has c, a Scale, the file no such layer"
    with pytest.raises(WeightsError, match=told):
        sample_network(c=Scale()).load_params(SAMPLE)


def test_an_order_pairs_layers_by_the_models_names():
    order = ["zeta", "alpha", "conv2d", "depthwise_conv2d", "dense", "dense_1"]
    network = sample_network()
    network.set_state(from_keras(SAMPLE, network, order=order))
    assert_scores(network)
    with pytest.raises(ArgumentError, match=r"order has 5 names.*expected the model's layers"):
        from_keras(SAMPLE, network, order=order[:5])
    order[0], order[2] = order[2], order[0]
    with pytest.raises(WeightsError, match="another architecture"):
        from_keras(SAMPLE, network, order=order)


def test_other_endings_and_absent_files(tmp_path):
    for name in ("m.h5", "m.keras", "m.weights.h5"):
        with pytest.raises(ArgumentError, match=r"network\.load_params\(path\) or .*from_keras"):
            load_params(tmp_path / name)
    with pytest.raises(ArgumentError, match=r"m\.h5 must end in \.weights\.h5 or \.keras"):
        from_keras(tmp_path / "m.h5", sample_network())
    with pytest.raises(DataNotFound, match="no such file"):
        sample_network().load_params(tmp_path / "m.keras")


def rezipped(method: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """The stored file, with other members (dots in their names as underscores)."""
    out = io.BytesIO()
    with zipfile.ZipFile(SAMPLE) as whole, zipfile.ZipFile(out, "w", method) as archive:
        for name in whole.namelist():
            archive.writestr(name, members.get(name.replace(".", "_"), whole.read(name)))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda: rezipped(zipfile.ZIP_DEFLATED), "packed, which Keras does not do"),
        (lambda: rezipped(config_json=b"["), "config.json: not JSON"),
        (lambda: rezipped(model_weights_h5=b"x"), "not HDF5"),
        (lambda: SAMPLE.read_bytes()[:-200], "not a whole file of Keras 3"),
        (lambda: b"", "not a whole file of Keras 3"),
    ],
)
def test_archives_that_keras_does_not_write(tmp_path, content, told):
    path = tmp_path / "m.keras"
    path.write_bytes(content())
    with pytest.raises(DataCorrupt, match=f"^{re.escape(str(path))}: .*{told}"):
        read_keras(path)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_mutated_files_do_no_harm(tmp_path, ending):
    path = tmp_path / f"m{ending}"
    whole = SAMPLE.read_bytes() if ending == ".keras" else weights_of_sample()
    words = [b"TREE", b"SNOD", b"HEAP", b"GCOL", b"vars\0", b"name\0", b"layers\0", b"PK\1\2"]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_keras(path)

    count = COUNT // 5
    files = mutated([whole], count, seed=13, words=words)
    assert 0 < expect_harmless(read, files, 1 << 20) < count


def test_a_run_starts_from_keras_as_from_other_files(tmp_path, monkeypatch, capsys):
    """The head has other classes."""
    h5py = pytest.importorskip("h5py", reason="it writes the files")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    weights = tmp_path / "m.weights.h5"
    network = make_model("lenet", (1, 28, 28), 7, seed=3)
    write(h5py, weights, as_keras(network))
    again = make_model("lenet", (1, 28, 28), 7, seed=4)
    again.load_params(weights)
    for key, value in network.state().items():
        np.testing.assert_array_equal(again.state()[key], value)
    few = tuple((x[:30], t[:30]) for x, t in DATASETS["digits"].load(flatten=False))
    digits = replace(DATASETS["digits"], load=lambda flatten: few)
    monkeypatch.setitem(DATASETS, "digits", digits)
    words = ["train", "--model", "lenet", "--data", "digits", "--epochs", "1"]
    assert cli.main([*words, "--init", str(weights), "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert "8 arrays taken over" in told.out + told.err
    assert "fc3.weight (10, 84) (weights: (7, 84))" in told.out + told.err


# ---- files written here, as Keras lays them out -------------------------------------------


def as_keras(network: Network) -> list[tuple[str, str, list[np.ndarray]]]:
    """Class, name and arrays of LeNet's layers; images before fc1 are 16 x 5 x 5."""
    found = []
    for name, layer in network.named_layers():
        if isinstance(layer, Convolution):
            found.append(("conv2d", name + "_", [np.einsum("fchw->hwcf", layer.W), layer.b]))
        elif isinstance(layer, Affine):
            rows = np.arange(400).reshape(16, 5, 5).transpose(1, 2, 0).ravel()
            matrix = layer.W[rows] if name == "fc1" else layer.W
            found.append(("dense", name + "_", [matrix, layer.b]))
    return found


def write(h5py, path: Path, layers) -> None:
    with h5py.File(path, "w") as file:
        counts: dict[str, int] = {}
        for kind, name, arrays in layers:
            number = counts.get(kind, 0)
            counts[kind] = number + 1
            group = file.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
            variables = group.create_group("vars")
            variables.attrs["name"] = name
            for place, array in enumerate(arrays):
                variables[str(place)] = array


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py", reason="it writes the files")


def test_forty_layers_are_in_the_order_of_their_numbers(h5py, tmp_path):
    """So many that a group's names fill several nodes; names in Unicode, and no bias."""
    draw = np.random.default_rng(1)
    kernels = [draw.random((1, 1, 1, 1), np.float32) for _ in range(40)]
    path = tmp_path / "m.weights.h5"
    write(h5py, path, [("conv2d", f"層 {n}", [kernel]) for n, kernel in enumerate(kernels)])
    assert [layer.name for layer in read_keras(path).layers] == [f"層 {n}" for n in range(40)]
    network = Network([Convolution(f4(1, 1, 1, 1)) for _ in range(40)])
    network.load_params(path)
    assert [float(value[0, 0, 0, 0]) for value in network.params.values()] == [
        float(kernel[0, 0, 0, 0]) for kernel in kernels
    ]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "bfloat16"])
def test_floats_of_each_kind(h5py, tmp_path, dtype):
    values = np.array([[1.5, -2.25], [0, 1e-2]])
    path = tmp_path / "m.weights.h5"
    stored = (values.astype("f4").view("u4") >> 16).astype("u2").view("V2")
    write(h5py, path, [("dense", "d", [stored if dtype == "bfloat16" else values.astype(dtype)])])
    if dtype == "bfloat16":
        with h5py.File(path, "r+") as file:
            file["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
    (array,) = read_keras(path).layers[0].arrays
    assert array.dtype == {"f2": "f2", "f8": "f8"}.get(dtype, "f4") and array.dtype.isnative
    np.testing.assert_allclose(array, values, rtol={"f2": 1e-3, "bfloat16": 8e-3}.get(dtype, 1e-7))


def test_the_books_dropout_is_made_up_for(h5py, tmp_path):
    """It scales in evaluation, Keras's in training."""
    draw = np.random.default_rng(2)
    first, second, x = (draw.random(shape, np.float32) for shape in ((3, 4), (4, 2), (5, 3)))
    path = tmp_path / "m.weights.h5"
    write(h5py, path, [("dense", "p", [first]), ("dense", "q", [second])])
    network = Network([Affine(f4(3, 4)), Dropout(0.4), Affine(f4(4, 2)), Dropout(0.2)])
    network.load_params(path)
    np.testing.assert_allclose(network.predict(x), x @ first @ second, rtol=1e-5)


def test_layers_in_branches_are_found_by_name_alone(h5py, tmp_path):
    def network() -> Network:
        convs = {name: Convolution(f4(1, 1, 1, 1)) for name in ("left", "right")}
        return Network({"block": Shortcut(convs), "out": GlobalAveragePooling()})

    names = [name for name, layer in network().named_layers() if isinstance(layer, Convolution)]
    kernels = [np.full((1, 1, 1, 1), value, np.float32) for value in (2, 3)]
    path = tmp_path / "m.weights.h5"
    given = [
        ("conv2d", name.replace(".", "_"), [k]) for name, k in zip(names, kernels, strict=True)
    ]
    write(h5py, path, given[::-1])
    one = network()
    one.load_params(path)
    assert [float(one.params[f"{name}.weight"][0, 0, 0, 0]) for name in names] == [2, 3]
    write(h5py, path, [("conv2d", "p", [kernels[0]]), ("conv2d", "q", [kernels[1]])])
    with pytest.raises(WeightsError, match=r"branches, .* name the model's layers as here .*p, q"):
        network().load_params(path)
    state = from_keras(path, one, order=["q", "p"])
    assert [float(state[f"{name}.weight"][0, 0, 0, 0]) for name in names] == [3, 2]


@pytest.mark.parametrize("pooling", [AdaptiveAveragePooling(2, 3), GlobalAveragePooling()])
def test_a_pooling_to_one_size_tells_the_images(h5py, tmp_path, pooling):
    """The matrix has a row for each place and channel: Keras's order is rows, columns, channels."""
    places = 6 if pooling.out_h == 2 else 1
    matrix = np.arange(2.0 * places, dtype=np.float32).reshape(places, 2)
    path = tmp_path / "m.weights.h5"
    kernel = np.ones((1, 1, 1, 2), np.float32)
    write(h5py, path, [("conv2d", "c", [kernel]), ("dense", "d", [matrix.reshape(-1, 1)])])
    layers = [Convolution(f4(2, 1, 1, 1)), Pooling(1, 1), pooling, Affine(f4(2 * places, 1))]
    network = Network(layers)
    network.load_params(path)
    np.testing.assert_array_equal(network.params["W2"].ravel(), matrix.T.ravel())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            lambda h5py, f: f["layers/dense/vars"].create_dataset("1", (2,), "f4", chunks=(1,)),
            "piece",
        ),
        (
            lambda h5py, f: f["layers/dense/vars"].create_dataset(
                "1", (2,), "f4", external=[("/etc/hostname", 0, 8)]
            ),
            "piece",
        ),
        (lambda h5py, f: f["layers/dense/vars"].create_dataset("1", (1 << 40,), "f4"), "bytes|cut"),
        (lambda h5py, f: f["layers/dense/vars"].create_dataset("1", (2,), "i4"), "class 0.*floats"),
        (
            lambda h5py, f: f["layers/dense/vars"].create_dataset("1", data=np.zeros(2, "V2")),
            "holds bytes",
        ),
        (
            lambda h5py, f: f["layers/dense/vars"].__setitem__("1", h5py.SoftLink("/layers")),
            "vars/1 is a link",
        ),
        (
            lambda h5py, f: f["layers"].__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")),
            "/layers is not a group",  # it becomes one of a later format
        ),
        (lambda h5py, f: f["layers/dense/vars"].create_group("1"), "vars/1 is not an array"),
        (lambda h5py, f: f["layers/dense"].create_group("_layers"), "a layer inside of a layer"),
        (
            lambda h5py, f: f["layers/dense/vars"].attrs.__setitem__("name", "x" * 1001),
            "not a text",
        ),
        (lambda h5py, f: f["layers/dense/vars"].attrs.__setitem__("name", [1, 2]), "not a text"),
        (lambda h5py, f: f.move("layers", "model_weights"), "no group 'layers'.*has model_weights"),
    ],
)
def test_what_keras_does_not_write_is_refused(h5py, tmp_path, spoil, told):
    path = tmp_path / "m.weights.h5"
    write(h5py, path, [("dense", "d", [np.ones((2, 2), np.float32)])])
    read_keras(path)
    with h5py.File(path, "r+") as file:
        spoil(h5py, file)
    with pytest.raises(DataCorrupt, match=told):
        read_keras(path)


def test_an_image_of_one_channel(h5py, tmp_path):
    """Its size is in the configuration; the matrix has its rows in the order H, W, C."""
    rng = np.random.default_rng(0)
    kernel, matrix, x = (rng.standard_normal(s) for s in ((1, 1, 1, 2), (12, 2), (4, 2, 3, 1)))
    weights, path = tmp_path / "m.weights.h5", tmp_path / "m.keras"
    layers = [("conv2d", "c", [kernel, np.zeros(2)]), ("dense", "d", [matrix, np.zeros(2)])]
    write(h5py, weights, layers)
    images = {"name": "i", "batch_shape": [None, 2, 3, 1]}
    config = {"config": {"layers": [{"class_name": "InputLayer", "config": images}]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, "model.weights.h5")
        archive.writestr("config.json", json.dumps(config))
    empty = Convolution(np.zeros((2, 1, 1, 1)), np.zeros(2)), Affine(np.zeros((12, 2)), np.zeros(2))
    network = Network(empty, "float64")
    network.load_params(path)
    expected = (x * kernel[0, 0, 0]).reshape(4, 12) @ matrix
    np.testing.assert_allclose(network.predict(x.transpose(0, 3, 1, 2)), expected)


def test_two_members_of_one_name(h5py, tmp_path):
    """HDF5 has no such file; one whose heap of names is damaged is one."""
    path = tmp_path / "m.weights.h5"
    write(h5py, path, [("dense", "d", [np.ones((2, 2), np.float32), np.ones(2, np.float32)])])
    data = path.read_bytes()
    names = b"\x000\x00\x00\x00\x00\x00\x00\x001\x00"
    assert data.count(names) == 1
    path.write_bytes(data.replace(names, names.replace(b"1", b"0")))
    with pytest.raises(DataCorrupt, match="/layers/dense/vars has '0' twice"):
        read_keras(path)


def test_a_later_format_of_hdf5_is_named(h5py, tmp_path):
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_group("layers")
    with pytest.raises(DataCorrupt, match="HDF5 file of another format"):
        read_keras(path)


def test_one_array_under_many_names_is_not_read_over_and_over(h5py, tmp_path):
    path = tmp_path / "m.weights.h5"
    write(h5py, path, [("dense", "d", [np.ones(100_000, np.float32)])])
    with h5py.File(path, "r+") as file:
        for number in range(1, 100):
            file[f"layers/dense/vars/{number}"] = file["layers/dense/vars/0"]
    with pytest.raises(DataCorrupt, match="lie across each other"):
        read_keras(path)


# ---- beside Keras itself ------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        pytest.importorskip("jax", reason="Keras computes on it")
        yield pytest.importorskip("keras", reason="Keras is not installed: nothing to compare with")


def lenet(layers):
    return [
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(120, activation="relu"),
        layers.Dense(84, activation="relu"),
        layers.Dense(10),
    ]


def deepconvnet(layers):
    rows = []
    for number, filters in enumerate((16, 16, 32, 32, 64, 64)):
        pad = 2 if number == 3 else 1
        rows += [layers.ZeroPadding2D(pad), layers.Conv2D(filters, 3, activation="relu")]
        rows += [layers.MaxPooling2D(2)] if number % 2 else []
    rows += [layers.Flatten(), layers.Dense(50, activation="relu"), layers.Dropout(0.5)]
    return [*rows, layers.Dense(10), layers.Dropout(0.5)]


def digitnet5(layers):
    rows = []
    for block, padding in (((16, 32), "valid"), ((48, 64), "same"), ((96,), "same")):
        for filters in block:
            rows.append(layers.Conv2D(filters, 3, padding=padding, use_bias=False))
            rows += [layers.BatchNormalization(), layers.ReLU()]
        rows.append(layers.MaxPooling2D(2))
    return [*rows, layers.Flatten(), layers.Dense(10)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own
@pytest.mark.parametrize("ending", [".weights.h5", ".keras"])
@pytest.mark.parametrize("made", [lenet, deepconvnet, digitnet5])
def test_the_same_network_in_keras_gives_the_same_scores(keras, tmp_path, made, ending):
    model = keras.Sequential([keras.Input((28, 28, 1)), *made(keras.layers)])
    draw = np.random.default_rng(5)
    for variable in model.weights:
        if "seed" not in variable.path:
            low = 0.1 if "variance" in variable.path else -0.2
            variable.assign(draw.uniform(low, 0.3, variable.shape))
    path = tmp_path / f"m{ending}"
    (model.save if ending == ".keras" else model.save_weights)(path)
    x = draw.random((3, 28, 28, 1), np.float32)
    network = make_model(made.__name__, (1, 28, 28), 10, seed=0)
    network.set_state(from_keras(path, network, epsilon=1e-3))
    expected = model.predict(x, verbose=0)
    got = network.predict(x.transpose(0, 3, 1, 2))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own
def test_the_stored_file_is_what_keras_reads(keras):
    scores = keras.saving.load_model(SAMPLE).predict(images(), verbose=0)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-5)
