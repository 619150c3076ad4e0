"""The caller's side of the kernel table's contract, as a check of each call.

`SHAPES` has one line for each kernel, with the shapes that the docstrings of
`fastconv.backends.table` give; dtypes come from the annotations there. `checked` wraps a kernel in
the check. With it a test suite runs on any backend, and an operation that passes what the contract
forbids fails at that call, instead of reading memory that is not its own.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..backends.calls import BFLOAT16
from ..backends.table import CHANNELS_FIRST, Backend

__all__ = ["ContractBroken", "Freedoms", "check_call", "checked", "output_shapes", "outputs"]

FILTERS = ("weight", "dweight")
"""Arrays of four axes that are no images."""

SHAPES = {
    "im2col": "x(N C H W) -> col(N*OH*OW C*FH*FW)",
    "col2im": "col(N*OH*OW C*FH*FW) -> x(N C H W)",
    "conv2d_forward": "x(N C H W) weight(FN C FH FW) bias(FN) -> out(N FN OH OW)",
    "conv2d_backward": (
        "dout(N FN OH OW) x(N C H W) weight(FN C FH FW) "
        "-> dx(N C H W) dweight(FN C FH FW) dbias(FN)"
    ),
    "conv2d_grouped_forward": ("x(N C H W) weight(FN C/groups FH FW) bias(FN) -> out(N FN OH OW)"),
    "conv2d_grouped_backward": (
        "dout(N FN OH OW) x(N C H W) weight(FN C/groups FH FW) "
        "-> dx(N C H W) dweight(FN C/groups FH FW) dbias(FN)"
    ),
    "conv2d_block_forward": (
        "x(N C H W) weight(FN C FH FW) bias(FN) residual(N FN OH OW) "
        "-> out(N FN OH/pool OW/pool) winner(N FN OH/pool OW/pool)"
    ),
    "conv2d_block_backward": (
        "dout(N FN OH/pool OW/pool) gate(N FN OH/pool OW/pool) x(N C H W) weight(FN C FH FW) "
        "-> dx(N C H W) dweight(FN C FH FW) dbias(FN)"
    ),
    "maxpool2d_forward": "x(N C H W) -> out(N C OH OW) winner(N C OH OW)",
    "maxpool2d_backward": "dout(N C OH OW) winner(N C OH OW) -> dx(N C H W)",
    "affine_forward": "x(N D) weight(D M) bias(M) -> out(N M)",
    "affine_backward": "dout(N M) x(N D) weight(D M) -> dx(N D) dweight(D M) dbias(M)",
    "relu_forward": "x(P) -> out(P) mask(P)",
    "relu_backward": "dout(P) mask(P) -> dx(P)",
    "activation_forward": "x(P) -> out(P)",
    "activation_backward": "dout(P) x(P) -> dx(P)",
    "batchnorm_train": ("x(N D) gamma(D) beta(D) -> out(N D) normalized(N D) mean(D) variance(D)"),
    "batchnorm_infer": "x(N D) gamma(D) beta(D) mean(D) variance(D) -> out(N D)",
    "batchnorm_backward": (
        "dout(N D) normalized(N D) gamma(D) variance(D) -> dx(N D) dgamma(D) dbeta(D)"
    ),
    "softmax_cross_entropy_forward": "scores(N M) labels(N) -> probabilities(N M)",
    "softmax_cross_entropy_backward": "probabilities(N M) labels(N) -> dscores(N M)",
    "adam_update": "grad(P) -> param(P) m(P) v(P)",
    "avgpool2d_forward": "x(N C H W) rows(OH 3) cols(OW 3) -> out(N C OH OW)",
    "avgpool2d_backward": "dout(N C OH OW) rows(OH 3) cols(OW 3) -> dx(N C H W)",
    "lrn_forward": "x(N C H W) -> out(N C H W) scale(N C H W)",
    "lrn_backward": "dout(N C H W) x(N C H W) scale(N C H W) -> dx(N C H W)",
    "batchnorm2d_statistics": "x(N C H W) -> mean(C) variance(C)",
    "batchnorm2d_apply": (
        "x(N C H W) centre(C) scale(C) shift(C) residual(N C H W) -> out(N C H W)"
    ),
    "batchnorm2d_backward": (
        "dout(N C H W) gate(N C H W) x(N C H W) mean(C) inv_std(C) gamma(C) "
        "-> dx(N C H W) dgamma(C) dbeta(C) dresidual(N C H W)"
    ),
    "warp": "x(N C H W) matrix(N 2 3) field(N 2 H W) -> out(N C H W)",
    "smooth": "x(N C H W) taps(K) -> out(N C H W)",
    "tone": "x(N C H W) gain(N) offset(N) boxes(N 4) -> out(N C H W)",
}
"""Arguments with their axes, outputs after the arrow; ``OH/pool`` is OH//2 with a pool."""

IN_PLACE = ("param", "m", "v")
"""Outputs of Adam's step, which are inputs as well."""

MUCH = 1 << 16
"""Bytes of an array from which on its sum tells whether a kernel has written into it."""

Arguments = dict[str, Any]
Sizes = dict[str, int]


class ContractBroken(AssertionError):
    """A call that the kernel table does not allow, or a kernel that wrote into an input."""


@functools.cache
def _axes(kernel: str) -> dict[str, tuple[str, ...]]:
    """The axes of each array of a kernel."""
    found = re.findall(r"(\w+)\(([^)]*)\)", SHAPES[kernel])
    return {name: tuple(axes.split()) for name, axes in found}


@functools.cache
def outputs(kernel: str) -> tuple[str, ...]:
    """Names of the arrays that a kernel writes."""
    return tuple(re.findall(r"(\w+)\(", SHAPES[kernel].partition("->")[2]))


@functools.cache
def _signature(kernel: str) -> inspect.Signature:
    return inspect.signature(getattr(Backend, kernel))


def _sizes(arguments: Arguments) -> Sizes:
    """The lengths of axes that the numbers among a call's arguments give."""
    sizes = {"groups": arguments.get("groups", 1), "pool": 1 + bool(arguments.get("pool"))}
    if (g := arguments.get("geometry")) is not None:
        sizes |= {"N": g.n, "C": g.c, "H": g.h, "W": g.w, "FH": g.fh, "FW": g.fw}
        sizes |= {"OH": g.oh, "OW": g.ow}
    return sizes


def _length(axis: str, sizes: Sizes) -> int:
    """An axis such as ``N``, ``N*OH*OW`` or ``C/groups``."""
    if axis in sizes:
        return sizes[axis]
    product, _, divisor = axis.partition("/")
    factors = (int(word) if word.isdecimal() else sizes[word] for word in product.split("*"))
    return math.prod(factors) // (sizes[divisor] if divisor else 1)


def _fit(kernel: str, arguments: Arguments) -> Iterator[str]:
    """What is wrong with the shapes of a call, and with sizes that may not be 0."""
    sizes = _sizes(arguments)
    for name, axes in _axes(kernel).items():
        array = arguments.get(name)
        if not isinstance(array, np.ndarray):
            continue
        for axis, length in zip(axes, array.shape, strict=False):
            if axis.isalpha():
                sizes.setdefault(axis, length)
        expected = tuple(_length(axis, sizes) for axis in axes)
        if array.shape != expected:
            yield f"{name} has shape {array.shape}, expected ({' '.join(axes)}) = {expected}"
    for axis in ("C", "FN", "D", "M"):
        if sizes.get(axis, 1) < 1:
            yield f"{axis} is 0"
    if sizes.get("C", 0) % sizes["groups"] or sizes.get("FN", 0) % sizes["groups"]:
        yield f"{sizes['groups']} groups do not divide the channels and filters"


def output_shapes(kernel: str, arguments: Arguments) -> dict[str, tuple[int, ...]]:
    """The shapes of a kernel's outputs, from its inputs.

    The dx of avgpool2d_backward has the shape in `arguments`: no input determines it.
    """
    sizes = _sizes(arguments)
    axes = _axes(kernel)
    for name, array in arguments.items():
        if isinstance(array, np.ndarray) and name in axes:
            sizes |= {a: n for a, n in zip(axes[name], array.shape, strict=True) if a.isalpha()}
    shapes = {}
    for name in outputs(kernel):
        if name in IN_PLACE or (name == "winner" and not arguments.get("pool", True)):
            continue
        given = arguments.get(name)
        shapes[name] = given if given else tuple(_length(axis, sizes) for axis in axes[name])
    return shapes


def output_dtype(
    kernel: str, name: str, arguments: Arguments, real: np.dtype[Any]
) -> np.dtype[Any]:
    """The dtype of an array, `real` being that of the call."""
    kind = str(_signature(kernel).parameters[name].annotation)
    if name == "gate":
        return np.dtype(np.uint8) if arguments.get("pool") else real
    if "Bytes" in kind:
        pooled = kernel.startswith("maxpool2d")
        return np.dtype(np.int32 if pooled and arguments["geometry"].window > 256 else np.uint8)
    return real if "Array" in kind else np.dtype(np.int64)


class Freedoms(NamedTuple):
    """What a backend says that its kernels can do, though not all must.

    Attributes
    ----------
    into_channels : collection of str
        Kernels that write between others' channels; see `fastconv.backends.calls`.
    winner_is_optional : bool
        Whether it pools without positions.
    bfloat16_images : mapping of str to collection of str
        Kernels, with their images that may lie in memory as bfloat16s.
    """

    into_channels: Collection[str] = ()
    winner_is_optional: bool = False
    bfloat16_images: Mapping[str, Collection[str]] = MappingProxyType({})

    @classmethod
    def of(cls, backend: Any) -> Freedoms:
        """Those of a backend."""
        return cls(
            getattr(backend, "into_channels", ()),
            getattr(backend, "winner_is_optional", False),
            getattr(backend, "bfloat16_images", {}),
        )


NO_FREEDOMS = Freedoms()


def check_call(
    kernel: str, layout: str, arguments: Arguments, freedoms: Freedoms = NO_FREEDOMS
) -> None:
    """Raise `ContractBroken` if these arguments are not what a kernel may rely on.

    Parameters
    ----------
    kernel : str
    layout : {"channels_first", "channels_last"}
        Of the backend.
    arguments : dict
        All of the call, by name.
    freedoms : Freedoms
        Of the backend.
    """
    for wrong in _wrong(kernel, layout, arguments, freedoms):
        raise ContractBroken(f"{kernel}: {wrong}")


def _wrong(kernel: str, layout: str, arguments: Arguments, freedoms: Freedoms) -> Iterator[str]:
    arrays: dict[str, np.ndarray] = {}
    for name in _axes(kernel):
        array = arguments[name]
        if array is None:
            needed = kernel == "maxpool2d_forward" and not freedoms.winner_is_optional
            if needed or "None" not in str(_signature(kernel).parameters[name].annotation):
                yield f"{name} is missing"
        elif type(array) is not np.ndarray:
            yield f"{name} is a {type(array).__name__}, no array"
        else:
            arrays[name] = array
    narrow = _narrow(kernel, arrays, freedoms)
    reals = {array.dtype for array in arrays.values() if array.dtype.kind == "f"}
    if narrow and not reals:  # no other array says of which dtype the call is
        reals = {np.dtype(np.float32)}
    if reals not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        yield f"dtypes {', '.join(map(str, reals))}, expected float32 or float64 alone"
    (real,) = reals
    yield from _fit(kernel, arguments)
    for name, array in arrays.items():
        wanted = output_dtype(kernel, name, arguments, real)
        if name in narrow and real == np.float32:
            wanted = BFLOAT16
            if array.shape[1] % 2 or array.ctypes.data % 4:
                yield f"{name} {array.shape} has bfloat16s that are no pairs"
        if array.dtype != wanted or not array.dtype.isnative:
            yield f"{name} has dtype {array.dtype!r}, expected {wanted}"
        images = array.ndim == 4 and name not in FILTERS and kernel not in CHANNELS_FIRST
        last = images and layout == "channels_last"
        dense = array.transpose(0, 2, 3, 1) if last else array
        if last and name == "out" and kernel in freedoms.into_channels and _is_alone(arguments):
            dense = _with_others(dense)
        if not dense.flags.c_contiguous or not dense.flags.aligned:
            yield f"{name} {array.shape} has strides {array.strides}, not the layout {layout}"
    for name in outputs(kernel):
        if name not in arrays:
            continue
        if not arrays[name].flags.writeable:
            yield f"{name} is read-only"
        for other, array in arrays.items():
            if other != name and np.may_share_memory(arrays[name], array):
                yield f"{name} overlaps {other}"
    yield from _out_of_range(arguments, arrays)


def _narrow(kernel: str, arrays: dict[str, np.ndarray], freedoms: Freedoms) -> set[str]:
    """Images of bfloat16s, where the backend takes such."""
    allowed = () if "winner" in arrays else freedoms.bfloat16_images.get(kernel, ())
    return {name for name in allowed if name in arrays and arrays[name].dtype == BFLOAT16}


def _is_alone(arguments: Arguments) -> bool:
    """Whether `out` is all that a kernel writes, and has no twin that it reads."""
    return not any(
        arguments.get(name) is not None and arguments[name] is not False
        for name in ("residual", "winner", "pool")
    )


def _with_others(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) with the channels that lie beside theirs in memory."""
    *others, channels = images.shape
    apart = [s for s, length in zip(images.strides, others, strict=False) if length > 1]
    if apart:
        channels = max(channels, apart[-1] // images.itemsize)
    return np.lib.stride_tricks.as_strided(images, (*others, channels), writeable=False)


def _out_of_range(arguments: Arguments, arrays: dict[str, np.ndarray]) -> Iterator[str]:
    """What is wrong with the numbers by which a kernel finds places in memory."""
    g = arguments.get("geometry")
    labels = arrays.get("labels")
    if labels is not None and labels.size:
        classes = arrays["probabilities"].shape[1]
        if labels.min() < 0 or labels.max() >= classes:
            yield f"labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}"
    if "taps" in arrays and len(arrays["taps"]) % 2 == 0:
        yield f"{len(arrays['taps'])} taps, expected an odd number"
    if "winner" in arrays and "dout" in arrays and arrays["winner"].size:
        most = arrays["winner"].max()
        if g is not None and most >= g.window:
            yield f"winner {most} of a window of {g.window} places"
    for name, axis in (("rows", 2), ("cols", 3)):
        if name in arrays:
            begin, end, divisor = arrays[name].T
            images = arrays.get("dx", arrays.get("x"))
            most = images.shape[axis] if images is not None else 0
            if np.any(begin < 0) or np.any(begin > end) or np.any(end > most):
                yield f"{name} reach beyond 0 to {most}"
            if np.any(divisor < 1) or np.any(np.diff(begin) < 0) or np.any(np.diff(end) < 0):
                yield f"{name} decrease, or divide by less than 1"


class _Running(threading.local):
    """The checked kernel that a thread is in."""

    kernel: str | None = None


_running = _Running()


def checked(
    function: Callable[..., Any], kernel: str, layout: str, freedoms: Freedoms = NO_FREEDOMS
) -> Callable[..., Any]:
    """A kernel with the contract checked at each call.

    Its outputs start as garbage, which shows places that it leaves out, and it may write nothing
    else. Calls that a kernel makes of the backend's other kernels are not checked.
    """
    signature = _signature(kernel)

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        if _running.kernel is not None:
            return function(*given, **named)
        arguments = dict(signature.bind(None, *given, **named).arguments)
        check_call(kernel, layout, arguments, freedoms)
        written = outputs(kernel)
        before = {}
        for name in _axes(kernel):
            array = arguments[name]
            if array is not None and name not in written:
                before[name] = _checksum(array)
            elif array is not None and name not in IN_PLACE:
                array[...] = np.nan if array.dtype.kind == "f" else 0x5A
        _running.kernel = kernel
        try:
            result = function(*given, **named)
        finally:
            _running.kernel = None
        for name, checksum in before.items():
            if _checksum(arguments[name]) != checksum:
                raise ContractBroken(f"{kernel}: wrote into its input {name}")
        return result

    return call


def _checksum(array: np.ndarray) -> int:
    if array.ndim == 4 and not array.flags.c_contiguous:
        array = array.transpose(0, 2, 3, 1)
    data = array.reshape(-1).view(np.uint8)
    if data.size < MUCH or data.size % 8:
        return zlib.crc32(data.data)
    return int(np.add.reduce(data.view(np.uint64)))
