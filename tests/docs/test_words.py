"""The words that docs/kernels.md lists are those of the kernels."""

from __future__ import annotations

import re

from ..conftest import CHECKOUT

BACKENDS = CHECKOUT / "fastconv" / "backends"


def words_of(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def test_the_vocabularies_have_the_words_of_the_table():
    numba = "".join(path.read_text() for path in (BACKENDS / "_numba" / "words").glob("*.py"))
    folder = BACKENDS / "_cython"
    files = [*folder.glob("*.pxi"), folder / "simd.h", folder / "team.h"]
    cython = "".join(path.read_text() for path in files)
    table = (CHECKOUT / "docs/kernels.md").read_text().partition("| what | Numba | Cython |")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 10
    for what, by_numba, by_cython in rows:
        assert words_of(by_numba) and words_of(by_cython), what
        for word in words_of(by_numba):
            assert re.search(rf"^def {word}\(", numba, re.MULTILINE), word
        for word in words_of(by_cython):
            assert re.search(rf"^(cdef )?inline [^=]*?\b{word}\(", cython, re.MULTILINE), word
