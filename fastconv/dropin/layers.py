"""The names that ``common.layers`` gives: fastconv's layers, and the columns of `.util`."""

from __future__ import annotations

from ..layers import *  # noqa: F403
from ..layers import __all__ as _names
from .util import col2im, im2col

__all__ = [*_names, "col2im", "im2col"]
