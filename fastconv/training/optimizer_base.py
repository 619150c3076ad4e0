"""The base of the optimizers: checks of a step, and arrays kept from step to step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..backends.short import Short
from ..errors import ArgumentError, WeightsError
from ..ops.arrays import as_array, is_real, updated_arrays, whole_number
from ..selection import active
from .groups import matching

__all__ = ["Arrays", "Optimizer", "Step"]

Arrays = dict[str, NDArray[Any]]

MOST_STEPS = 1 << 53
"""More steps than any run takes; float64 still counts so far."""


@dataclass(frozen=True, slots=True)
class Step:
    """The step of one parameter, checked: plain arrays, no two of which share memory."""

    lr: float
    decays: bool
    param: NDArray[Any]
    grad: NDArray[Any]
    kept: tuple[NDArray[Any], ...]


class Optimizer:
    """The base class of the optimizers, which keep arrays for each parameter between steps.

    Attributes
    ----------
    lr_factors : mapping of str to float
        Factor on `lr` by parameter; 1 for those without. 0 freezes a parameter: neither it nor
        its gradient is touched.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    lr: float
    lr_factors: Mapping[str, float] = MappingProxyType({})
    weight_decay: float = 0.0
    decayed: Sequence[str] | None = None

    def __init__(self) -> None:
        for name in self.kept:
            setattr(self, name, None)

    def __repr__(self) -> str:
        settings = [
            name for name in inspect.signature(type(self)).parameters if hasattr(self, name)
        ]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in settings)})"

    def __init_subclass__(cls) -> None:
        # A subclass with a step of its own must not be bypassed by its base's one call.
        if "_take" in vars(cls) and "_take_short" not in vars(cls):
            cls._take_short = Optimizer._take_short  # type: ignore[method-assign]

    def _set_decay(self, weight_decay: float, decayed: Sequence[str] | None) -> None:
        op = type(self).__name__
        if not 0 <= weight_decay < math.inf:
            raise ArgumentError(f"{op}: weight_decay must be at least 0, got {weight_decay}")
        if isinstance(decayed, str):
            raise ArgumentError(f"{op}: decayed must be several patterns, got {decayed!r}")
        self.weight_decay = weight_decay
        self.decayed = decayed

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place.

        Raises
        ------
        ShapeError, DTypeError, ArgumentError
            A parameter, its gradient and the arrays kept for it do not fit together, or no
            kernel can compute with them. No parameter has changed then.
        """
        plain = not self.weight_decay and not self.lr_factors and isinstance(self.lr, float | int)
        # A network's own mapping looks its arrays up on the layers; kernels take a plain dict.
        arrays = params if type(params) is dict else dict(params)
        if plain and self._take_short(active().short, arrays, grads):
            return
        steps = self._steps(params, grads)
        self._count()
        for key, step in steps.items():
            self._take(step)
            if not isinstance(params[key], np.ndarray):
                params[key] = step.param[()]

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        """Take the whole step in one call of the backend; False if it refuses, changing nothing."""
        return False

    def _count(self) -> None:
        """Called when a step begins; `Adam` counts them."""

    def _take(self, step: Step) -> None:
        """Update the parameter and the arrays kept for it."""
        raise NotImplementedError

    def _steps(self, params: Arrays, grads: Arrays) -> dict[str, Step]:
        """Return the steps of all trained parameters, checked before any is taken."""
        self._start(params)
        op, decaying, steps = type(self).__name__, self._decaying(params), {}
        for key, value in params.items():
            factor = self.lr_factors.get(key, 1.0)
            if not factor:
                continue
            if key not in grads:
                raise ArgumentError(f"{op}: there is no gradient of parameter {key!r}")
            kept = {name: getattr(self, name)[key] for name in self.kept}
            param, grad, arrays = updated_arrays(
                f"{op}: {key!r}", _as_array(value), as_array(grads[key]), **kept
            )
            steps[key] = Step(self.lr * factor, key in decaying, param, grad, arrays)
        return steps

    def _start(self, params: Arrays) -> None:
        """Make arrays of zeros for parameters that are trained for the first time."""
        for name in self.kept:
            arrays = getattr(self, name) or {}
            setattr(self, name, arrays)
            for key, value in params.items():
                if key not in arrays and self.lr_factors.get(key, 1.0):
                    arrays[key] = _zeros_like(value)

    def _decaying(self, params: Arrays) -> set[str]:
        """Names of the parameters that decay."""
        if not self.weight_decay:
            return set()
        if self.decayed is None:
            return {key for key, value in params.items() if np.ndim(value) >= 2}
        op = f"{type(self).__name__}: decayed"
        return {name for pattern in self.decayed for name in matching(op, pattern, params)}

    def _slope(self, param: NDArray[Any], grad: NDArray[Any], decays: bool) -> NDArray[Any]:
        """The gradient, plus that of weight_decay/2 * p^2 if the parameter decays."""
        return grad + self.weight_decay * param if decays else grad

    def state(self) -> Arrays:
        """Return what is kept between steps, as arrays for a checkpoint."""
        arrays = {}
        for name in self.kept:
            for key, value in (getattr(self, name) or {}).items():
                arrays[f"{name}/{key}"] = value
        if hasattr(self, "iter"):
            arrays["iter"] = np.array(self.iter)
        return arrays

    def load_state(self, arrays: Arrays, params: Mapping[str, ArrayLike] | None = None) -> None:
        """Restore what `state` returned, all of it or nothing.

        Parameters
        ----------
        arrays : dict of str to array
        params : mapping of str to array, optional
            All parameters that the state may belong to. Without them, `update` compares the
            shapes.

        Raises
        ------
        WeightsError
            The arrays are no state, or one of another optimizer or of other parameters.
        """
        op = type(self).__name__
        groups: dict[str, Arrays] = {name: {} for name in self.kept}
        steps = None
        for path, value in arrays.items():
            name, _, key = path.partition("/")
            if path == "iter" and hasattr(self, "iter"):
                steps = whole_number(f"{op}: state 'iter'", value, MOST_STEPS)
            elif name in groups and key:
                groups[name][key] = self._own_copy(path, value)
            else:
                raise WeightsError(f"{op}: cannot take the state {path!r}")
        if steps is None and hasattr(self, "iter"):
            raise WeightsError(f"{op}: the state lacks 'iter', the number of steps")
        for name, group in groups.items():
            first = groups[self.kept[0]]
            if {k: a.shape for k, a in group.items()} != {k: a.shape for k, a in first.items()}:
                raise WeightsError(
                    f"{op}: the states {self.kept[0]!r} and {name!r} are of other parameters, "
                    "or differ in their shapes"
                )
            for key, array in group.items():
                if params is None:
                    continue
                if key not in params or np.shape(params[key]) != array.shape:
                    own = f"{np.shape(params[key])}" if key in params else "no such parameter"
                    raise WeightsError(
                        f"{op}: state '{name}/{key}' has shape {array.shape}, expected {own}"
                    )
        for name, group in groups.items():
            setattr(self, name, group or None)
        if steps is not None:
            self.iter = steps

    def _own_copy(self, path: str, value: Any) -> NDArray[Any]:
        """Return a copy of a state's array in the form that this optimizer makes."""
        array = as_array(value)
        if array.dtype.kind != "f" or not is_real(array):
            raise WeightsError(
                f"{type(self).__name__}: state {path!r} must be floating-point numbers of at most "
                f"64 bits, got dtype {array.dtype}"
            )
        return np.array(array, array.dtype.newbyteorder("="), order="C")


def _as_array(param: Any) -> NDArray[Any]:
    """Return the parameter, or an array of a plain number: the book minimises those too."""
    array = as_array(param)
    return array if isinstance(param, np.ndarray) or not is_real(array) else np.array(array, float)


def _zeros_like(param: ArrayLike) -> NDArray[Any]:
    # float16 would lose the moments of float16 parameters.
    param = np.asarray(param)
    return np.zeros(param.shape, np.result_type(param.dtype, np.float32))
