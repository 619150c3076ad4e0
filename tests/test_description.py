"""What a prepared network says of itself, against its layers, and against what kernels count."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import numpy as np
import pytest

import fastconv
from fastconv import config
from fastconv.backends.algorithms import ConvAlgorithms
from fastconv.backends.table import FAMILIES, KERNELS
from fastconv.layers import Affine, Branches, Chain, Layer, Relu, Shortcut, Tanh
from fastconv.models import make_model
from fastconv.network import Network
from fastconv.testing import ways

from .layer_rows import ROWS, SHAPE, Draw, convolutions, grouped
from .stand_ins import StandIn, fresh_registry


def steps_of(layers, shape=SHAPE, backend="numpy", dtype="float32"):
    return Network(layers, dtype, backend).prepare(shape).description.steps


def what(steps):
    return [(step.name, " ".join((step.what, *step.fused)), step.output_shape) for step in steps]


def test_the_books_network(backend):
    config.set_programs("on")  # which run moves too
    network = make_model("deepconvnet", (1, 28, 28), 10, seed=0, backend=backend)
    steps = network.prepare((3, 1, 28, 28)).description.steps
    assert what(step for step in steps if step.kernel != "move") == [
        ("0", "conv2d 3x3 relu", (3, 16, 28, 28)),
        ("2", "conv2d 3x3 relu pool", (3, 16, 14, 14)),
        ("5", "conv2d 3x3 relu", (3, 32, 14, 14)),
        ("7", "conv2d 3x3 relu pool", (3, 32, 8, 8)),
        ("10", "conv2d 3x3 relu", (3, 64, 8, 8)),
        ("12", "conv2d 3x3 relu pool", (3, 64, 4, 4)),
        ("15", "affine", (3, 50)),
        ("16", "relu", (3, 50)),
        ("18", "affine", (3, 10)),
    ]
    assert steps[1].layers == ("Convolution", "Relu", "Pooling")
    assert steps[1].kernel == "conv2d_block_forward"
    dropout = [step for step in steps if step.layers == ("Dropout",)]
    assert [(step.what, step.name) for step in dropout] == [("scale", "17"), ("scale", "19")]
    runs_in = {step.runs_in for step in steps}
    assert runs_in == ({backend} if backend != "numpy" else {"numpy", "Python"})
    assert {step.runs_in for step in steps if step.kernel != "move"} == {backend}


@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd2", "winograd2x4", "winograd4"])
@pytest.mark.parametrize("name", ["cython", "numba"])
def test_algorithms_are_those_that_run(name, algorithm, rng):
    if not (status := fastconv.list_backends()[name]):
        pytest.skip(status.reason)
    fastconv.config.set_conv_algorithm(algorithm)
    network = Network(convolutions(Draw("float32")), "float32", name)
    shape = (32, 3, 24, 24)
    prepared = network.prepare(shape)
    with ways(fastconv.selection.active(name)) as taken:
        prepared.predict(rng.random(shape))
    said = Counter(step.algorithm for step in prepared.description.steps if step.algorithm)
    ran = Counter[str]()
    for way, count in taken.items():
        ran[way.algorithm] += count if way.part == "forward" else 0
    assert said == ran
    assert len(said) >= (3 if algorithm == "auto" else 1)
    assert {step.what for step in prepared.description.steps if step.algorithm} == {
        *("conv2d 5x5/2", "conv2d 3x3", "conv2d 1x1")
    }


@pytest.mark.parametrize("size", [(13, 11), (2, 2)])
def test_norms_and_sums_are_fused(backend, size):
    """Also where images have fewer pixels than filters have weights: these are folded only once."""
    draw = Draw("float32")
    layers = {
        "stem": Chain({"conv": draw.conv(4, 3), "bn": draw.norm(4), "relu": Relu()}),
        "block": Chain(
            {"": Shortcut({"": Chain({"conv": draw.conv(4, 4), "bn": draw.norm(4)})}), "r": Relu()}
        ),
    }
    steps = steps_of(layers, (2, 3, *size), backend)
    assert [step for step in what(steps) if step[1] != "copy"] == [
        ("stem.conv", "conv2d 3x3 norm relu", (2, 4, *size)),
        ("block.conv", "conv2d 3x3 norm add relu", (2, 4, *size)),
    ]
    assert steps[-1].layers == ("Convolution", "BatchNormalization2d", "Shortcut", "Relu")


def test_groups_and_joins(backend):
    told = [step.what for step in steps_of(grouped(Draw("float32")), SHAPE, backend)]
    assert [text for text in told if text != "copy"] == [
        *("conv2d 3x3", "conv2d 3x3 in 8 groups", "conv2d 3x3/2 in 2 groups"),
        *("conv2d 3x3 in 64 groups", "conv2d 3x3", "conv2d 3x3/2", "conv2d 3x3/1x2"),
    ]
    draw = Draw("float32")
    layers = {"split": Branches({"a": draw.conv(4, 3), "b": draw.conv(5, 3)})}
    steps = steps_of(layers, SHAPE, backend)
    joined = [(step.name, step.layers, step.what, *step.fused) for step in steps[-2:]]
    if backend == "cython":  # whose kernels write there
        convolution = ("Convolution",), "conv2d 3x3", "concat"
        assert joined == [("split.a", *convolution), ("split.b", *convolution)]
    else:
        assert joined == [("", ("Branches",), "copy")] * 2


@pytest.mark.parametrize("row", ROWS)
def test_every_step_is_described(backend, dtype, row):
    network = Network(row(Draw(dtype)), dtype, backend)
    prepared = network.prepare(SHAPE)
    steps = prepared.description.steps
    assert sum(int(part.split(": ")[1].split()[0]) for part in prepared.parts) == len(steps)
    assert steps[-1].output_shape == prepared.predict(np.zeros(SHAPE)).shape
    assert all(step.layers and step.what and step.output_bytes for step in steps)
    names = {name for name, _ in network.named_layers()}
    assert {step.name for step in steps} <= names | {""}


class Doubled(Layer):
    """A layer of the user's own."""

    def forward(self, x):
        return 2 * x


def test_a_layer_of_the_users_own_runs_in_python(backend):
    draw = Draw("float32")
    layers = {"conv": draw.conv(5, 3), "mine": Doubled(), "relu": Relu()}
    steps = steps_of(layers, SHAPE, backend)
    mine = steps[-2]
    assert (mine.name, mine.kernel, mine.what) == ("mine", "Doubled", "Doubled")
    assert (mine.layers, mine.runs_in) == (("Doubled",), "Python")
    assert mine.output_shape == (2, 5, 13, 11)
    assert mine.output_bytes == 2 * 5 * 13 * 11 * 4
    assert steps[-1].runs_in == backend


def test_kernels_of_the_reference_are_called_that(monkeypatch):
    """A backend that lacks a family gets it from the reference."""
    registry = fresh_registry(monkeypatch)
    others = tuple(kernel for kernel in KERNELS if kernel not in FAMILIES["activation"])
    registry.register("mine", partial(StandIn, "mine", kernels=others))
    steps = steps_of([Relu(), Tanh()], backend="mine")
    assert [(step.what, step.runs_in) for step in steps] == [("relu", "mine"), ("tanh", "numpy")]


@pytest.mark.parametrize(("lacking", "said"), [("conv2d", ""), ("activation", "winograd4")])
def test_a_backend_says_the_algorithms_of_its_own_kernels(monkeypatch, lacking, said):
    class Saying(StandIn):
        def conv2d_algorithms(self, geometry, filters, pooled):
            return ConvAlgorithms("winograd4", "direct", "sparse")

    registry = fresh_registry(monkeypatch)
    others = tuple(kernel for kernel in KERNELS if kernel not in FAMILIES[lacking])
    registry.register("mine", partial(Saying, "mine", kernels=others))
    (step,) = steps_of([Draw("float32").conv(4, 3)], backend="mine")
    assert (step.algorithm, step.runs_in) == (said, "mine" if said else "numpy")


def test_memory():
    """Of a row of layers two arrays are in use at a time; each begins at a line of 64 bytes."""
    description = Network([Tanh(), Tanh(), Tanh()], "float32", "numpy").prepare((1, 2, 4, 8))
    facts = description.description
    assert [step.output_bytes for step in facts.steps] == [256] * 3
    assert [step.output_shape for step in facts.steps] == [(1, 2, 4, 8)] * 3
    assert facts.bytes_without_reuse == 4 * 256
    assert 2 * 256 <= facts.block_bytes <= 3 * 256
    (relu,) = steps_of([Relu()], (1, 2, 4, 8))
    assert relu.output_bytes == 256 + 64  # with a byte for each place of the mask


def test_names_are_the_networks_also_of_layers_that_came_later():
    network = Network({"a": Chain({"b": Tanh()}), "c": Tanh()}, backend="numpy")
    prepared = network.prepare((2, 4))
    assert [step.name for step in prepared.description.steps] == ["a.b", "c"]
    network.layers.append(Relu())
    prepared.refresh()
    assert [step.name for step in prepared.description.steps] == ["a.b", "c", "2"]
    assert "a.b" in str(prepared.description)


def test_it_is_that_of_the_largest_batch_and_of_the_backend_now(rng):
    prepared = Network([Tanh()]).prepare((5, 4))
    for name in ("numpy", "numba"):
        if not fastconv.list_backends()[name]:
            continue
        with fastconv.use_backend(name):
            prepared.predict(rng.random((2, 4)))
            (step,) = prepared.description.steps
            assert (step.output_shape, step.runs_in) == ((5, 4), name)


def test_as_text_and_as_plain_data():
    draw = Draw("float32")
    layers = {"conv": draw.conv(4, 3, 5, 2, 2), "relu": Relu(), "mine": Doubled(), "fc": None}
    layers["fc"] = Affine(draw.numbers(4 * 7 * 6, 3), None)
    prepared = Network(layers, "float32", "numpy").prepare((2, 3, 13, 11))
    assert str(prepared.description) == (
        "layer  computed by         algorithm  output         KiB  runs in\n"
        "conv   conv2d 5x5/2 +relu             2 x 4 x 7 x 6  1.3  numpy\n"
        "mine   Doubled                        2 x 4 x 7 x 6  1.3  Python\n"
        "fc     affine                         2 x 3          0.0  numpy\n"
        "3 steps; arrays in 4.7 KiB, which without reuse were 6.1 KiB"
    )
    assert repr(prepared) == (
        "<PreparedNetwork for 1 to 2 x 3 x 13 x 11, float32; "
        "numpy: 1 calls, Python: Doubled, numpy: 1 calls>"
    )
    plain = json.loads(json.dumps(prepared.description.plain()))
    assert plain["steps"][0]["output_shape"] == [2, 4, 7, 6]
    assert plain["block_bytes"] == prepared.description.block_bytes
