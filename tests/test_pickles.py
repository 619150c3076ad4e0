"""The book's pickles: what NumPy and the book wrote loads; all else is refused, with its reason."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from fastconv.errors import DataCorrupt, UnsafePickle
from fastconv.io import load_params

from . import python2_pickles
from .any_arrays import any_arrays
from .awkward import MEMORY, in_memory


def old_params() -> dict[str, np.ndarray]:
    """Weights as the book's networks pickle them: float64."""
    rng = np.random.default_rng(5)
    shapes = {"W1": (16, 1, 3, 3), "b1": (16,), "W2": (256, 10), "b2": (10,)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def load(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    (folder / "weights.pkl").write_bytes(data)
    return load_params(folder / "weights.pkl")


# ---- what loads -----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path, protocol):
    loaded = load(tmp_path, pickle.dumps(old_params(), protocol))
    assert list(loaded) == list(old_params())
    for name, value in old_params().items():
        assert loaded[name].dtype == value.dtype
        np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize("protocol", [0, 2, 3])
def test_a_pickle_of_numpy_1(tmp_path, protocol):
    """There the package was called numpy.core."""
    data = pickle.dumps(old_params(), protocol)
    assert b"numpy._core." in data
    loaded = load(tmp_path, data.replace(b"numpy._core.", b"numpy.core."))
    np.testing.assert_array_equal(loaded["W1"], old_params()["W1"])


@pytest.mark.parametrize("code", ["<f8", ">f8", "<f4", "<f2", "<i8", "|u1", "|b1"])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_any_number(tmp_path, code, protocol):
    params = {name: (np.rint(value) % 7).astype(code) for name, value in old_params().items()}
    loaded = load(tmp_path, pickle.dumps(params, protocol))
    for name, value in params.items():
        assert loaded[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize("protocol", [2, 5])
def test_any_order_of_memory(tmp_path, protocol):
    value = np.arange(360.0).reshape(3, 4, 5, 6)
    arrays = {kind: in_memory(kind, value) for kind in MEMORY}
    arrays["axes in turns"] = value.transpose(2, 0, 3, 1).copy().transpose(1, 3, 0, 2)
    loaded = load(tmp_path, pickle.dumps(arrays, protocol))
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)


def test_one_array_under_two_names(tmp_path):
    array = np.arange(100.0)
    loaded = load(tmp_path, pickle.dumps({"W1": array, "W2": array}))
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(loaded[name], array)


def test_arrays_of_no_number_and_of_one(tmp_path):
    params = {"none": np.zeros((0, 3)), "one": np.array(2.5)}
    for protocol in (3, 4, 5):
        loaded = load(tmp_path, pickle.dumps(params, protocol))
        assert loaded["none"].shape == (0, 3)
        assert loaded["one"] == 2.5


@pytest.mark.parametrize("protocol", range(3))
def test_no_bytes_at_all_in_old_protocols(tmp_path, protocol):
    """There, no bytes are a call of bytes without arguments."""
    loaded = load(tmp_path, pickle.dumps({"none": np.zeros((0, 3), np.float32)}, protocol))
    assert loaded["none"].shape == (0, 3)
    assert loaded["none"].dtype == np.float32


@pytest.mark.parametrize("name", python2_pickles.PICKLES)
def test_pickles_of_python_2(tmp_path, name):
    """The unpickler of Python 3 is the independent reader; it has to be told the encoding."""
    data, params = python2_pickles.PICKLES[name], python2_pickles.params()
    reference = pickle.loads(data, encoding="latin1")
    loaded = load(tmp_path, data)
    assert list(loaded) == list(reference)
    assert set(loaded) == set(params)
    for key, value in params.items():
        assert loaded[key].dtype == reference[key].dtype.newbyteorder("=")
        assert loaded[key].shape == value.shape
        np.testing.assert_array_equal(loaded[key], reference[key])
        np.testing.assert_array_equal(loaded[key], value)


def test_the_texts_of_python_2_with_both_quotes(tmp_path):
    """Its repr takes double quotes where a text has single ones, and escapes where it has both."""
    for text in (b"'a'", b'"it\'s"', rb"'\\x41\x41\\'", rb"""'\'"\n\r\t'""", b"'caf\xe9'"):
        data = b"(dS" + text + b"\n" + ARRAY_OF_PROTOCOL_0 + b"s."
        assert list(load(tmp_path, data)) == list(pickle.loads(data, encoding="latin1"))


@given(arrays=any_arrays())
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_any_arrays_are_read_as_the_unpickler_does(tmp_path_factory, protocol, arrays):
    folder = tmp_path_factory.getbasetemp()
    data = pickle.dumps(arrays, protocol)
    for form in (data, pickletools.optimize(data)):
        expected, loaded = pickle.loads(form), load(folder, form)
        assert list(loaded) == list(expected)
        for name, value in expected.items():
            assert loaded[name].dtype == value.dtype.newbyteorder("=")
            assert loaded[name].shape == value.shape
            np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_many_small_arrays_are_within_the_budget(tmp_path, protocol):
    """Where names and types outweigh the numbers by far."""
    params = {f"{i}": np.array(i % 7, np.uint8) for i in range(5000)}
    loaded = load(tmp_path, pickle.dumps(params, protocol))
    assert [int(value) for value in loaded.values()] == [i % 7 for i in range(5000)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_array_may_have_a_few_names(tmp_path, protocol):
    array = np.random.default_rng(0).random(2000)
    loaded = load(tmp_path, pickle.dumps(dict.fromkeys("abcd", array), protocol))
    for name in "abcd":
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize(
    "data",
    [
        python2_pickles.PICKLES["pickle, protocol 0"],
        *(pickle.dumps(old_params(), p) for p in range(6)),
    ],
    ids=["Python 2", *map(str, range(6))],
)
def test_a_pickle_that_was_treated_as_text(tmp_path, data):
    """As by open(path, "w") on Windows, a transfer in text mode, or an editor."""
    assert b"\n" in data
    assert b"\r\n" not in data
    with pytest.raises(DataCorrupt, match=r"weights\.pkl: damaged: every line end is CRLF.*'wb'"):
        load(tmp_path, data.replace(b"\n", b"\r\n"))
    if data[0] == 0x80:
        saved = data.decode("utf-8", "replace").encode()
        with pytest.raises(DataCorrupt, match=r"weights\.pkl: damaged: what is no text was repl"):
            load(tmp_path, saved)


# ---- what is refused ------------------------------------------------------------------


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Instance:
    """Pickles to an instance, made without a call."""


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "elsewhere" if isinstance(value, np.ndarray) else None


def persistent(value) -> bytes:
    file = io.BytesIO()
    Persistent(file).dump(value)
    return file.getvalue()


def wrong_size(shape: tuple[int, ...], data: bytes = b"\0" * 32) -> bytes:
    """A dict of one float64 array that says it has this shape."""
    dtype = np.dtype("f8")
    reconstruct, arguments, _ = np.ones(4).__reduce__()
    state = (1, shape, dtype, False, data)

    class Liar:
        def __reduce__(self):
            return reconstruct, arguments, state

    # An ndarray's __setstate__ would object, so the state is given to a stand-in's pickle.
    return pickle.dumps({"W1": Liar()}, 2)


def tuples(depth: int, *, twice: bool) -> bytes:
    """``((...),)`` as a key; with `twice`, each is in the next one two times: 2**depth in all."""
    if twice:
        level = b"h\x00\x86q\x00"  # get 0, tuple of 2, put 0
        return b"\x80\x02})q\x00" + level.replace(b"h\x00", b"h\x00h\x00", 1) * depth + b"K\x01s."
    return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."


ONLY = "only NumPy arrays of numbers are admitted"


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would make the file `marker`, or reach for what could; and the refusals."""
    touch = f"touch {marker}"
    source = f"open({str(marker)!r}, 'w')"
    inside = np.array([Calls(os.system, touch)], dtype=object)
    good = {"W1": np.ones(2)}
    system = rf"asks for (posix|nt)\.system; {ONLY}"
    return {
        "os.system": (pickle.dumps(Calls(os.system, touch)), system),
        "eval": (pickle.dumps({"W1": Calls(eval, source)}), r"asks for builtins\.eval"),
        "exec, protocol 0": (
            pickle.dumps({"W1": Calls(exec, source)}, 0),
            r"asks for __builtin__\.exec",
        ),
        "as a key": (
            pickle.dumps({Calls(eval, source): np.ones(2)}),
            r"asks for builtins\.eval",
        ),
        "in an object array": (pickle.dumps({"W1": inside}), r"dtype 'O8'"),
        "in an object array, protocol 2": (pickle.dumps({"W1": inside}, 2), r"dtype 'O8'"),
        "after good weights": (pickle.dumps({**good, "b1": Calls(os.system, touch)}), system),
        "getattr": (
            pickle.dumps(Calls(getattr, "a string", "format")),
            r"asks for builtins\.getattr",
        ),
        "numpy.load": (pickle.dumps(Calls(np.load, str(marker))), r"asks for numpy\.load"),
        "numpy.save": (
            pickle.dumps(Calls(np.save, str(marker), np.ones(2))),
            r"asks for numpy\.save",
        ),
        "subprocess": (
            b"csubprocess\ncheck_output\n(S'" + touch.encode() + b"'\ntR.",
            r"asks for subprocess\.check_output",
        ),
        "a dotted name": (
            b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
            r"asks for numpy\.ndarray\.__init__",
        ),
        "a name that is no text": (b"\x80\x04K\x01K\x02\x93.", "asks for a name that is no text"),
        "ndarray called": (b"\x80\x02cnumpy\nndarray\nK\x05\x85R.", "calls ndarray with"),
        "dtype's attributes": (
            b"\x80\x02}(X\x01\x00\x00\x00acnumpy\ndtype\n}X\x01\x00\x00\x00bK\x01sbu.",
            "gives state to dtype, which has none",
        ),
        "an old-style instance": (b"(i" + b"os\nsystem\n.", "makes an instance of a class"),
        "an instance": (
            pickle.dumps({"W1": Instance()}),
            rf"asks for .*test_pickles\.Instance; {ONLY}",
        ),
        "os.system by opcodes": (
            b"cos\nsystem\n(S" + repr(touch).encode() + b"\ntR.",
            rf"asks for os\.system; {ONLY}",
        ),
        "an extension code": (b"\x80\x02\x82\x01.", "by an extension code"),
        "a persistent id": (b"Psomewhere\n.", "asks for an object kept elsewhere"),
        "a binary persistent id": (
            persistent({"W1": np.ones(2)}),
            "asks for an object kept elsewhere",
        ),
        "a buffer elsewhere": (
            pickle.dumps({"W1": np.ones(2)}, 5, buffer_callback=lambda _: None),
            "asks for a buffer kept elsewhere",
        ),
        "a class of its own": (
            pickle.dumps({"W1": np.ma.masked_array([1.0])}),
            r"asks for numpy\.ma\.core\._mareconstruct",
        ),
        "a scalar": (pickle.dumps({"W1": np.float64(1)}), r"asks for numpy\._core.*scalar"),
        "a structured dtype": (
            pickle.dumps({"W1": np.zeros(2, [("a", "f8")])}),
            "dtype 'V8': only arrays of plain numbers",
        ),
        "a dtype of objects": (pickle.dumps({"W1": np.dtype(object)}), "dtype 'O8'"),
        "a dtype that NumPy would parse": (
            b"\x80\x02cnumpy\ndtype\nX\x03\x00\x00\x00,08\x85R.",
            "dtype ',08'",
        ),
        "complex numbers": (pickle.dumps({"W1": np.ones(2, complex)}), "dtype 'c16'"),
    }


@pytest.mark.parametrize("name", hostile(Path("marker")))
def test_no_pickle_runs_code(tmp_path, name):
    marker = tmp_path / "marker"
    data, reason = hostile(marker)[name]
    with pytest.raises(UnsafePickle, match=rf"weights\.pkl: refused: .*{reason}"):
        load(tmp_path, data)
    assert not marker.exists()


def test_the_hostile_pickles_are_hostile(tmp_path):
    """Without the guard, one of them does what it is accused of."""
    pickle.loads(hostile(tmp_path / "marker")["eval"][0])["W1"].close()
    assert (tmp_path / "marker").exists()


ARRAY_OF_PROTOCOL_0 = pickle.dumps(np.ones(2), 0)[:-1]


GOOD = pickle.dumps({"W1": np.ones((3, 4))}, 4)
CYCLE = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01h\x00s."  # a dict that holds itself

BROKEN = {
    "empty": (b"", "ends in the middle"),
    "one byte": (GOOD[:1], "not enough data"),
    "cut in the data": (GOOD[:-40], r"but only \d+ remain"),
    "without its end": (GOOD[:-1], "ends in the middle"),
    "a picture": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a pickle of arrays"),
    "text": (b"these are my weights", "not a pickle of arrays"),
    "more numbers than bytes": (
        wrong_size((10**6, 10**6)),
        r"array of shape \(1000000, 1000000\) has 32 bytes, expected 8000000000000",
    ),
    "more bytes than numbers": (wrong_size((3,)), "has 32 bytes, expected 24"),
    "a negative length": (wrong_size((-4, -1)), r"shape is \(-4, -1\)"),
    "a length that is no number": (wrong_size(("4",)), r"shape is \('4'\)"),
    "sixty-five axes": (wrong_size((1,) * 63 + (2, 2)), r"shape is \(1, 1, "),
    "a type of no size": (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy\ndtype\nX\x02\x00\x00\x00f7\x85Rs.",
        "data type 'f7' not understood",
    ),
    "huge lengths": (wrong_size((2**64, 2**64)), r"shape is \(18446744073709551616, "),
    "a text of 2**62 bytes": (
        b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"W1.",
        "but only 3 remain",
    ),
    "bytes of 2**62 bytes": (
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"W1.",
        "but only 3 remain",
    ),
    "a memo of 2**32 places": (b"\x80\x02}r\xff\xff\xff\xff.", "holds an empty dict"),
    "an unknown memo": (b"\x80\x02h\x07.", "not a pickle of arrays"),
    "an empty stack": (b"\x80\x02\x86.", "not a pickle of arrays"),
    "a mark that is not there": (b"\x80\x02}u.", "not a pickle of arrays"),
    "tuples in tuples": (tuples(60, twice=True), "tuples in tuples in tuples"),
    "a million tuples": (tuples(10**6, twice=False), "tuples in tuples in tuples"),
    "a dict that holds itself": (CYCLE, "'a' is a dict, expected an array"),
    "an array without data": (
        b"\x80\x02}X\x01\x00\x00\x00acnumpy._core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85C\x01b\x87Rs.",
        "'a' is an array without data",
    ),
    "a list": (pickle.dumps([1, 2]), "instruction EMPTY_LIST, expected only a dict of arrays"),
    "a list of arrays": (pickle.dumps([np.ones(2)]), "instruction EMPTY_LIST"),
    "a set": (pickle.dumps({1, 2}), "instruction EMPTY_SET"),
    "an empty dict": (pickle.dumps({}), "holds an empty dict, expected a dict of arrays"),
    "a number": (pickle.dumps({"W1": 3.0}), "instruction BINFLOAT"),
    "a whole number": (pickle.dumps({"W1": 3}), "'W1' is 3, expected an array"),
    "a name that is a number": (pickle.dumps({3: np.ones(2)}), "string names, got the name 3"),
    "nothing": (pickle.dumps(None), "holds None, expected a dict of arrays"),
    "an array alone": (pickle.dumps(np.ones(2)), "holds an array, expected a dict of arrays"),
    "a dict in the dict": (
        pickle.dumps({"layers": {"W1": np.ones(2)}}),
        "'layers' is a dict, expected an array",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pickles_are_refused_in_no_time(tmp_path, name):
    data, reason = BROKEN[name]
    started = time.process_time()
    with pytest.raises(DataCorrupt, match=rf"(?s)weights\.pkl: .*{reason}"):
        load(tmp_path, data)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("position", range(0, len(GOOD), 7))
def test_a_changed_byte_gives_an_error_or_an_array(tmp_path, position):
    """Whatever is in the file, what comes out is a refusal of ours or arrays of numbers."""
    for value in (0, 0x28, 0x52, 0x62, 0x86, 0x93, 0xFF):
        data = bytearray(GOOD)
        data[position] = value
        try:
            loaded = load(tmp_path, bytes(data))
        except (DataCorrupt, UnsafePickle):
            continue
        assert all(array.dtype.kind in "fiub" for array in loaded.values())
