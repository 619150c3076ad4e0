"""The tree of a network's layers: how they are listed, and how a value is followed through them."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest

from fastconv.errors import ArgumentError
from fastconv.io import export_onnx
from fastconv.layers import (
    Affine,
    AuxiliaryHead,
    BatchNormalization2d,
    Branches,
    Chain,
    Convolution,
    Relu,
    Shortcut,
)
from fastconv.layers.tree import Tracer, children, flat, leaves, runs_as, walk
from fastconv.network import Network
from fastconv.network.executor import describe
from fastconv.network.fusion import Sum, fuse
from fastconv.network.summary import layer_facts
from fastconv.training.learned import learned


def conv():
    return Convolution(np.ones((2, 2, 1, 1)), np.zeros(2))


def norm():
    return BatchNormalization2d(np.ones(2), np.zeros(2))


class Twice(Chain):
    """A container of the user's own, which computes something else."""

    def forward(self, x, train_flg=True):
        return 2 * super().forward(x, train_flg)


class Beside:
    """A layer of the user's own that has layers, and is no container."""

    has_modes = False
    parameter_names = ()

    def __init__(self, inner):
        self.layers = [inner]

    def forward(self, x):
        return self.layers[0].forward(x, False)


def test_children_of_whatever_holds_layers():
    relu = Relu()
    for holder in ([relu], (relu,), Chain([relu]), SimpleNamespace(layers=[relu])):
        assert children(holder) == {"0": relu}
    for holder in ({"a": relu}, SimpleNamespace(layers=OrderedDict(a=relu))):
        assert children(holder) == {"a": relu}
    for nothing in (relu, None, SimpleNamespace(layers="ab"), SimpleNamespace(layers=3)):
        assert children(nothing) == {}


def test_paths_are_in_the_order_in_which_layers_run():
    one, two, three = Relu(), Relu(), Relu()
    body = Chain({"": one, "b": two})
    holder = {"body": Shortcut([body]), "end": three}
    assert [path for path, _ in walk(holder)] == [
        ("body",),
        ("body", "0"),
        ("body", "0", ""),
        ("body", "0", "b"),
        ("end",),
    ]
    assert leaves(holder) == [("body.0", one), ("body.0.b", two), ("end", three)]


def test_a_layer_of_the_users_own_answers_for_itself():
    """Except for its running statistics, which nothing else would keep."""
    own = Beside(norm())
    assert leaves([own]) == [("0", own)]
    network = SimpleNamespace(layers=[own], params={})
    assert list(learned(network)) == [
        "statistics/0/0/running_mean",
        "statistics/0/0/running_var",
    ]


def test_only_plain_chains_are_opened():
    one, two = Relu(), Relu()
    replaced, derived = Chain([Relu()]), Twice([Relu()])
    replaced.forward = lambda x, train_flg=True: x
    row = [Chain([one, Chain([two])]), replaced, derived]
    assert flat(row) == [one, two, replaced, derived]
    assert [runs_as(layer, Chain) for layer in row] == [True, False, False]
    assert not runs_as(one, Chain)


class Words(Tracer[str]):
    """Writes down what the layers do."""

    def layer(self, path, layer, value):
        return f"{value} {self.name(path, layer)}"

    def fork(self, value):
        return ""

    def join(self, path, layer, value, branches):
        return f"{value} {'+'.join(f'({branch.strip()})' for branch in branches)}"

    def head(self, path, layer, value):
        return f"{value} [{self.through(layer, '', path).strip()}]"


def test_a_value_is_followed_through_every_kind_of_container():
    layers = {
        "a": Relu(),
        "ways": Branches({"l": Relu(), "r": Chain([Relu(), Relu()])}),
        "head": AuxiliaryHead({"fc": Relu()}),
        "around": Shortcut([Twice([Relu()]), Relu()]),
    }
    text = "x a (ways.l)+(ways.r.0 ways.r.1) [head.fc] (around.0)+(around.1)"
    assert Words(None).through(layers, "x") == text
    # A network has names of its own, and knows them of the layers that hold no others.
    text = text.replace("(around.0)", "(3.0)")
    assert Words(Network(layers)).through(Network(layers), "x") == text


def test_facts_of_a_container_that_computes_something_else():
    """Its forward runs, and not its layers one after the other."""
    seen = []

    class Seen(Twice):
        def forward(self, x, train_flg=True):
            seen.append(x.shape)
            return super().forward(x, train_flg)[:, :1]

    network = Network({"own": Seen([conv()]), "fc": Affine(np.ones((9, 3)))}, "float64")
    facts = layer_facts(network, (2, 3, 3))
    assert [fact.output_shape for fact in facts] == [(1, 3, 3), (3,)]
    assert [fact.parameters for fact in facts] == [6, 27]
    assert seen == [(1, 2, 3, 3)]


def test_a_replaced_forward_is_not_exported(tmp_path):
    pytest.importorskip("onnx")
    network = Network([conv(), Relu()])
    network.layers[1].forward = lambda x: -x
    with pytest.raises(ArgumentError, match=r"layer 2 \(Relu\) cannot be exported"):
        export_onnx(network, tmp_path / "m.onnx")


def test_groups_are_whole_when_they_are_made():
    """The sum of a shortcut and the ReLU after it belong to the body's last group at once."""
    relu = Relu()
    (group,) = fuse([Shortcut([Chain([conv(), norm()])]), relu], train_flg=True)
    *_, last = group.body.groups
    norm_, sum_, relu_ = last.layers
    assert isinstance(norm_, BatchNormalization2d) and isinstance(sum_, Sum) and relu_ is relu
    before = dict(vars(last))
    group.forward(np.ones((1, 2, 3, 3)), False)
    assert vars(last) == before


def test_a_sum_that_no_kernel_takes_in_is_a_group_of_its_own():
    network = Network([Shortcut([Chain([conv(), Relu()])]), Relu()], "float64")
    x = np.array([-1.0, 3.0]).reshape(1, 2, 1, 1)
    # The convolution adds the channels: relu(2) + x, and relu of that.
    np.testing.assert_array_equal(network.predict(x), np.array([1.0, 5.0]).reshape(1, 2, 1, 1))
    facts = [group.layers for group in describe(network.layers, x.shape, "float64", False)]
    assert facts == [("Convolution", "Relu"), ("Shortcut",), ("Relu",)]
