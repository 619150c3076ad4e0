"""ONNX models of ensembles, of what is known about the images, and how they are run."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastconv.datasets.normalization import Normalization
from fastconv.datasets.record import ImageFacts
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound, MissingDependency, ShapeError
from fastconv.experiment.exported import as_metadata, read_exported
from fastconv.io import export_onnx
from fastconv.layers import Convolution, Relu
from fastconv.models.ensemble import Ensemble
from fastconv.network import Network
from fastconv.network.views import View

from .onnx_session import Session, affine, assert_same, convolution, images

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed")

VIEWS = {
    "one view": [View()],
    "shifts": [View(), View(1, -2), View(-3, 0), View(0, 4)],
    "beyond the image": [View(9, 0), View(-1, 20)],
    "mirrored": [View(mirrored=True), View(2, 1, True)],
    "turned and scaled": [View(turned=20.0), View(1, -1, True, -7.0, 1.3), View(scaled=0.7)],
}


def members(count: int) -> list[Network]:
    """Networks with the same names of arrays, and other numbers in them."""
    return [
        Network([convolution(seed=seed), Relu(), affine(4 * 6 * 5)], "float32")
        for seed in range(count)
    ]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_an_ensemble_is_one_graph(tmp_path, count, views):
    ensemble = Ensemble(members(count), views)
    x = images(4, 2, 8, 7)
    export_onnx(ensemble, tmp_path / "p.onnx", input_shape=(2, 8, 7), softmax=True)
    assert_same(Session(tmp_path / "p.onnx")(x), ensemble.predict_proba(x))
    export_onnx(ensemble, tmp_path / "s.onnx", input_shape=(2, 8, 7))
    assert_same(Session(tmp_path / "s.onnx")(x), ensemble.predict(x))


def test_a_graph_weighs_members_as_the_ensemble_does(tmp_path):
    ensemble = Ensemble(members(3), VIEWS["shifts"], weights=(0.7, 0.0, 0.3))
    x = images(4, 2, 8, 7)
    export_onnx(ensemble, tmp_path / "p.onnx", input_shape=(2, 8, 7), softmax=True)
    assert_same(Session(tmp_path / "p.onnx")(x), ensemble.predict_proba(x))


def test_members_have_their_weights_once_and_by_their_names(tmp_path):
    export_onnx(Ensemble(members(2), VIEWS["shifts"]), tmp_path / "m.onnx", input_shape=(2, 8, 7))
    names = [array.name for array in onnx.load(tmp_path / "m.onnx").graph.initializer]
    weights = [name for name in names if name[0].isdigit()]
    assert weights == [f"{member}/{name}" for member in "01" for name in ("W1", "b1", "W2", "b2")]


def test_an_ensemble_that_cannot_be_one_graph_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ArgumentError, match=r"views depend on the size .*: pass input_shape"):
        export_onnx(Ensemble(members(1), VIEWS["mirrored"]), path)
    other = Network([affine(2 * 8 * 7, units=5)], "float32")
    with pytest.raises(ShapeError, match=r"members give scores of the shapes \(3,\) and \(5,\)"):
        export_onnx(Ensemble([*members(1), other]), path, input_shape=(2, 8, 7))
    prepared = members(1)[0].prepare((1, 2, 8, 7))
    with pytest.raises(ArgumentError, match="got PreparedNetwork"):
        export_onnx(Ensemble([prepared]), path)
    assert list(tmp_path.iterdir()) == []


FACTS = ImageFacts((2, 8, 7), ("a", "b", "ç"), Normalization((0.25, 0.5), (1.0, 2.0)), 0.2, "f00")


@pytest.mark.parametrize("softmax", [True, False])
def test_what_is_known_about_the_images_comes_back(tmp_path, softmax):
    path = tmp_path / "m.onnx"
    (network,) = members(1)
    export_onnx(
        *(network, path), input_shape=FACTS.shape, softmax=softmax, metadata=as_metadata(FACTS)
    )
    facts, model = read_exported(path, threads=1)
    assert facts == FACTS
    x = images(3, *FACTS.shape)
    np.testing.assert_allclose(model.probabilities(x), network.predict_proba(x), atol=1e-6)
    assert np.isclose(model.probabilities(x).sum(axis=1), 1).all()


def test_models_that_do_not_say_it_are_refused(tmp_path):
    pytest.importorskip("onnxruntime", reason="runs the model")
    path = tmp_path / "m.onnx"
    (network,) = members(1)
    with pytest.raises(DataNotFound, match=r"m\.onnx: no such file"):
        read_exported(path, 1)
    path.write_bytes(b"no model")
    with pytest.raises(DataCorrupt, match="not an ONNX model"):
        read_exported(path, 1)
    good = as_metadata(FACTS)
    for metadata, message in (
        ({}, "does not say what its images and classes are"),
        (good | {"class_names": "[1]"}, r"its metadata: Expected `str`"),
        (good | {"shape": "[2"}, "its metadata: not JSON"),
        (good | {"class_names": '["a", "b"]'}, "2 names of classes, but the model has 3"),
    ):
        export_onnx(network, path, input_shape=FACTS.shape, metadata=metadata)
        with pytest.raises(DataCorrupt, match=message):
            read_exported(path, 1)


def test_images_that_do_not_fit_the_model(tmp_path):
    export_onnx(members(1)[0], tmp_path / "m.onnx", metadata=as_metadata(FACTS))
    _, model = read_exported(tmp_path / "m.onnx", 1)
    with pytest.raises(DataCorrupt, match=r"cannot compute images \(1, 5, 8, 7\)"):
        model.probabilities(images(1, 5, 8, 7))


def test_onnx_runtime_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r": pip install onnxruntime$"):
        read_exported(tmp_path / "m.onnx", 1)


def test_operators_are_those_that_runtimes_read_alike(tmp_path):
    """Windows that hang over the padded image, and every second pixel; see docs/weights.md."""
    from fastconv.layers import AveragePooling, Subsampling

    layers = [
        AveragePooling(3, 3, 2, 1, ceil_mode=True),
        Subsampling(2, 1),
        Convolution(np.ones((1, 3, 1, 1), "f4"), None),
    ]
    export_onnx(Network(layers, "float32"), tmp_path / "m.onnx", input_shape=(2, 8, 8))
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert [node.op_type for node in nodes] == [
        *("Pad", "AveragePool", "MaxPool", "Pad", "Conv", "Identity")
    ]
    (mode,) = nodes[0].attribute  # pnnx does not know ONNX's default
    assert onnx.helper.get_attribute_value(mode) == b"constant"
    settings = {each.name: onnx.helper.get_attribute_value(each) for each in nodes[1].attribute}
    assert settings["count_include_pad"] == 0 and settings["pads"] == [0, 0, 0, 0]
