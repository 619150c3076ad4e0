"""Hypothesis strategies for files' contents: any arrays of numbers under any names."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as extra

__all__ = ["any_arrays"]

NUMBERS = (
    extra.boolean_dtypes()
    | extra.integer_dtypes(endianness="?")
    | extra.unsigned_integer_dtypes(endianness="?")
    | extra.floating_dtypes(endianness="?")
)
NAMES = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="/\\\\"), min_size=1, max_size=5
)


def any_arrays(numbers: st.SearchStrategy[Any] = NUMBERS) -> st.SearchStrategy[Any]:
    """Dicts of one to three arrays: any number, either byte order, no axes to four, C or F order.

    Axes may be empty.
    """
    shapes = extra.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = extra.arrays(numbers, shapes).flatmap(
        lambda values: (
            st.sampled_from([values, np.asfortranarray(values)]) if values.ndim else st.just(values)
        )
    )
    return st.dictionaries(NAMES, array, min_size=1, max_size=3)
