"""Pickles that ask for more memory or work than their size, and damaged ones: all are refused."""

from __future__ import annotations

import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from fastconv.errors import DataCorrupt
from fastconv.io import load_params

from . import python2_pickles
from .mutations import COUNT, expect_harmless, mutated

SIZE, USES = 200_000, 300
"""Bytes of the data that is used again, and how often."""

EMPTY = b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
BYTES = b"cnumpy\ndtype\nX\x02\x00\x00\x00u1\x89\x88\x87R"
DATA = b"B" + struct.pack("<I", SIZE) + bytes(SIZE)
TEXT = b"X" + struct.pack("<I", SIZE) + b"x" * SIZE
SHAPE = b"J" + struct.pack("<i", SIZE) + b"\x85"
STATE = b"(K\x01" + SHAPE + BYTES + b"\x89" + DATA + b"t"


def name(number: int) -> bytes:
    text = f"a{number}".encode()
    return b"\x8c" + bytes([len(text)]) + text


def named(first: bytes, again: bytes) -> bytes:
    """A dict in which the first value is made, and then used under other names."""
    others = b"".join(name(number) + again + b"s" for number in range(1, USES))
    return b"}" + name(0) + first + b"s" + others + b"."


MORE = r"makes more bytes of arrays than the \d+ bytes of the file"
AGAIN = "uses the same data over and over"
MANY = "lists more than 10000 things"
TWICE = "remembers the same thing twice, or at"

GREEDY = {
    "a state for many arrays": (named(EMPTY + STATE + b"q\x06b", EMPTY + b"h\x06b"), MORE),
    "data for many arrays": (
        named(
            EMPTY + b"(K\x01" + SHAPE + BYTES + b"\x89" + DATA + b"q\x06tb",
            EMPTY + b"(K\x01" + SHAPE + BYTES + b"\x89h\x06tb",
        ),
        MORE,
    ),
    "a text of Python 2 for many arrays": (
        named(
            EMPTY + b"(K\x01" + SHAPE + BYTES + b"\x89T" + DATA[1:] + b"q\x06tb",
            EMPTY + b"(K\x01" + SHAPE + BYTES + b"\x89h\x06tb",
        ),
        MORE,
    ),
    "arguments for many arrays": (
        named(
            b"cnumpy._core.numeric\n_frombuffer\nq\x00("
            + (DATA + BYTES + SHAPE + b"X\x01\x00\x00\x00Ctq\x01R"),
            b"h\x00h\x01R",
        ),
        MORE,
    ),
    "an array under many names": (named(EMPTY + STATE + b"bq\x06", b"h\x06"), AGAIN),
    "a text encoded many times": (
        b"c_codecs\nencode\nq\x00" + TEXT + b"\x85q\x01R" + b"h\x00h\x01R" * USES + b".",
        AGAIN,
    ),
    "a long tuple in many others": (
        b"(" + b"N" * 5000 + b"tq\x00" + b"h\x00\x85" * 3000 + b".",
        AGAIN,
    ),
    "long arguments of many calls": (
        (b"cnumpy\ndtype\nq\x00(X\x02\x00\x00\x00u1" + b"N" * 5000 + b"tq\x01R")
        + (b"h\x00h\x01R" * 3000 + b"."),
        AGAIN,
    ),
    "a longer tuple": (b"(" + b"N" * 100_000 + b"tq\x00" + b"h\x00\x85" * 2000 + b".", MANY),
    "dicts": (b"}" * 300_000 + b".", MANY),
    "marks": (b"(" * 300_000 + b".", MANY),
    "one thing remembered in many places": (b"\x80\x04}" + b"\x94" * 300_000 + b".", TWICE),
    "places of the memo with one hash": (
        b"}" + b"".join(b"p%d\nh\x00" % (k * (2**61 - 1)) for k in range(5000)) + b".",
        TWICE,
    ),
    "axes without end": (
        (b"}" + name(0) + b"cnumpy._core.numeric\n_frombuffer\n(C\x01x" + BYTES + b"K\x01\x85")
        + (b"X\x01\x00\x00\x00K(" + b"N" * 5000 + b"ttRs."),
        r"array of shape \(1,\) with the axes",
    ),
    "a number of many digits": (b"L" + b"9" * 300_000 + b"L\n.", "digits"),
}


@pytest.mark.parametrize("attack", GREEDY)
def test_a_pickle_that_asks_for_more_than_its_size_is_refused(tmp_path, attack):
    data, reason = GREEDY[attack]
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(DataCorrupt, match=rf"weights\.pkl: not a pickle .*{reason}"):
            load_params(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(data) + 2**21


def test_the_same_within_the_budget_is_read(tmp_path):
    """It is not the form of these pickles that is refused."""
    path = tmp_path / "weights.pkl"
    data = EMPTY + STATE + b"bq\x06"
    path.write_bytes(b"}" + name(0) + data + b"s" + name(1) + b"h\x06s.")
    for array in load_params(path).values():
        np.testing.assert_array_equal(array, np.zeros(SIZE, np.uint8))


INSTRUCTIONS = [
    *(bytes([code]) for code in b"(.012NtRbsud)}]\x85\x86\x87\x88\x89\x93\x94\x81QlepP"),
    *(
        b"h\x00",
        b"h\x01",
        b"q\x00",
        b"q\x01",
        b"r\xff\xff\xff\xff",
        b"j\x00\x00\x00\x00",
        b"g0\n",
        b"p0\n",
    ),
    *(
        b"K\x00",
        b"K\x05",
        b"M\xff\xff",
        b"J\xff\xff\xff\xff",
        b"I01\n",
        b"I99999999999\n",
        b"L5L\n",
    ),
    *(b"\x8a\x09" + b"\xff" * 9, b"\x8b\xff\xff\xff\x7f", b"\x95" + b"\xff" * 8),
    *(b"S'W1'\n", b"S'\\x0'\n", b"U\x01a", b"T\x01\x00\x00\x00a", b"V\\ud800\n", b"C\x01x"),
    *(
        b"\x8c\x01a",
        b"X\x01\x00\x00\x00a",
        b"X\xff\xff\xff\x7f",
        b"\x8e" + b"\xff" * 8,
        b"\x96" + b"\0" * 8,
    ),
    *(
        EMPTY,
        BYTES,
        b"cnumpy\ndtype\n",
        b"c_codecs\nencode\n",
        b"cos\nsystem\n",
        b"c__builtin__\nbytes\n",
    ),
    *(b"cnumpy._core.numeric\n_frombuffer\n", b"i__main__\nC\n", b"F1.5\n", b"G" + bytes(8)),
]
"""Instructions of the machine, admitted ones and others, with arguments."""


def wholes() -> list[bytes]:
    params = {"W1": np.arange(6.0).reshape(2, 3), "b1": np.ones(2, ">f4"), "n": np.array(3)}
    params["F"] = np.asfortranarray(params["W1"].astype(np.uint8))
    new = [pickle.dumps(params, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    return [*new, *python2_pickles.PICKLES.values()]


def test_mutated_pickles_do_no_harm(tmp_path):
    path = tmp_path / "weights.pkl"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for array in load_params(path).values():
            assert array.dtype.kind in "fiub"
            assert array.flags.c_contiguous

    assert 0 < expect_harmless(read, mutated(wholes(), seed=21, words=INSTRUCTIONS)) < COUNT
