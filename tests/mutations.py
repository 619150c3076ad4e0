"""Files as damage and malice leave them: whole files changed in places, the same in every run.

Whatever a file holds, reading it must return a result or raise an error of fastconv's, in memory
proportional to the file's size: `expect_harmless` checks that.
"""

from __future__ import annotations

import os
import random
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from fastconv.errors import FastconvError

__all__ = ["COUNT", "expect_harmless", "mutated"]

COUNT = int(os.environ.get("FASTCONV_TEST_MUTATIONS", "200"))
"""Mutated files of each format."""

NUMBERS = (
    *(b"0", b"-0", b"-1", b"1", b"00", b"0x10", b"1_0", b"2.5", b"1e9", b"1e400", b"-1e400"),
    *(str(2**bits + step).encode() for bits in (7, 8, 15, 16, 31, 32, 63, 64) for step in (-1, 0)),
    *(b"1" + b"0" * 30, b"9" * 5000, b"-" + b"9" * 400),
    *(b"true", b"None", b"nan", b"NaN", b"Infinity", b"-Infinity", b'"1"', b"''", b"[]", b"{}"),
)
"""Texts to replace a number that is written out."""

WORDS = (
    *(b"null", b"true", b"[]", b"{}", b"()", b'""', b"''", b"[" * 2000, b"(" * 2000, b"{" * 2000),
    *(b"\0", b"\n", b"\r\n", b"\t", b"\\", b'"', b"'", b",", b":", b";", b"\xff", b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf", "ü猫".encode(), b"\x1b[2J", b"../", b"/", b"True", b"L", b"#", b"="),
)
"""Bytes to put anywhere."""

FIELDS = tuple(
    value.to_bytes(size, order)  # type: ignore[arg-type]
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
)
"""Values to replace a packed number."""


def mutated(
    wholes: Sequence[bytes], count: int = COUNT, seed: int = 0, words: Iterable[bytes] = ()
) -> Iterator[bytes]:
    """Yield changed copies of files, by one to four changes each.

    Parameters
    ----------
    wholes : sequence of bytes
        Whole files of one format; the smaller they are, the more often headers are hit.
    count : int
        How many copies.
    seed : int
    words : iterable of bytes
        Words that mean something in the format, besides `WORDS`: put anywhere, and in place of
        each other.
    """
    source = random.Random(seed)
    own = tuple(words)
    changes = (
        _flip,
        _flip,
        _cut_end,
        _cut_out,
        _insert,
        _repeat,
        _move,
        _fill,
        _field,
        _field,
        _number,
        _number,
        _string,
        *([_word] * 2 if own else []),
    )
    for _ in range(count):
        data = bytearray(source.choice(wholes))
        for _ in range(source.choice((1, 1, 2, 4))):
            if not data:
                break
            if source.random() < 0.04:  # a splice: the head of one file, the tail of another
                other = source.choice(wholes)
                data[source.randrange(len(data)) :] = other[source.randrange(len(other)) :]
                continue
            change = source.choice(changes)
            if change is _word:
                _word(source, data, own)
            else:
                change(source, data)
        yield bytes(data)


def _span(source: random.Random, data: bytearray) -> slice:
    """A few bytes, or sometimes many."""
    start = source.randrange(len(data))
    return slice(start, start + source.choice((1, 1, 2, 4, 8, 30, 300)))


def _place(source: random.Random, data: bytearray) -> int:
    """Anywhere, but headers more often than what follows."""
    return source.randrange(source.choice((min(len(data), 200), len(data))))


def _flip(source: random.Random, data: bytearray) -> None:
    data[_place(source, data)] ^= 1 << source.randrange(8)


def _cut_end(source: random.Random, data: bytearray) -> None:
    del data[source.randrange(len(data)) :]


def _cut_out(source: random.Random, data: bytearray) -> None:
    del data[_span(source, data)]


def _insert(source: random.Random, data: bytearray) -> None:
    place = source.randrange(len(data) + 1)
    data[place:place] = source.choice((source.randbytes(source.choice((1, 4, 50))), *WORDS))


def _repeat(source: random.Random, data: bytearray) -> None:
    span = _span(source, data)
    data[span.start : span.start] = data[span] * source.choice((1, 1, 2, 50))


def _move(source: random.Random, data: bytearray) -> None:
    span = _span(source, data)
    part = data[span]
    del data[span]
    place = source.randrange(len(data) + 1)
    data[place:place] = part


def _fill(source: random.Random, data: bytearray) -> None:
    span = _span(source, data)
    data[span] = source.choice((b"\0", b"\xff", b" ", b"0")) * len(data[span])


def _field(source: random.Random, data: bytearray) -> None:
    place, field = _place(source, data), source.choice(FIELDS)
    data[place : place + len(field)] = field


def _number(source: random.Random, data: bytearray) -> None:
    """Change a number that is written out."""
    if found := list(re.finditer(rb"-?\d+(\.\d+)?", data)):
        span = source.choice(found).span()
        data[slice(*span)] = source.choice(NUMBERS)


def _string(source: random.Random, data: bytearray) -> None:
    """Change a text between quotes."""
    if found := list(re.finditer(rb"\"[^\"\n]{0,80}\"|'[^'\n]{0,80}'", data)):
        span = source.choice(found).span()
        data[slice(*span)] = source.choice((*WORDS, *NUMBERS, data[slice(*span)] * 2))


def _word(source: random.Random, data: bytearray, words: Sequence[bytes]) -> None:
    """Put a word of the format in place of another, or anywhere."""
    word, new = source.choice(words), source.choice(words)
    place = data.find(word, source.randrange(len(data)))
    place, length = (source.randrange(len(data) + 1), 0) if place < 0 else (place, len(word))
    data[place : place + length] = new


def expect_harmless(
    read: Callable[[bytes], Any], files: Iterable[bytes], memory: int = 8 << 20
) -> int:
    """Read each file; return how many were read without an error.

    Parameters
    ----------
    read : callable
        Takes the content of a file. It may raise a `FastconvError`; anything else fails.
    files : iterable of bytes
    memory : int
        Most bytes that reading a file may take, as Python and NumPy count them.
    """
    read_well = 0
    tracemalloc.start()
    try:
        for number, data in enumerate(files):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                read(data)
                read_well += 1
            except FastconvError:
                pass
            except BaseException as error:
                raise AssertionError(
                    f"file {number}, {data[:200]!r}..., raises {type(error).__name__}: {error}"
                ) from error
            taken = tracemalloc.get_traced_memory()[1] - before
            assert taken <= memory, f"file {number}, {data[:200]!r}..., takes {taken} bytes"
    finally:
        tracemalloc.stop()
    return read_well
