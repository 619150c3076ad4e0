"""Every exception and warning that fastconv raises.

Each error is also the built-in type that a caller would catch anyway: a wrong
shape is a `ValueError`, a wrong dtype a `TypeError`, a missing file a
`FileNotFoundError`. Messages name the operation, what was got and what was
expected.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "BackendUnavailable",
    "DTypeError",
    "DamageWarning",
    "DataCorrupt",
    "DataNotFound",
    "DataWarning",
    "DivergenceError",
    "DivergenceWarning",
    "FallbackWarning",
    "FastconvError",
    "LabelError",
    "MissingDependency",
    "OutOfMemory",
    "ShapeError",
    "StateError",
    "UnknownBackend",
    "UnsafePickle",
    "WeightsError",
    "WriteFailed",
    "suggestion",
]


class FastconvError(Exception):
    """Base of all errors raised by fastconv on purpose."""


class ShapeError(FastconvError, ValueError):
    """Array shapes that do not fit together, or a window larger than its image."""


class DTypeError(FastconvError, TypeError):
    """An array of a type that no kernel can compute with (objects, strings, complex)."""


class ArgumentError(FastconvError, ValueError):
    """A parameter outside its range: stride 0, a negative pad, an unknown optimizer."""


class LabelError(FastconvError, ValueError):
    """Labels out of range, not whole numbers, or one-hot of the wrong width."""


class StateError(FastconvError, RuntimeError):
    """A call out of order, such as ``backward`` before ``forward``."""


class UnknownBackend(FastconvError, ValueError):
    """A backend name that nothing has registered."""


class BackendUnavailable(FastconvError, ImportError):
    """A known backend that cannot run here; the message has the reason and the remedy."""


class MissingDependency(FastconvError, ImportError):
    """An optional package is needed; the message says how to install it."""


class OutOfMemory(FastconvError, MemoryError):
    """An array larger than the available memory, or than any array can be."""


class DataNotFound(FastconvError, FileNotFoundError):
    """A data file or folder is not where it was looked for."""


class DataCorrupt(FastconvError, ValueError):
    """A data file is truncated, foreign, or does not match its checksum."""


class WeightsError(FastconvError, ValueError):
    """Weights that do not fit the network, or a file that holds none."""


class UnsafePickle(FastconvError, pickle.UnpicklingError):
    """A pickle that asks for anything but plain NumPy arrays of numbers."""


class WriteFailed(FastconvError, OSError):
    """A file could not be written; `filename` and `errno` say which and why, as in any `OSError`.

    What was there before is unchanged, unless the message says otherwise.
    """

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class DamageWarning(UserWarning):
    """Data that are used though a part of them is damaged; the message says what was lost."""


class DivergenceError(FastconvError, ArithmeticError):
    """A training run has diverged, and there are no weights from before."""


class DataWarning(UserWarning):
    """Data that can be used, but from which little can be learned, or which cannot be checked."""


class DivergenceWarning(RuntimeWarning):
    """The loss of a training run is NaN or infinite; said once a run."""


class FallbackWarning(RuntimeWarning):
    """Something slower than expected runs instead; said once, with the reason."""


def suggestion(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``; did you mean 'adam'?``.

    Nothing if no known name is close to it, in upper or lower case.
    """
    from difflib import get_close_matches  # few processes come here

    plain = {each.casefold(): each for each in known}
    near = get_close_matches(str(name).casefold(), plain, n=1)
    return f"; did you mean {plain[near[0]]!r}?" if near else ""
