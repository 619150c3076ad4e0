"""Files of weights: every format round-trips, and foreign or broken files are refused.

What pickles may hold is in test_pickles.py.
"""

from __future__ import annotations

import gc
import io
import json
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as extra

from fastconv import DeepConvNet
from fastconv.cli import main as cli
from fastconv.errors import (
    ArgumentError,
    DataCorrupt,
    DataNotFound,
    DTypeError,
    MissingDependency,
    UnsafePickle,
    WeightsError,
)
from fastconv.io import load_params, save_params
from fastconv.io.arrays import save_arrays
from fastconv.io.safetensors_file import load_safetensors
from fastconv.layers import Affine
from fastconv.network import Network

from .any_arrays import any_arrays
from .awkward import MEMORY, in_memory
from .mutations import COUNT, expect_harmless, mutated


def network(dtype="float64", features=3, seed=0) -> Network:
    """Two small affine layers."""
    rng = np.random.default_rng(seed)
    layers = [
        Affine(rng.standard_normal((features, 4)).astype(dtype), np.zeros(4, dtype)),
        Affine(rng.standard_normal((4, 2)).astype(dtype), np.zeros(2, dtype)),
    ]
    return Network(layers, dtype)


ENDINGS = (".npz", ".safetensors", ".pkl")


@pytest.fixture(params=ENDINGS)
def ending(request) -> str:
    """A format that can be read and written here."""
    if request.param == ".safetensors":
        pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    return request.param


def test_what_is_saved_is_loaded(tmp_path, dtype, ending):
    saved, loaded = network(dtype, seed=1), network(dtype, seed=2)
    saved.save_params(tmp_path / f"weights{ending}", allow_pickle=True)
    loaded.load_params(str(tmp_path / f"weights{ending}"))
    for key, value in saved.params.items():
        assert loaded.params[key].dtype == dtype
        np.testing.assert_array_equal(loaded.params[key], value)
    x = np.ones((1, 3))
    np.testing.assert_array_equal(loaded.predict(x), saved.predict(x))
    assert [path.name for path in tmp_path.iterdir()] == [f"weights{ending}"]  # nothing beside


def test_loading_makes_one_set_of_weights(tmp_path):
    """The arrays that are read become the network's."""
    net = Network([Affine(np.zeros((1000, 2000)), np.zeros(2000))], "float64")
    net.save_params(tmp_path / "weights.npz")
    gc.collect()
    tracemalloc.start()
    net.load_params(tmp_path / "weights.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * net.params["W1"].nbytes


def test_arrays_that_a_network_cannot_have_for_itself_are_copied(tmp_path, rng):
    square = rng.standard_normal((4, 4))
    one = {"W1": square, "b1": np.zeros(4), "W2": square, "b2": np.zeros(4)}
    (tmp_path / "one.pkl").write_bytes(pickle.dumps(one))  # has the array once
    net = Network([Affine(np.zeros((4, 4)), np.zeros(4)) for _ in range(2)], "float64")
    net.load_params(tmp_path / "one.pkl")
    for odd in (square, np.asfortranarray(square), square[:, ::-1], square.astype(">f8")):
        net.set_state(one | {"W2": odd}, copy=False)
        W1, W2 = net.params["W1"], net.params["W2"]
        np.testing.assert_array_equal(W2, odd)
        assert W2.flags.c_contiguous and W2.flags.writeable and W2.dtype == np.dtype("f8")
        assert not np.shares_memory(W1, W2)
    net.set_state(one)
    assert not any(np.shares_memory(value, square) for value in net.params.values())


def test_layers_and_params_still_share_their_arrays_after_loading(tmp_path):
    net = network()
    net.save_params(tmp_path / "weights.npz")
    net.load_params(tmp_path / "weights.npz")
    for layer, number in zip(net.layers, (1, 2), strict=True):
        assert layer.W is net.params[f"W{number}"]
        assert layer.b is net.params[f"b{number}"]


def test_a_saved_pickle_is_the_books(tmp_path):
    """A plain dict of arrays, which the original's own load_params can read."""
    net = network()
    net.save_params(tmp_path / "weights.pkl", allow_pickle=True)
    params = pickle.loads((tmp_path / "weights.pkl").read_bytes())
    assert type(params) is dict
    for key, value in net.params.items():
        np.testing.assert_array_equal(params[key], value)


# ---- files that are not the right ones ------------------------------------------------


def npz(**arrays) -> dict[str, np.ndarray]:
    return {key: np.ones(shape) for key, shape in arrays.items()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (npz(W1=(3, 4), b1=(4,), W2=(4, 2)), "missing b2; unknown none"),
        (npz(W1=(3, 4), b1=(4,), W2=(4, 2), b2=(2,), W3=(1,)), "missing none; unknown W3"),
        (npz(W1=(3, 4), b1=(4,), W2=(4, 3), b2=(2,)), r"W2 has shape \(4, 3\), expected \(4, 2\)"),
    ],
)
def test_weights_of_another_architecture_leave_the_network_as_it_was(
    tmp_path, arrays, message, ending
):
    path = tmp_path / f"other{ending}"
    save_params(path, arrays, allow_pickle=True)
    net = network()
    before = {key: value.copy() for key, value in net.params.items()}
    with pytest.raises(WeightsError, match=rf"other\{ending}: .*{message}"):
        net.load_params(path)
    for key, value in before.items():
        np.testing.assert_array_equal(net.params[key], value)


def test_a_file_that_is_not_there(tmp_path, ending):
    with pytest.raises(DataNotFound, match=r"absent\.\w+: no such file"):
        network().load_params(tmp_path / f"absent{ending}")


def test_a_folder_that_is_not_there(tmp_path, ending):
    with pytest.raises(DataNotFound, match=r"w\.\w+: no folder .*absent to write it to"):
        network().save_params(tmp_path / "absent" / f"w{ending}", allow_pickle=True)


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_file_that_is_cut_short(tmp_path, ending, kept):
    path = tmp_path / f"weights{ending}"
    network().save_params(path, allow_pickle=True)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataCorrupt, match="weights"):
        network().load_params(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n and so on", b"weights", b"\0" * 1000])
def test_a_foreign_file(tmp_path, ending, content):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    # By chance, a picture begins as a pickle could that asks for an object kept elsewhere.
    with pytest.raises((DataCorrupt, UnsafePickle), match="weights"):
        network().load_params(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "Git LFS"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "a web page"),
        (b"\r\n<html lang='en'>", "a web page"),
    ],
)
def test_a_file_that_stands_for_another(tmp_path, ending, content, what):
    """What a clone without Git LFS has, and what a failed download leaves."""
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=rf"weights\{ending}: .*{what}"):
        load_params(path)


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_an_npz_of_objects_is_not_unpickled(tmp_path):
    marker = tmp_path / "marker"
    payload = np.array([Calls(os.system, f"touch {marker}")], dtype=object)
    np.savez(tmp_path / "weights.npz", W1=payload)
    with pytest.raises(DataCorrupt, match=r"weights\.npz"):
        network().load_params(tmp_path / "weights.npz")
    assert not marker.exists()


def test_an_npz_whose_header_lies(tmp_path):
    """A few bytes that say they are 8 exabytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**9)}
    )
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("W1.npy", header.getvalue() + b"\0" * 80)
    with pytest.raises(DataCorrupt, match=r"weights\.npz: not an \.npz"):
        load_params(tmp_path / "weights.npz")


def test_a_packed_npz_that_is_damaged(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, W1=np.random.default_rng(0).standard_normal(1000))
    data = bytearray(path.read_bytes())
    data[200:300] = b"\xff" * 100
    path.write_bytes(data)
    with pytest.raises(DataCorrupt, match=r"weights\.npz: not an \.npz"):
        load_params(path)


def test_a_checkpoint_is_not_weights(tmp_path):
    save_arrays(tmp_path / "checkpoint.npz", network().params, {"progress": {}})
    with pytest.raises(WeightsError, match=r"checkpoint of a Trainer, .* its weights\.npz"):
        load_params(tmp_path / "checkpoint.npz")


@pytest.mark.parametrize("values", [["text"], [None], [1j], [np.datetime64("2016-09-24")]])
def test_only_numbers_are_written(tmp_path, ending, values):
    with pytest.raises(DTypeError, match=r"'W1' holds .* values, expected arrays of numbers"):
        save_params(tmp_path / f"w{ending}", {"W1": np.array(values)}, allow_pickle=True)
    assert not list(tmp_path.iterdir())


def test_masked_values_are_not_written(tmp_path, ending):
    """A file has no masks: what lies under them would be weights when it is read."""
    masked = np.ma.array(np.ones(3), mask=[False, True, False])
    with pytest.raises(ArgumentError, match="with 1 values masked; fill it first"):
        save_params(tmp_path / f"w{ending}", {"W1": masked}, allow_pickle=True)
    assert not list(tmp_path.iterdir())


def test_only_numbers_are_read(tmp_path):
    np.savez(tmp_path / "w.npz", W1=np.array(["text"]))
    with pytest.raises(DTypeError, match=r"w\.npz: 'W1' holds <U4 values"):
        load_params(tmp_path / "w.npz")


def test_what_an_ending_may_be_is_told(tmp_path):
    """PyTorch's files can be read; writing them is not offered."""
    endings = "must end in .npz, .safetensors or .pkl"
    for name in ("w.txt", "w.pt", "w.PKL", "w"):
        with pytest.raises(ArgumentError) as caught:
            save_params(tmp_path / name, {"W1": np.ones(2)}, allow_pickle=True)
        assert str(caught.value) == f"save_params: {name} {endings}"
    with pytest.raises(ArgumentError) as caught:
        load_params(tmp_path / "w.txt")
    assert str(caught.value) == f"load_params: w.txt {endings}"
    for name in ("w.pt", "w.pth"):
        with pytest.raises(ArgumentError) as caught:
            load_params(tmp_path / name)
        assert str(caught.value).startswith(f"load_params: {name} {endings}; PyTorch's own files")
        assert "safetensors.torch.save_file(" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_that_nobody_asked_for(tmp_path):
    with pytest.raises(ArgumentError, match=r"^save_params: w\.pkl: .*allow_pickle=True"):
        save_params(tmp_path / "w.pkl", {"W1": np.ones(2)})
    assert list(tmp_path.iterdir()) == []
    save_params(tmp_path / "w.pkl", {"W1": np.ones(2)}, allow_pickle=True)
    # Protocol 4 is the newest that the Python 3.4 of the book's time reads.
    assert (tmp_path / "w.pkl").read_bytes()[:2] == b"\x80\x04"


@pytest.mark.parametrize("name", ["weights", "weights.h5", "weights.PKL2", "weights.pt"])
def test_other_endings_are_refused(tmp_path, name):
    for call in (network().save_params, network().load_params):
        with pytest.raises(ArgumentError, match=r"must end in \.npz, \.safetensors or \.pkl"):
            call(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_of_pytorchs_gets_the_remedy():
    with pytest.raises(ArgumentError, match=r"safetensors\.torch\.save_file"):
        load_params("model.pth")


def test_a_pickle_is_written_only_on_request(tmp_path):
    with pytest.raises(ArgumentError, match=r"allow_pickle=True, or name the file \.npz"):
        network().save_params(tmp_path / "weights.pkl")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, ending):
    path = tmp_path / f"weights{ending}"
    network(seed=1).save_params(path, allow_pickle=True)
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        network(seed=2).save_params(path, allow_pickle=True)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


# ---- every kind of number and memory --------------------------------------------------


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i8", "i1", "?"])
def test_any_memory_and_number_comes_back(tmp_path, ending, kind, code):
    values = (np.arange(24).reshape(2, 3, 2, 2) % 5).astype(code)
    array = in_memory(kind, values)
    save_params(tmp_path / f"w{ending}", {"W1": array}, allow_pickle=True)
    loaded = load_params(tmp_path / f"w{ending}")["W1"]
    assert loaded.dtype == np.dtype(code)
    np.testing.assert_array_equal(loaded, array)
    assert loaded.flags.writeable


def test_numbers_that_are_none_and_arrays_without_axes(tmp_path, ending):
    params = {"W1": np.array([np.nan, np.inf, -0.0]), "b1": np.array(2.5), "c": np.zeros((0, 3))}
    save_params(tmp_path / f"w{ending}", params, allow_pickle=True)
    loaded = load_params(tmp_path / f"w{ending}")
    for name, value in params.items():
        assert loaded[name].shape == value.shape
        np.testing.assert_array_equal(loaded[name], value)
    assert np.signbit(loaded["W1"][2])


# ---- safetensors ----------------------------------------------------------------------


@pytest.fixture
def safetensors_numpy():
    return pytest.importorskip(
        "safetensors.numpy", reason="the package safetensors is not installed"
    )


def test_others_read_what_we_write(tmp_path, safetensors_numpy):
    net = network()
    net.params["W1"] = np.asfortranarray(net.params["W1"])
    net.save_params(tmp_path / "w.safetensors")
    read = safetensors_numpy.load_file(tmp_path / "w.safetensors")
    assert sorted(read) == sorted(net.params)
    for name, value in net.params.items():
        np.testing.assert_array_equal(read[name], value)


def test_we_read_what_others_write(tmp_path, safetensors_numpy):
    params = network(seed=3).params
    safetensors_numpy.save_file(params, tmp_path / "w.safetensors")
    loaded = load_params(tmp_path / "w.safetensors")
    assert list(loaded) == sorted(params)  # the format keeps no order, so ours is a fixed one
    for name, value in params.items():
        np.testing.assert_array_equal(loaded[name], value)


def test_the_library_still_ignores_strides(safetensors_numpy):
    """Why we copy: once this fails, the copy may go."""
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    read = safetensors_numpy.load(safetensors_numpy.save({"W1": array}))["W1"]
    assert not np.array_equal(read, array)


def test_what_does_not_read_back_replaces_nothing(tmp_path, monkeypatch, safetensors_numpy):
    path = tmp_path / "w.safetensors"
    network(seed=1).save_params(path)
    before = path.read_bytes()
    whole = safetensors_numpy.load
    monkeypatch.setattr(
        safetensors_numpy, "load", lambda data: {k: v + 1 for k, v in whole(data).items()}
    )
    with pytest.raises(OSError, match="does not read back as it was written"):
        network(seed=2).save_params(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]


def a_safetensors(path, dtype: str, data: bytes) -> None:
    header = b'{"W1":{"dtype":"%s","shape":[2,1],"data_offsets":[0,%d]}}' % (
        dtype.encode(),
        len(data),
    )
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_bfloat16_becomes_float32_with_the_same_values(tmp_path):
    """The bits of -2.5 are 1 10000000 0100000; those of the largest 0 11111110 1111111."""
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    a_safetensors(tmp_path / "w.safetensors", "BF16", struct.pack("<HH", 0xC020, 0x7F7F))
    (weights,) = load_params(tmp_path / "w.safetensors").values()
    assert weights.dtype == np.float32 and weights.shape == (2, 1)
    assert weights.ravel().tolist() == [-2.5, 255 * 2.0**120]
    weights[0] = 1  # it is the caller's


def test_bfloat16_needs_room_for_float32(tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    path = tmp_path / "w.safetensors"
    a_safetensors(path, "BF16", struct.pack("<HH", 0, 0))
    monkeypatch.setattr("fastconv.io.safetensors_file.read_whole", Path.read_bytes)
    monkeypatch.setattr("fastconv.memory.available_memory", lambda: 10)
    with pytest.raises(ArgumentError, match="bfloat16 numbers as float32 take"):
        load_params(path)


def test_numbers_that_numpy_lacks_are_refused_with_the_remedy(tmp_path):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    a_safetensors(tmp_path / "w.safetensors", "F8_E4M3", b"\0\0")
    with pytest.raises(DTypeError, match=r"holds F8_E4M3 numbers.*write them as F32 first"):
        load_params(tmp_path / "w.safetensors")


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u1", "?"])
def test_every_type_that_others_write_is_read(tmp_path, safetensors_numpy, dtype):
    values = {"W1": np.arange(6).reshape(2, 3).astype(dtype)}
    safetensors_numpy.save_file(values, tmp_path / "w.safetensors")
    read = load_safetensors(tmp_path / "w.safetensors")["W1"]
    assert read.dtype == values["W1"].dtype
    np.testing.assert_array_equal(read, values["W1"])


def test_a_safetensors_header_that_lies(tmp_path):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    header = b'{"W1":{"dtype":"F64","shape":[1000000,1000000],"data_offsets":[0,16]}}'
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 16)
    with pytest.raises(DataCorrupt, match=r"w\.safetensors: not a safetensors file"):
        load_params(tmp_path / "w.safetensors")


@given(arrays=any_arrays(extra.floating_dtypes(endianness="<") | extra.integer_dtypes()))
def test_any_arrays_are_read_as_the_library_does(tmp_path_factory, arrays):
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save_params(path, arrays)
    loaded, expected = load_params(path), library.load_file(path)
    assert list(loaded) == sorted(expected)
    for name, value in arrays.items():
        assert loaded[name].dtype == value.dtype.newbyteorder("=")
        assert loaded[name].shape == value.shape
        np.testing.assert_array_equal(loaded[name], value)
        np.testing.assert_array_equal(loaded[name], expected[name])


def with_header(text: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "shape",
    [
        [1] * 69 + [2],  # NumPy has no array of as many axes
        [0, 2**62, 4],  # nor one of these lengths, of no numbers though it is
    ],
)
def test_shapes_that_no_array_has(tmp_path, shape):
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    size = 0 if 0 in shape else 8
    facts = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    data = with_header(json.dumps({"a": facts}).encode(), bytes(size))
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(DataCorrupt, match=r"w\.safetensors: not a safetensors file \("):
        load_params(tmp_path / "w.safetensors")


SAFETENSORS_WORDS = [
    *(b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b'"F32"', b'"F64"', b'"BF16"'),
    *(b'"F8_E4M3"', b'"BOOL"', b'"U8"', b"[0,0]", b"[0,8]", b"[2,3]", b"[0]"),
]


@pytest.mark.parametrize("part", ["file", "header"])
def test_mutated_safetensors_do_no_harm(tmp_path, safetensors_numpy, part):
    path = tmp_path / "w.safetensors"
    arrays = {"W1": np.arange(6.0).reshape(2, 3), "b1": np.ones(2, "f4"), "e": np.zeros((0, 2))}
    whole = safetensors_numpy.save(arrays, metadata={"about": "a test"})
    end = 8 + int.from_bytes(whole[:8], "little")
    files = mutated([whole if part == "file" else whole[8:end]], seed=7, words=SAFETENSORS_WORDS)
    if part == "header":  # its length is right, so that all of it is looked at
        files = (with_header(text, whole[end:]) for text in files)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_params(path)

    assert 0 < expect_harmless(read, files) < COUNT


def test_without_the_package_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    for call in (network().save_params, network().load_params):
        with pytest.raises(MissingDependency, match=r"pip install safetensors"):
            call(tmp_path / "w.safetensors")


# ---- the command ----------------------------------------------------------------------


def command(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("source", ENDINGS)
@pytest.mark.parametrize("target", ENDINGS)
def test_convert(tmp_path, capsys, source, target):
    if ".safetensors" in (source, target):
        pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    params = network(seed=7).params
    save_params(tmp_path / f"in{source}", params, allow_pickle=True)
    done = command(
        "convert", tmp_path / f"in{source}", tmp_path / f"out{target}", "--allow-pickle", "--json"
    )
    assert done == 0
    assert json.loads(capsys.readouterr().out) == {
        "output": str(tmp_path / f"out{target}"),
        "arrays": 4,
        "numbers": 26,
        "dtypes": ["float64"],
    }
    loaded = load_params(tmp_path / f"out{target}")
    for name, value in params.items():
        np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            "convert w.npz w.pkl",
            2,
            "w.pkl: a pickle is written only on request: add --allow-pickle",
        ),
        ("convert w.npz w.txt", 2, "w.txt must end in .npz, .safetensors or .pkl"),
        ("convert w.txt w.npz", 2, "w.txt must end in .npz, .safetensors or .pkl"),
        ("convert absent.npz w.npz", 1, "absent.npz: no such file"),
        ("convert w.npz absent/w.npz", 1, "w.npz: no folder absent to write it to"),
        ("convert hostile.pkl w.npz", 1, "refused: asks for builtins.print"),
    ],
)
def test_convert_refuses(tmp_path, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(tmp_path)
    network().save_params("w.npz")
    before = Path("w.npz").read_bytes()
    Path("hostile.pkl").write_bytes(pickle.dumps(Calls(print, "run")))
    assert command(*arguments.split()) == status
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert Path("w.npz").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.pkl", "w.npz"]


def test_the_whole_network_through_a_file(tmp_path):
    first, second = DeepConvNet(seed=1), DeepConvNet(seed=2)
    first.save_params(tmp_path / "w.npz")
    second.load_params(tmp_path / "w.npz")
    x = np.random.default_rng(0).random((2, 1, 28, 28))
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
