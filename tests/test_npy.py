"""The header of NumPy's format, byte by byte; its description is in ``numpy.lib.format``."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from fastconv.errors import DataCorrupt
from fastconv.io.npy import Header, open_npy, read_array, read_header


def file(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> io.BytesIO:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return io.BytesIO(b"\x93NUMPY" + bytes(version) + length + text.encode("latin1") + data)


def text(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 3)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def read(*parts: object) -> np.ndarray:
    opened = file(*parts)
    return read_array(opened.read, read_header(opened.read))


def test_a_header_says_all_of_the_array():
    header = read_header(file(text(order="True")).read)
    assert header == Header(np.dtype("<f4"), (2, 3), True, 10 + len(text(order="True")))
    assert (header.order, header.nbytes) == ("F", 24)
    header = read_header(file(text("'>i2'", shape="(4,)"), version=(2, 0)).read)
    assert header == Header(np.dtype(">i2"), (4,), False, 12 + len(text("'>i2'", shape="(4,)")))
    assert (header.order, header.nbytes) == ("C", 8)
    assert read_header(file(text(shape="()"), version=(3, 0)).read).nbytes == 4


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        ("()", ()),
        ("( )", ()),
        ("(0,)", (0,)),
        ("(7,)", (7,)),
        ("(7L,)", (7,)),
        ("( 7 , 8 )", (7, 8)),
        ("(7,8,)", (7, 8)),
        ("(1, 0, 9999999999999999999)", (1, 0, 9999999999999999999)),
    ],
)
def test_shapes(said, shape):
    assert read_header(file(text(shape=said)).read).shape == shape


@pytest.mark.parametrize(
    "said",
    [
        "(7)",
        "(,)",
        "(,7)",
        "(7,,8)",
        "(7,,)",
        "(07,)",
        "(7LL,)",
        "(1 2,)",
        "(L)",
        "(1" + "0" * 19 + ",)",
    ],
)
def test_what_is_no_shape(said):
    with pytest.raises(DataCorrupt) as caught:
        read_header(file(text(shape=said)).read)
    assert str(caught.value).startswith(f"its shape is {said}, expected")


def test_a_long_shape_is_shown_by_its_beginning():
    with pytest.raises(DataCorrupt) as caught:
        read_header(file(text(shape="(" + "8, " * 50 + "0x)").replace("x", "9")).read)
    assert "(" + ("8, " * 50)[:59] + ", expected" in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["'", "'|b1'", "'=u2'", "'>i8'", "'<f2'", "'c16'", "'S3'", "'<U2'"]
)
def test_types(kind):
    if kind == "'":
        kind = '"<f8"'
    assert read_header(file(text(kind)).read).dtype == np.dtype(kind[1:-1])


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("'|O'", "Python objects"),
        ("'O'", "Python objects"),
        ("'|O8'", "Python objects"),
        ("'<f3'", "type '<f3', expected numbers or text"),
        ("'|S0'", "type '|S0', expected numbers or text"),
        ("'<M8'", "type '<M8', expected numbers or text"),
        ("'|V4'", "type '|V4', expected numbers or text"),
        ("'float32'", "type 'float32', expected numbers or text"),
        ("'<f4,<f4'", "type '<f4,<f4', expected numbers or text"),
        ("True", "type 'ru', expected numbers or text"),
        ("(4, 4)", "type '4, 4', expected numbers or text"),
        ("'<F4'", "type '<F4', expected numbers or text"),
    ],
)
def test_types_of_anything_else(kind, why):
    with pytest.raises(DataCorrupt) as caught:
        read_header(file(text(kind)).read)
    assert why in str(caught.value)


@pytest.mark.parametrize("order", ["'C'", "(1,)"])
def test_an_order_is_true_or_false(order):
    with pytest.raises(DataCorrupt) as caught:
        read_header(file(text(order=order)).read)
    assert str(caught.value) == f"fortran_order is {order}, expected True or False"


def test_a_header_has_ten_thousand_bytes_at_most():
    for version in ((1, 0), (2, 0)):
        assert read_header(file(text().ljust(10_000), version=version).read).shape == (2, 3)
        with pytest.raises(DataCorrupt, match="a header of 10001 bytes, expected 10000 at most"):
            read_header(file(text().ljust(10_001), version=version).read)


@pytest.mark.parametrize("version", [(1, 1), (2, 1), (0, 0), (4, 0)])
def test_other_versions(version):
    told = rf"version \({version[0]}, {version[1]}\) of the format, expected 1\.0 to 3\.0"
    with pytest.raises(DataCorrupt, match=told):
        read_header(file(text(), version=version).read)


@pytest.mark.parametrize(
    "said",
    [
        text()[1:],
        text()[:-1],
        text().replace("'descr'", "descr"),
        text().replace("'descr'", "'descr\""),
        text().replace(":", ";", 1),
        text().replace(",", "", 1),
        text().replace(", }", ",, }"),
        text().replace(", }", ", 1}"),
        text().replace("{", "{,"),
        "{}",
        "{'descr': '<f4', 'shape': (2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'shape': (2, 3)}",
        "",
    ],
)
def test_what_is_no_header(said):
    with pytest.raises(DataCorrupt) as caught:
        read_header(file(said).read)
    message = str(caught.value)
    assert message.startswith(f"its header is {said.strip().encode()!r}, expected {{'descr': ")
    assert "'fortran_order'" in message and "'shape'" in message


def test_a_long_header_is_shown_by_its_beginning():
    with pytest.raises(DataCorrupt) as caught:
        read_header(file("x" * 300).read)
    assert f"b'{'x' * 100}'" in str(caught.value)


@pytest.mark.parametrize("count", range(10, 40, 7))
def test_a_file_that_breaks_off(count):
    whole = file(text()).getvalue()
    with pytest.raises(DataCorrupt, match="its header"):
        read_header(io.BytesIO(whole[:count]).read)


@pytest.mark.parametrize("head", [b"", b"\x93NUMPX\1\0", b"PK\3\4", b"\x93NUMP"])
def test_what_is_no_array(head):
    with pytest.raises(DataCorrupt, match="does not begin"):
        read_header(io.BytesIO(head).read)


# ---- the numbers ----------------------------------------------------------------------


def test_numbers_in_either_order():
    data = np.arange(6, dtype="<f4").tobytes()
    np.testing.assert_array_equal(read(text(), data), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read(text(order="True"), data), [[0, 2, 4], [1, 3, 5]])
    swapped = read(text("'>f4'", shape="(1,)"), np.array([1.5], ">f4").tobytes())
    assert swapped.tolist() == [1.5]


def test_numbers_that_come_in_pieces():
    """A file may give less than it was asked for; more than a MiB is asked for piece by piece."""
    data = np.random.default_rng(0).integers(0, 256, (3 << 20) + 17, np.uint8)
    opened, asked = file(text("'|u1'", shape=f"({data.size},)"), data.tobytes()), []
    header = read_header(opened.read)

    def some(count: int) -> bytes:
        asked.append(count)
        return opened.read(min(count, 777_777))

    np.testing.assert_array_equal(read_array(some, header), data)
    assert max(asked) <= 1 << 20


def test_numbers_that_break_off():
    with pytest.raises(DataCorrupt, match="after 20 of 24 bytes of numbers"):
        read(text(), bytes(20))
    with pytest.raises(DataCorrupt, match="after 0 of 24 bytes of numbers"):
        read(text())


def test_a_shape_that_no_array_has():
    for shape in ("(0, 9999999999999999999)", "(" + "1, " * 65 + ")"):
        with pytest.raises(DataCorrupt, match=r"^an array of shape \(.*\): "):
            read(text(shape=shape))


@pytest.mark.parametrize("order", "<>")
def test_texts_are_of_characters(tmp_path, order):
    """The last of Unicode is U+10FFFF."""
    last, beyond = (np.array([65, point], f"{order}u4").tobytes() for point in (0x10FFFF, 0x110000))
    said = text(f"'{order}U1'", shape="(2,)")
    assert read(said, last).tolist() == ["A", "\U0010ffff"]
    with pytest.raises(DataCorrupt, match="text with the code point 1114112"):
        read(said, beyond)
    (tmp_path / "x.npy").write_bytes(file(said, last).getvalue())
    assert open_npy(tmp_path / "x.npy").tolist() == ["A", "\U0010ffff"]
    (tmp_path / "x.npy").write_bytes(file(said, beyond).getvalue())
    with pytest.raises(DataCorrupt, match=r"x\.npy: not a plain array \(.*code point 1114112"):
        open_npy(tmp_path / "x.npy")
    assert read(text(f"'{order}U1'", shape="(0,)")).size == 0


def test_a_file_stays_on_disk_and_cannot_be_written(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3).T)
    opened = open_npy(str(tmp_path / "x.npy"))
    assert isinstance(opened, np.memmap) and opened.mode == "r"
    np.testing.assert_array_equal(opened, [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize("size", [23, 25, 0])
def test_a_file_of_another_size_than_its_header_says(tmp_path, size):
    (tmp_path / "x.npy").write_bytes(file(text(), bytes(size)).getvalue())
    told = rf"it has {size} bytes of numbers, expected 24 for the shape \(2, 3\) of float32"
    with pytest.raises(DataCorrupt, match=told):
        open_npy(tmp_path / "x.npy")
