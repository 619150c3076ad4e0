"""NumPy's files: what NumPy reads is read alike; damaged and greedy ones are refused in front."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as extra

from fastconv import Trainer
from fastconv import memory as room
from fastconv.datasets import load_images
from fastconv.errors import ArgumentError, DataCorrupt, DataNotFound
from fastconv.io import load_params
from fastconv.io.arrays import load_arrays, load_metadata, save_arrays
from fastconv.io.npy import open_npy
from fastconv.models import make_model
from fastconv.models.ensemble import Ensemble, is_ensemble_file
from fastconv.network.views import View

from .any_arrays import NUMBERS, any_arrays
from .mutations import COUNT, expect_harmless, mutated
from .test_network import tiny


def same(array: np.ndarray, expected: np.ndarray) -> None:
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


# ---- what is read ---------------------------------------------------------------------

TEXT = extra.unicode_string_dtypes(max_len=5) | extra.byte_string_dtypes(max_len=5)
COMPLEX = extra.complex_number_dtypes()


@given(arrays=any_arrays(NUMBERS | TEXT | COMPLEX), packed=st.booleans())
def test_an_archive_is_read_as_numpy_does(tmp_path_factory, arrays, packed):
    path = tmp_path_factory.getbasetemp() / "any.npz"
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    loaded, metadata = load_arrays(path)
    assert metadata == {}
    with np.load(path) as archive:
        assert list(loaded) == archive.files
        for name in archive.files:
            same(loaded[name], archive[name])
            assert loaded[name].flags.writeable
            assert loaded[name].flags.f_contiguous == archive[name].flags.f_contiguous


@given(arrays=any_arrays(NUMBERS | TEXT), version=st.sampled_from([None, (1, 0), (2, 0), (3, 0)]))
def test_a_single_array_is_read_as_numpy_does(tmp_path_factory, arrays, version):
    path = tmp_path_factory.getbasetemp() / "any.npy"
    for array in arrays.values():
        with path.open("wb") as file:
            np.lib.format.write_array(file, array, version, allow_pickle=False)
        same(open_npy(path), np.load(path))


NUMBERS_6 = np.arange(6.0).reshape(2, 3)


def npy(header: str | bytes, data: bytes = NUMBERS_6.tobytes(), version: int = 1) -> bytes:
    text = header if isinstance(header, bytes) else header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return file.getvalue()


def load(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    (folder / "w.npz").write_bytes(data)
    return load_params(folder / "w.npz")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }          \n",
        "{'descr':'<f8','fortran_order':False,'shape':(2,3)}",
        '{"shape": (2, 3), "fortran_order": False, "descr": "<f8"}\n',
        "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 3L,), }\n",
        "{'descr': 'f8', 'fortran_order': False, 'shape': ( 2 , 3 ) , }\n",
        "{'descr': '=f8', 'fortran_order': False, 'shape': (2, 3)} \n",
    ],
)
def test_headers_that_others_write(tmp_path, header):
    """C++, MATLAB, Julia and Rust have writers of their own; Python 2 wrote lengths with an L."""
    for version in (1, 2, 3):
        content = npy(header, version=version)
        same(load(tmp_path, archive({"W1.npy": content}))["W1"], NUMBERS_6)
        (tmp_path / "x.npy").write_bytes(content)
        same(open_npy(tmp_path / "x.npy"), NUMBERS_6)


# ---- what is refused ------------------------------------------------------------------


def head(shape: str = "(2, 3)", descr: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n"


NOT_AN_ARRAY = {
    "no array": (b"weights", "does not begin like an array"),
    "nothing": (b"", "does not begin like an array"),
    "another version": (npy(head(), version=4), r"version \(4, 0\)"),
    "a header that breaks off": (npy(head())[:30], "ends inside its header"),
    "a header of 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "a header of 4294967295 bytes"),
    "no dict": (npy("[1, 2]"), "its header is"),
    "code": (npy("__import__('os').system('true')"), "its header is"),
    "a dict with code": (npy(head("(2, 1+2)")), "its header is"),
    "no shape": (npy("{'descr': '<f8', 'fortran_order': False}"), "its header is"),
    "an entry twice": (npy(head()[:-2] + ", 'shape': (2, 3)}"), "its header is"),
    "another entry": (npy(head()[:-2] + ", 'more': (2, 3)}"), "its header is"),
    "what cannot be a key": (npy("{[]: 1}"), "its header is"),
    "a block": (npy("if 1:\n    x\n  y"), "its header is"),
    "nested deep": (npy(head("(" * 5000)), "its header is"),
    "spaces without end": (npy("{'shape': (1" + " " * 9900), "its header is"),
    "a null byte": (npy(head().replace("descr", "de\0cr")), "its header is"),
    "huge length": (npy(head(f"({10**30},)")), "its shape is"),
    "digits without number": (npy(head("(L,)")), "its shape is"),
    "digits without end": (npy(head(f"({'9' * 9000},)")), "its shape is"),
    "a length that is a truth": (npy(head("(True, 6)")), "its header is"),
    "a negative length": (npy(head("(-2, -3)")), "its header is"),
    "a fraction": (npy(head("(2.0, 3)")), "its header is"),
    "a number for a tuple": (npy(head("(6)")), "its shape is"),
    "an empty length": (npy(head("(2,,3)")), "its shape is"),
    "a list for a tuple": (npy(head("[2, 3]")), "its header is"),
    "an order that is a number": (npy(head(order="1")), "its header is"),
    "an order that is a text": (npy(head(order="'True'")), "fortran_order is"),
    "objects": (npy(head(descr="'|O'")), "objects, which would have to be unpickled"),
    "fields": (npy(head(descr="[('a', '<f8')]")), "its header is"),
    "a sub-array": (npy(head(descr="'3f8'")), "values of type '3f8'"),
    "a type that is none": (npy(head(descr="'<f7'")), "values of type '<f7'"),
    "text of no length": (npy(head(f"({2**62},)", "'<U0'"), b""), "values of type '<U0'"),
    "text of a giant": (npy(head("(0,)", "'<U999999999'"), b""), "values of type"),
    "raw memory": (npy(head(descr="'|V8'")), "values of type '|V8'".replace("|", r"\|")),
    "dates": (npy(head(descr="'<M8[us]'")), "values of type"),
    "a type that is a flag": (npy(head(descr="True")), "values of type"),
    "text beyond Unicode": (
        npy(head("(1,)", "'<U1'"), b"\0\0\x11\0"),
        "text with the code point 1114112",
    ),
    "text beyond Unicode, big-endian": (
        npy(head("(1, 2)", "'>U1'"), b"\0\0\0a\x7f\0\0\0"),
        "text with the code point 2130706432",
    ),
    "too few numbers": (npy(head(), bytes(47)), "has 47 bytes of numbers, expected 48"),
    "too many numbers": (npy(head(), bytes(49)), "has 49 bytes of numbers, expected 48"),
    "exabytes": (npy(head("(1000000000, 1000000000)")), "expected 8000000000000000000"),
    "axes without end": (npy(head("(" + "1, " * 99 + ")"), bytes(8)), "an array of shape"),
    "empty, but too large": (npy(head(f"(0, {2**62}, 4)"), b""), "an array of shape"),
}


@pytest.mark.parametrize("case", NOT_AN_ARRAY)
def test_what_is_no_array_is_refused(tmp_path, case):
    content, reason = NOT_AN_ARRAY[case]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with pytest.raises(DataCorrupt, match=rf"w\.npz: not an \.npz.*'W1': .*{reason}"):
            load(tmp_path, archive({"W1.npy": content}, method))
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataCorrupt, match=rf"x\.npy: not a plain array \(.*{reason}"):
        open_npy(tmp_path / "x.npy")


def patched(data: bytes, signature: bytes, offset: int, field: bytes) -> bytes:
    """Other bytes at a place of every header of this kind."""
    changed = bytearray(data)
    place = changed.find(signature)
    while place >= 0:
        changed[place + offset : place + offset + len(field)] = field
        place = changed.find(signature, place + 4)
    return bytes(changed)


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
GOOD = npy(head())
WHOLE = archive({"W1.npy": GOOD})
PACKED = archive({"W1.npy": GOOD}, zipfile.ZIP_DEFLATED)


def with_flag(data: bytes, flag: int) -> bytes:
    data = patched(data, LOCAL, 6, struct.pack("<H", flag))
    return patched(data, CENTRAL, 8, struct.pack("<H", flag))


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target, pytest.warns(UserWarning, match="Duplicate name"):
        target.writestr("W1.npy", GOOD)
        target.writestr("W1.npy", GOOD)
    return file.getvalue()


def overlapping(count: int) -> bytes:
    """Many entries of the directory for the same bytes."""
    whole = archive({"W1.npy": GOOD + bytes(3000)})
    start, end = whole.index(CENTRAL), whole.index(END)
    entry = whole[start:end]
    entries = b"".join(entry.replace(b"W1.npy", b"%02d.npy" % i) for i in range(count))
    tail = struct.pack("<HHII", count, count, len(entries), start)
    return whole[:start] + entries + whole[end : end + 8] + tail + whole[end + 20 :]


def method(number: int) -> bytes:
    data = patched(WHOLE, LOCAL, 8, struct.pack("<H", number))
    return patched(data, CENTRAL, 10, struct.pack("<H", number))


NOT_AN_ARCHIVE = {
    "no archive": (b"PK weights", "not a zip file"),
    "a single array": (GOOD, "a single array, expected named ones"),
    "another file": (archive({"W1.txt": b"1"}), "it holds 'W1.txt', expected .npy files alone"),
    "metadata that is no array": (
        archive({"metadata.json": b'{"a": 1}'}),
        "it holds 'metadata.json', expected .npy",
    ),
    "a folder": (archive({"a/": b"", "a/W1.npy": GOOD}), "it holds 'a/'"),
    "a name twice": (twice(), "it holds 'W1' twice"),
    "encrypted": (with_flag(WHOLE, 1), "'W1' is encrypted"),
    "patched data": (with_flag(WHOLE, 0x20), "patched data"),
    "a name that is no UTF-8": (
        with_flag(WHOLE, 0x800).replace(b"W1.npy", b"\xff\xfe.npy"),
        "codec",
    ),
    "bzip2": (archive({"W1.npy": GOOD}, zipfile.ZIP_BZIP2), "'W1' is packed by method 12"),
    "lzma": (archive({"W1.npy": GOOD}, zipfile.ZIP_LZMA), "'W1' is packed by method 14"),
    "an unknown method": (method(99), "'W1' is packed by method 99"),
    "a size of 4 GiB": (
        patched(WHOLE, CENTRAL, 24, b"\xfe\xff\xff\xff"),
        "cannot be unpacked to 4294967294",
    ),
    "packed, a size of 4 GiB": (
        patched(PACKED, CENTRAL, 24, b"\xfe\xff\xff\xff"),
        "cannot be unpacked to 4294967294",
    ),
    "a size one too large": (
        patched(PACKED, CENTRAL, 24, struct.pack("<I", len(GOOD) + 1)),
        "has 49 bytes of numbers, expected 48",
    ),
    "a size one too small": (
        patched(PACKED, CENTRAL, 24, struct.pack("<I", len(GOOD) - 1)),
        "Bad CRC-32|has 47 bytes of numbers",
    ),
    "another checksum": (patched(WHOLE, CENTRAL, 16, b"\0\0\0\0"), "Bad CRC-32"),
    "entries for the same bytes": (overlapping(40), "[Oo]verlap|File name in directory"),
    "a header elsewhere": (patched(WHOLE, CENTRAL, 42, b"\x05\0\0\0"), "Bad magic number"),
    "a header beyond the end": (patched(WHOLE, CENTRAL, 42, b"\xff\xff\xff\x7f"), "."),
    "a directory elsewhere": (patched(WHOLE, END, 16, b"\xff\xff\xff\x7f"), "."),
    "many entries that are not there": (patched(WHOLE, END, 12, b"\xff\xff\xff\x7f"), "."),
    "sizes of zip64 without them": (patched(WHOLE, CENTRAL, 24, b"\xff\xff\xff\xff"), "."),
}


@pytest.mark.parametrize("case", NOT_AN_ARCHIVE)
def test_what_is_no_such_archive_is_refused(tmp_path, case):
    data, reason = NOT_AN_ARCHIVE[case]
    with pytest.raises(DataCorrupt, match=rf"w\.npz: not an \.npz file of plain arr.*{reason}"):
        load(tmp_path, data)
    assert not is_ensemble_file(tmp_path / "w.npz")


def test_names_lead_nowhere(tmp_path):
    """They are keys of a dict, and no paths."""
    loaded = load(tmp_path, archive({"../../x.npy": GOOD, "C:\\x.npy": GOOD, "/etc/x.npy": GOOD}))
    assert list(loaded) == ["../../x", "C:\\x", "/etc/x"]
    assert [path.name for path in tmp_path.iterdir()] == ["w.npz"]


def test_files_that_are_not_there(tmp_path):
    for read in (load_arrays, load_metadata, open_npy):
        with pytest.raises(DataNotFound, match="absent: no such file"):
            read(tmp_path / "absent")


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b"null", b"{", b"[" * 100_000, b"\xff", b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_metadata_that_are_none(tmp_path, text):
    np.savez(tmp_path / "w.npz", **{"metadata.json": np.frombuffer(text, np.uint8)})
    for read in (load_arrays, load_metadata, load_params, Ensemble.load):
        with pytest.raises(DataCorrupt, match=r"w\.npz: metadata\.json: "):
            read(tmp_path / "w.npz")
    assert not is_ensemble_file(tmp_path / "w.npz")


@pytest.mark.parametrize("array", [np.ones(3), np.zeros((2, 2), np.uint8), np.array("{}")])
def test_metadata_that_are_no_bytes(tmp_path, array):
    np.savez(tmp_path / "w.npz", **{"metadata.json": array})
    with pytest.raises(DataCorrupt, match=r"'metadata\.json': .* expected bytes"):
        load_metadata(tmp_path / "w.npz")


# ---- what would take more than its size -----------------------------------------------

MANY = 80 << 20


def bomb(path: Path, name: str, method: int, said: int = MANY) -> None:
    """A member that unpacks to 80 MiB of zeros, and says that it has `said` bytes of numbers."""
    content = npy(head(f"({said},)", "'|u1'"), b"")
    with (
        zipfile.ZipFile(path, "w", method, compresslevel=9) as target,
        target.open(name, "w") as member,
    ):
        member.write(content)
        for _ in range(MANY >> 20):
            member.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        ("W1.npy", zipfile.ZIP_DEFLATED, MANY),
        ("W1.npy", zipfile.ZIP_DEFLATED, 1000),
        ("W1.npy", zipfile.ZIP_BZIP2, MANY),
        ("W1.npy", zipfile.ZIP_LZMA, MANY),
        ("metadata.json.npy", zipfile.ZIP_DEFLATED, MANY),
        ("x.npy", zipfile.ZIP_DEFLATED, MANY),
    ],
)
def test_small_files_that_unpack_to_much_take_no_memory(tmp_path, name, method, said):
    path = tmp_path / "w.npz"
    bomb(path, name, method, said)
    assert path.stat().st_size < MANY >> 9
    tracemalloc.start()
    try:
        for read in (load_params, load_metadata, Ensemble.load, load_images):
            with pytest.raises(DataCorrupt, match=r"w\.npz: not an \.npz file"):
                read(path)
        assert not is_ensemble_file(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_packed_metadata_are_not_unpacked(tmp_path):
    """Of less than every file may unpack to, JSON would still take hundreds of MiB."""
    path = tmp_path / "w.npz"
    text = b'{"kind": "fastconv ensemble", "about": [' + b"[]," * 1_000_000 + b"0]}"
    np.savez_compressed(path, **{"metadata.json": np.frombuffer(text, np.uint8)})
    tracemalloc.start()
    try:
        with pytest.raises(DataCorrupt, match=r"'metadata\.json' is packed"):
            load_arrays(path)
        assert not is_ensemble_file(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_member_is_unpacked_no_further_than_it_says(tmp_path):
    """Both headers say what the array needs; the deflated bytes go on for 30 MiB more."""
    path = tmp_path / "w.npz"
    content = npy(head("(1000,)", "'|u1'"), bytes(1000 + (30 << 20)))
    data = archive({"W1.npy": content}, zipfile.ZIP_DEFLATED)
    size = len(content) - (30 << 20)
    path.write_bytes(patched(data, CENTRAL, 24, struct.pack("<I", size)))
    tracemalloc.start()
    try:
        with pytest.raises(DataCorrupt, match="Bad CRC-32"):
            load_params(path)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_zeros_may_be_packed(tmp_path):
    """60 MiB in 60 KB: below what every file may unpack to."""
    np.savez_compressed(tmp_path / "w.npz", W1=np.zeros((60 << 20) // 8))
    assert (tmp_path / "w.npz").stat().st_size < 80_000
    assert not load_params(tmp_path / "w.npz")["W1"].any()


def test_any_file_may_unpack_to_64_mib(tmp_path):
    """Headers included: 128 bytes here."""
    path, most = tmp_path / "w.npz", (64 << 20) - 128
    np.savez_compressed(path, W1=np.zeros(most, np.uint8))
    assert load_arrays(path)[0]["W1"].size == most
    np.savez_compressed(path, W1=np.zeros(most + 1, np.uint8))
    told = (
        r"unpacks to 64\.0 MiB, more than 100 times .* 64\.0 MiB; write it again with numpy\.savez"
    )
    with pytest.raises(DataCorrupt, match=told):
        load_arrays(path)


@pytest.mark.parametrize("times", [99.5, 100.5])
def test_a_larger_one_to_a_hundred_times_its_size(tmp_path, times):
    path, zeros = tmp_path / "w.npz", np.zeros(66 << 20, np.uint8)
    np.savez_compressed(path, zeros=zeros)
    packed = path.stat().st_size
    rest = int((zeros.size - times * packed) / (times - 1))  # stored uncompressed
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as target:
        target.writestr("rest.npy", npy(head(f"({rest},)", "'|u1'"), bytes(rest)))
    assert sum(array.nbytes for array in (zeros, np.empty(rest, "u1"))) == pytest.approx(
        times * path.stat().st_size, rel=1e-3
    )
    if times < 100:
        assert load_arrays(path)[0].keys() == {"zeros", "rest"}
    else:
        with pytest.raises(DataCorrupt, match="more than 100 times the size of the file"):
            load_arrays(path)


def test_arrays_that_do_not_fit_are_refused_in_front(tmp_path, monkeypatch):
    params = {"W1": np.ones(200_000)}
    monkeypatch.setattr(room, "available_memory", lambda: 2**20)
    for ending in (".npz", ".safetensors", ".pkl"):
        if ending == ".safetensors":
            pytest.importorskip("safetensors", reason="the package safetensors is not installed")
        from fastconv.io import save_params

        save_params(tmp_path / f"w{ending}", params, allow_pickle=True)
        told = r"w\.\w+: .* take 1\.5 MiB of mem.* 1\.0 MiB are.*: free some, or .* one file$"
        with pytest.raises(ArgumentError, match=told):
            load_params(tmp_path / f"w{ending}")


# ---- any damage -----------------------------------------------------------------------


def small_files() -> list[bytes]:
    arrays = {"W1": NUMBERS_6, "b1": np.ones(3, ">f4"), "e": np.zeros((0, 2)), "s": np.array(1)}
    files = []
    for write in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        write(file, **arrays, F=np.asfortranarray(NUMBERS_6.astype("f2")))
        files.append(file.getvalue())
    return [*files, WHOLE, PACKED]


ZIP_WORDS = [LOCAL, CENTRAL, END, b"PK\6\6", b"PK\6\7", b"\1\0\x14\0" + b"\xff" * 16, b".npy"]
HEADER_WORDS = [
    *(b"'descr'", b"'shape'", b"'fortran_order'", b"'<f8'", b"'|O'", b"'<U3'", b"'|S0'", b"'>f2'"),
    *(b"(2, 3)", b"()", b"(0,)", b"True", b"False", b"\x93NUMPY", b"\1\0", b"\2\0", b"\3\0"),
]


def test_mutated_archives_do_no_harm(tmp_path):
    files = mutated(small_files(), seed=23, words=ZIP_WORDS)
    assert 0 < expect_harmless(lambda data: load(tmp_path, data), files) < COUNT


def test_mutated_arrays_in_whole_archives_do_no_harm(tmp_path):
    """The checksums of the archive are right, so that all that is in it is looked at."""
    members = [GOOD, npy(head(descr="'<U12'", shape="(1,)"))]
    files = mutated(members, seed=24, words=HEADER_WORDS)
    whole = (archive({"W1.npy": content, "b1.npy": GOOD}) for content in files)
    assert 0 < expect_harmless(lambda data: load_arrays_of(tmp_path, data), whole) < COUNT


def load_arrays_of(folder: Path, data: bytes) -> None:
    (folder / "w.npz").write_bytes(data)
    load_arrays(folder / "w.npz")


def test_mutated_single_arrays_do_no_harm(tmp_path):
    path = tmp_path / "x.npy"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        np.array(open_npy(path))

    text = npy(head(descr="'<U12'", shape="(1,)"))
    files = mutated([GOOD, text], seed=25, words=HEADER_WORDS)
    assert 0 < expect_harmless(read, files) < COUNT


def test_mutated_sets_of_images_do_no_harm(tmp_path):
    path = tmp_path / "set.npz"
    x = (np.arange(12 * 16) % 251).astype(np.uint8).reshape(12, 4, 4)
    names = np.array(["a", "b", "c"])
    np.savez(path, x=x, t=np.arange(12) % 3, class_names=names)
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}

    def files():
        for number, name in enumerate(members):
            for content in mutated([members[name]], COUNT // 3, number, HEADER_WORDS):
                yield archive(members | {name: content})

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_images(path)

    assert expect_harmless(read, files()) > 0


def test_mutated_checkpoints_do_no_harm(tmp_path):
    path = tmp_path / "checkpoint.npz"
    rng = np.random.default_rng(0)
    data = rng.random((6, 1, 8, 8)).astype(np.float32), np.arange(6) % 3
    run = Trainer(tiny(seed=0), *data, *data, 1, 3, "Adam", verbose=False, seed=1)
    run.train()
    run.save_checkpoint(path)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        run.load_checkpoint(path)

    files = mutated([path.read_bytes()], seed=26, words=ZIP_WORDS)
    assert 0 < expect_harmless(read, files) < COUNT


def test_mutated_ensembles_do_no_harm(tmp_path):
    path = tmp_path / "two.npz"
    Ensemble([make_model("lenet", (1, 12, 12), 2, seed=0)]).save(path)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        is_ensemble_file(path)
        Ensemble.load(path)

    files = mutated([path.read_bytes()], seed=27, words=ZIP_WORDS)
    assert 0 < expect_harmless(read, files) < COUNT


def test_mutated_metadata_of_ensembles_do_no_harm(tmp_path):
    """The archive is whole, so that every word of the metadata is looked at."""
    path = tmp_path / "one.npz"
    views = (View(), View(down=1, right=-2), View(mirrored=True, turned=2.5, scaled=1.1))
    Ensemble([make_model("lenet", (1, 12, 12), 2, seed=0)], views, {"data": "mine"}).save(path)
    arrays, metadata = load_arrays(path)
    words = [
        *(b'"classes"', b'"input_dim"', b'"name"', b'"dtype"', b'"members"', b'"views"', b'"kind"'),
        *(b'"lenet"', b'"vgg16"', b'"resnet152"', b'"float64"', b'"float16"', b'"down"', b"false"),
        *(b"9223372036854775808", b"2147483647", b"[1, 100000, 100000]", b'"about"', b'"scaled"'),
    ]

    def read(text: bytes) -> None:
        contents = arrays | {"metadata.json": np.frombuffer(text, np.uint8)}
        np.savez(path, allow_pickle=False, **contents)
        is_ensemble_file(path)
        Ensemble.load(path)

    whole = json.dumps(metadata).encode()
    files = mutated([whole], seed=28, words=words)
    assert COUNT // 200 < expect_harmless(read, files) < COUNT


def test_metadata_are_read_without_the_arrays(tmp_path):
    """A few bytes of a large file tell that it is an ensemble."""
    save_arrays(tmp_path / "w.npz", {"W1": np.zeros(1 << 20)}, {"kind": "fastconv ensemble"})
    tracemalloc.start()
    try:
        assert is_ensemble_file(tmp_path / "w.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
