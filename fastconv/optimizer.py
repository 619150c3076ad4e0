"""The book's optimizers (its chapter 6) and AdamW: ``update(params, grads)``, in place, key by key.

``lr`` and the other settings are plain attributes and may change between updates. Weight decay
shrinks weights, not biases and scales: by default it takes the parameters of two or more axes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops
from .errors import ArgumentError, WeightsError
from .parameter_groups import matching
from .selection import settled

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "RMSprop"]

Arrays = dict[str, NDArray[Any]]

PIECE = 1 << 15
"""Values updated at a time: they stay in the cache from one operation of an update to the next."""


class _Optimizer:
    """What the optimizers share: arrays kept from step to step, one per parameter.

    Attributes
    ----------
    lr_factors : mapping of str to float
        What multiplies `lr` for a parameter; 1 for those that it does not name. 0 freezes a
        parameter: it is not touched, and its gradient not asked for.
    """

    kept: ClassVar[tuple[str, ...]] = ()
    lr: float
    lr_factors: Mapping[str, float] = MappingProxyType({})
    weight_decay: float = 0.0
    decayed: Sequence[str] | None = None

    def __init__(self) -> None:
        for name in self.kept:
            setattr(self, name, None)

    def _set_decay(self, weight_decay: float, decayed: Sequence[str] | None) -> None:
        op = type(self).__name__
        if not 0 <= weight_decay < math.inf:
            raise ArgumentError(f"{op}: weight_decay must be at least 0, got {weight_decay}")
        if isinstance(decayed, str):
            raise ArgumentError(f"{op}: decayed must be several patterns, got {decayed!r}")
        self.weight_decay = weight_decay
        self.decayed = decayed

    def _rates(self, params: Arrays) -> Iterator[tuple[str, float]]:
        """The parameters that are trained, each with its learning rate."""
        self._start(params)
        for key in params:
            factor = self.lr_factors.get(key, 1.0)
            if factor:
                yield key, self.lr * factor

    def _start(self, params: Arrays) -> None:
        """Make the kept arrays, zeros, of parameters that are trained for the first time."""
        for name in self.kept:
            arrays = getattr(self, name) or {}
            setattr(self, name, arrays)
            for key, value in params.items():
                if key not in arrays and self.lr_factors.get(key, 1.0):
                    arrays[key] = _zeros_like(value)

    def _decaying(self, params: Arrays) -> set[str]:
        """Names of the parameters that weight decay takes."""
        if not self.weight_decay:
            return set()
        if self.decayed is None:
            return {key for key, value in params.items() if np.ndim(value) >= 2}
        op = f"{type(self).__name__}: decayed"
        return {name for pattern in self.decayed for name in matching(op, pattern, params)}

    def _slope(self, param: NDArray[Any], grad: NDArray[Any], decays: bool) -> NDArray[Any]:
        """The gradient, with that of weight_decay/2 * p^2 where the parameter decays."""
        return grad + self.weight_decay * param if decays else grad

    def state(self) -> Arrays:
        """Return what is kept between steps as arrays, for a checkpoint."""
        arrays = {}
        for name in self.kept:
            for key, value in (getattr(self, name) or {}).items():
                arrays[f"{name}/{key}"] = value
        if hasattr(self, "iter"):
            arrays["iter"] = np.array(self.iter)
        return arrays

    def load_state(self, arrays: Arrays) -> None:
        """Take back what `state` returned.

        Raises
        ------
        WeightsError
            The arrays are those of another optimizer.
        """
        groups: dict[str, Arrays] = {}
        for path, value in arrays.items():
            name, _, key = path.partition("/")
            if path == "iter" and hasattr(self, "iter"):
                self.iter = int(value)
            elif name in self.kept and key:
                groups.setdefault(name, {})[key] = value.copy()
            else:
                raise WeightsError(f"{type(self).__name__}: cannot take the state {path!r}")
        for name in self.kept:
            setattr(self, name, groups.get(name))


def _as_array(param: Any) -> NDArray[Any]:
    """The parameter itself; of a plain number an array, since the book minimises those too."""
    return param if isinstance(param, np.ndarray) else np.array(param, float)


def _pieces(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """The same values of arrays of one shape, some at a time, as views; all at once if need be."""
    first = arrays[0]
    if first.size <= PIECE or not all(
        array.shape == first.shape and array.flags.c_contiguous for array in arrays
    ):
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, first.size, PIECE):
        yield tuple(array[start : start + PIECE] for array in flat)


def _drop_subnormals(kept: NDArray[Any]) -> None:
    """Set to 0, in place, what has decayed below the smallest normal number.

    A weight whose unit is dead gets no gradient any more. What is kept of its old ones decays
    until it is subnormal, rounds to itself from then on, and takes the CPU tens of times as long
    at every step.
    """
    np.copyto(kept, 0, where=np.abs(kept) < np.finfo(kept.dtype).smallest_normal)


def _zeros_like(param: ArrayLike) -> NDArray[Any]:
    # Moments of float16 parameters would vanish in float16.
    param = np.asarray(param)
    return np.zeros(param.shape, np.result_type(param.dtype, np.float32))


class SGD(_Optimizer):
    """Stochastic gradient descent: p -= lr*g.

    Parameters
    ----------
    lr : float
    weight_decay : float
        L2: weight_decay*p is added to g.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.
    """

    def __init__(
        self,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self._set_decay(weight_decay, decayed)

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        decaying = self._decaying(params)
        for key, lr in self._rates(params):
            array = _as_array(params[key])
            for param, grad in _pieces(array, np.asarray(grads[key])):
                param -= lr * self._slope(param, grad, key in decaying)
            if array is not params[key]:
                params[key] = array[()]


class Momentum(_Optimizer):
    """Momentum: v = momentum*v - lr*g; p += v.

    Parameters
    ----------
    lr, momentum : float
    weight_decay : float
        L2: weight_decay*p is added to g.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.
    """

    kept = ("v",)
    v: Arrays

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self._set_decay(weight_decay, decayed)

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        decaying = self._decaying(params)
        for key, lr in self._rates(params):
            array = _as_array(params[key])
            for param, grad, v in _pieces(array, np.asarray(grads[key]), self.v[key]):
                v *= self.momentum
                v -= lr * self._slope(param, grad, key in decaying)
                _drop_subnormals(v)
                param += v
            if array is not params[key]:
                params[key] = array[()]


class Nesterov(_Optimizer):
    """Nesterov's accelerated gradient (arXiv:1212.0901).

    p += momentum^2 * v - (1 + momentum)*lr*g with the old v; then
    v = momentum*v - lr*g.
    """

    kept = ("v",)
    v: Arrays

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        for key, lr in self._rates(params):
            v = self.v[key]
            step = lr * grads[key]
            params[key] += self.momentum * self.momentum * v - (1 + self.momentum) * step
            v *= self.momentum
            v -= step
            _drop_subnormals(v)


class AdaGrad(_Optimizer):
    """AdaGrad: h += g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        for key, lr in self._rates(params):
            h = self.h[key]
            h += grads[key] * grads[key]
            params[key] -= lr * grads[key] / (np.sqrt(h) + 1e-7)


class RMSprop(_Optimizer):
    """RMSprop: h = decay_rate*h + (1 - decay_rate)*g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        super().__init__()
        self.lr = lr
        self.decay_rate = decay_rate

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        for key, lr in self._rates(params):
            h = self.h[key]
            h *= self.decay_rate
            h += (1 - self.decay_rate) * grads[key] * grads[key]
            _drop_subnormals(h)
            params[key] -= lr * grads[key] / (np.sqrt(h) + 1e-7)


class Adam(_Optimizer):
    """Adam (arXiv:1412.6980), in the book's form, on the active backend.

    lr_t = lr*sqrt(1 - beta2^t)/(1 - beta1^t); m += (1 - beta1)*(g - m);
    v += (1 - beta2)*(g*g - v); p -= lr_t*m / (sqrt(v) + 1e-7).
    """

    kept = ("m", "v")
    m: Arrays
    v: Arrays

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        super().__init__()
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self.iter += 1
        correction = np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter)
        epsilon = self._epsilon()
        with settled():
            for key, lr in self._rates(params):
                param, m, v = params[key], self.m[key], self.v[key]
                lr_t = float(lr * correction)
                array = _as_array(param)
                ops.adam_update(array, grads[key], m, v, lr_t, self.beta1, self.beta2, epsilon)
                if array is not param:
                    params[key] = array[()]

    def _epsilon(self) -> float:
        """What is added to sqrt(v), which is not corrected for bias."""
        return 1e-7


class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv:1711.05101), number by number that of PyTorch.

    p *= 1 - lr*weight_decay; then, with m and v as in `Adam`,
    p -= lr * m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + eps).

    Parameters
    ----------
    lr, beta1, beta2 : float
    weight_decay : float
    eps : float
        Added to the root of v when v is corrected for bias; `Adam`, the book's, corrects later.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.

    Raises
    ------
    ArgumentError
        A number out of range; in `update`, a pattern that matches no parameter.
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ArgumentError(f"AdamW: {name} must be at least 0 and below 1, got {beta}")
        if not 0 < eps < math.inf:
            raise ArgumentError(f"AdamW: eps must be greater than 0, got {eps}")
        self.eps = eps
        self._set_decay(weight_decay, decayed)

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        decaying = self._decaying(params)
        for key, lr in self._rates(params):
            if key in decaying:
                params[key] *= 1.0 - lr * self.weight_decay
        super().update(params, grads)

    def _epsilon(self) -> float:
        return self.eps * math.sqrt(1.0 - self.beta2**self.iter)


OPTIMIZERS: dict[str, type[_Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
"""The optimizers by the names that a Trainer takes, in lower case."""


def make_optimizer(name: str, settings: dict[str, Any]) -> Any:
    """Return the optimizer of this name, in any case, with its settings.

    Raises
    ------
    ArgumentError
        The name, or a setting, is not known.
    """
    known = ", ".join(OPTIMIZERS)
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        raise ArgumentError(f"unknown optimizer {name!r}; known: {known}")
    try:
        return OPTIMIZERS[name.lower()](**settings)
    except TypeError as error:
        raise ArgumentError(f"optimizer {name!r}: {error}") from error
