"""Records of Numba's kernels: who runs a kernel and the kernel itself mean the same fields."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap

import numpy as np
import pytest

pytest.importorskip("numba")

from fastconv.backends import _numba
from fastconv.backends._numba import activation
from fastconv.backends._numba.launch.build import Builder
from fastconv.backends._numba.words.pointer import BYTE, FLOAT
from fastconv.backends._numba.words.record import DECLARED, Record, address, takes

for module in pkgutil.walk_packages(_numba.__path__, f"{_numba.__name__}."):
    importlib.import_module(module.name)

CONSTANTS = {"lanes": 16, "rows": 8, "vectors": 2, "my": 2, "mx": 2, "real": FLOAT, "index": BYTE}
"""For factories: their kernels are not compiled."""

FIELDS = {
    "x": np.zeros(3, "f"),
    "out": np.zeros(3, "f"),
    "mask": np.zeros(3, np.uint8),
    "count": 3,
}


def read_by(factory) -> set[str]:
    """The attributes that a kernel reads of `a`."""
    constants = [CONSTANTS.get(name, FLOAT) for name in inspect.signature(factory).parameters]
    source = textwrap.dedent(inspect.getsource(factory(*constants)))
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return {node.attr for node in nodes if getattr(node.value, "id", None) == "a"}


@pytest.mark.parametrize("factory", DECLARED, ids=lambda factory: factory.__name__)
def test_a_kernel_reads_the_fields_that_it_declares(factory):
    assert read_by(factory) == set(DECLARED[factory])


def test_a_record_holds_each_field_in_its_place():
    @takes(real="x", floats="slope", integers="count", flags="looking", int64="table")
    def factory(real):
        raise NotImplementedError

    x, table = np.zeros(3, "f"), np.zeros(3, np.int64)
    fields = {"looking": True, "count": -7, "table": table, "slope": 0.5, "x": x}
    packed = Record(factory, [FLOAT]).pack(fields)
    half = np.array([0.5]).view(np.int64)[0]
    assert packed.tolist() == [x.ctypes.data, half, -7, 1, table.ctypes.data]
    assert Record(factory, [FLOAT]).pack(dict(fields, x=None, table=8)).tolist()[::4] == [0, 8]


def test_an_array_begins_where_numpy_says():
    a = np.zeros((3, 4, 5), np.float32)
    for view in (a, a[1:, ::2], a[..., -1], a[:0]):
        assert address(view) == view.ctypes.data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuont": 3}, r"relu_forward-3: expected .*, got \['count', 'cuont', "),
        ({"mask": np.zeros(3, "f")}, "mask points to uint8, got float32"),
        ({"x": np.zeros(3)}, "x points to float32, got float64"),
        ({"count": 1.5}, "relu_forward-3: .*integer"),
    ],
)
def test_a_wrong_field_is_refused(change, message):
    with pytest.raises(TypeError, match=message):
        Record(activation.relu_forward, [FLOAT]).pack(FIELDS | change)


def test_a_missing_field_is_refused():
    fields = {name: FIELDS[name] for name in ("x", "out", "mask")}
    with pytest.raises(
        TypeError, match=r"expected the fields .*'count'.*, got \['mask', 'out', 'x'\]"
    ):
        Record(activation.relu_forward, [FLOAT]).pack(fields)


def test_a_field_that_is_not_declared_stops_the_compilation(tmp_path):
    from numba.core.errors import TypingError

    @takes(integers="count")
    def factory():
        def kernel(a, part, parts):
            return a.cuont

        return kernel

    with pytest.raises(TypingError, match=r"Unknown attribute 'cuont' of type factory"):
        Builder(lambda: tmp_path).serial(factory)


def test_a_wrong_declaration_is_refused():
    def factory(real):
        raise NotImplementedError

    with pytest.raises(TypeError, match=r"factory: a field is one of .*'real'.*, got 'reel'"):
        takes(reel="x")(factory)
    with pytest.raises(TypeError, match="factory: two fields are called 'x'"):
        takes(real="x out", uint8="x")(factory)
