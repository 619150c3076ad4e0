"""The names of ``common.layers``: fastconv's layers, and im2col and col2im from `.util`."""

from __future__ import annotations

from ..layers import *  # noqa: F403
from ..layers import __all__ as _names
from .util import col2im, im2col

__all__ = [*_names, "col2im", "im2col"]
