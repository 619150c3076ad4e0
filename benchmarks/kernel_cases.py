"""The kernel table as work to be measured: inputs, outputs, operations and bytes of each call.

Notation: N images, C channels; FN filters; D features, M units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from fastconv.backends.algorithms import choose
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import CHANNELS_FIRST, Activation, Backend
from fastconv.geometry import window_geometry

from .kernel_case import Arguments, Case, draw
from .kernel_cases_networks import activation, augmentation, averages, grouped, norm, response
from .shapes import (
    AVERAGES,
    DEEPCONVNET_POOLS,
    GROUPED,
    RESNET50_NORMS,
    SMALL_GROUPED,
    ConvShape,
    conv_shapes,
    small_conv_shapes,
)

__all__ = [
    "Call",
    "Case",
    "cases",
    "expected",
    "prepare",
    "smallest_of_each_kind",
    "winners_may_round",
]

REFERENCE = NumpyBackend()
LARGEST_COLUMNS = 1 << 28
"""Bytes of a column matrix, in float64, above which im2col and col2im are left out."""

EXACT = ("direct", "winograd2")
"""Algorithms that keep whole numbers exact."""

IN_PLACE = {"adam_update": ("param", "m", "v")}


@dataclass(frozen=True)
class Call:
    """A case made ready for a backend: call it as often as you like.

    Attributes
    ----------
    outputs : dict
        The arrays that it writes.
    moved : int
        Bytes, each input read once and each output written once.
    """

    function: Callable[..., Any]
    arguments: Arguments
    outputs: Arguments
    moved: int

    def __call__(self) -> Any:
        return self.function(**self.arguments)


def prepare(case: Case, backend: Backend, dtype: str, inputs: Arguments) -> Call:
    """Lay out the inputs as the backend wants them, and make room for the outputs."""
    last = backend.layout == "channels_last" and case.kernel not in CHANNELS_FIRST
    arguments: Arguments = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            kind = dtype if value.dtype.kind == "f" else value.dtype
            arguments[name] = room(value.shape, kind, last and name != "weight")
            arguments[name][...] = value
        else:
            arguments[name] = value
    outputs = {name: arguments[name] for name in IN_PLACE.get(case.kernel, ())}
    for name, shape in case.outputs.items():
        kind = np.uint8 if name in ("winner", "mask") else dtype
        outputs[name] = None if shape is None else room(shape, kind, last and name != "dweight")
    read = sum(a.nbytes for a in arguments.values() if isinstance(a, np.ndarray))
    written = sum(a.nbytes for a in outputs.values() if a is not None)
    return Call(getattr(backend, case.kernel), arguments | outputs, outputs, read + written)


def room(shape: tuple[int, ...], dtype: Any, channels_last: bool) -> np.ndarray:
    """Memory filled with zeros: pages that are only reserved would be timed with the kernel."""
    if len(shape) == 4 and channels_last:
        n, c, h, w = shape
        return np.full((n, h, w, c), 0, dtype).transpose(0, 3, 1, 2)
    return np.full(shape, 0, dtype)


def expected(case: Case, inputs: Arguments) -> Arguments:
    """What the reference backend computes in float64."""
    call = prepare(case, REFERENCE, "float64", inputs)
    call()
    return call.outputs


def winners_may_round(case: Case, backend: Backend, inputs: Arguments) -> bool:
    """Whether the backend's algorithm rounds what `winner` of this case is chosen by."""
    say = getattr(backend, "conv2d_algorithms", None)
    if case.places is None or say is None:
        return False
    algorithms = say(inputs["geometry"], len(inputs["weight"]), inputs["pool"])
    return algorithms.forward not in EXACT


def cases(full: bool) -> list[Case]:
    """Return every kernel on every shape of the suite, or on small ones of each kind."""
    convolutions = conv_shapes() if full else small_conv_shapes()
    pools = DEEPCONVNET_POOLS if full else ((2, 6, 8, 8),)
    # Behind a convolution and behind a fully connected layer of DeepConvNet.
    rows = ((100, 12544), (100, 50)) if full else ((4, 18),)
    affines = ((100, 1024, 50), (100, 50, 10)) if full else ((5, 20, 7),)
    found: list[Case] = []
    for shape in convolutions:
        found += [_conv_forward(shape), _conv_backward(shape)]
        if shape.network in ("deepconvnet", "small") and shape.stride == 1:
            found += [*_block(shape)]
    for shape in convolutions:
        columns = 8 * math.prod(shape.geometry.column_shape)
        # A 1x1 window is the image itself, transposed: nobody unfolds it.
        if shape.size > 1 and columns <= LARGEST_COLUMNS:
            found += [_im2col(shape), _col2im(shape)]
    for numbers in GROUPED if full else SMALL_GROUPED:
        found += grouped(*numbers)
    found += response(*((8, 96, 55, 55) if full else (2, 9, 4, 4)))
    for kind in get_args(Activation):
        found += activation(kind, 100 * 12544 if full else 72)
    for pool in pools:
        found += _pooling(pool)
    for shape, side in AVERAGES if full else (((2, 5, 6, 6), 3),):
        found += averages(shape, side)
    for affine in affines:
        found += _affine(*affine)
    for n, d in rows:
        found += _rows(n, d)
    for images in RESNET50_NORMS if full else ((2, 5, 6, 7),):
        found += norm(images)
    found += _softmax(*((100, 10) if full else (6, 10)))
    for size in (51200, 36864, 144) if full else (50,):
        found.append(_adam(size))
    for images in ((100, 1, 28, 28), (8, 3, 224, 224)) if full else ((3, 2, 6, 5),):
        found += augmentation(images)
    return found


def smallest_of_each_kind() -> list[Case]:
    """Of the full suite, the least work for each kernel by each algorithm."""
    least: dict[tuple[str, str], Case] = {}
    for case in sorted(cases(full=True), key=lambda case: (case.flops, case.written)):
        least.setdefault((case.kernel, case.kind), case)
    return list(least.values())


def _conv_flops(s: ConvShape) -> int:
    g = s.geometry
    return 2 * g.n * g.oh * g.ow * s.fn * g.c * g.window


def _conv_forward(s: ConvShape) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "x": draw(rng, *s.geometry.input_shape),
            "weight": draw(rng, s.fn, s.c, s.size, s.size),
            "bias": draw(rng, s.fn),
            "geometry": s.geometry,
        }

    outputs = {"out": s.geometry.output_shape(s.fn)}
    kind = f"{s.window}, {choose(s.geometry, s.fn, False, 'default').forward}"
    return Case("conv2d_forward", s.label, inputs, outputs, _conv_flops(s), kind)


def _conv_backward(s: ConvShape) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "dout": draw(rng, *s.geometry.output_shape(s.fn)),
            "x": draw(rng, *s.geometry.input_shape),
            "weight": draw(rng, s.fn, s.c, s.size, s.size),
            "geometry": s.geometry,
        }

    weight = (s.fn, s.c, s.size, s.size)
    outputs = {
        "dx": None if s.takes_images else s.geometry.input_shape,
        "dweight": weight,
        "dbias": (s.fn,),
    }
    ways = choose(s.geometry, s.fn, False, "default")
    kind = f"{s.window}, {ways.input_gradient}, {ways.weight_gradient}"
    products = 1 if s.takes_images else 2
    return Case("conv2d_backward", s.label, inputs, outputs, products * _conv_flops(s), kind)


def _block(s: ConvShape) -> Iterator[Case]:
    """Convolution and ReLU, and where DeepConvNet has it, max pooling."""
    n, fn, oh, ow = s.geometry.output_shape(s.fn)
    pool = s.c == s.fn
    label = f"{s.label}+relu" + "+pool" * pool
    shape = (n, fn, oh // 2, ow // 2) if pool else (n, fn, oh, ow)
    outputs = {"out": shape, "winner": shape if pool else None}

    def forward(rng: np.random.Generator) -> Arguments:
        # Whole numbers: ties come by themselves, and algorithms that keep them exact must break
        # them as the reference does.
        drawn = _conv_forward(s).inputs(rng) | {"residual": None, "relu": True, "pool": pool}
        return {k: np.rint(v) if isinstance(v, np.ndarray) else v for k, v in drawn.items()}

    def backward(rng: np.random.Generator) -> Arguments:
        inputs = forward(rng)
        out, winner = np.zeros(shape), np.zeros(shape, np.uint8) if pool else None
        REFERENCE.conv2d_block_forward(**inputs, out=out, winner=winner)
        for name in ("bias", "residual", "relu"):
            del inputs[name]
        return inputs | {"dout": draw(rng, *shape), "gate": winner if pool else out}

    def places(inputs: Arguments) -> np.ndarray:
        unpooled = np.zeros(s.geometry.output_shape(s.fn))
        plain = inputs | {"relu": False, "pool": False}
        REFERENCE.conv2d_block_forward(**plain, out=unpooled, winner=None)
        windows = unpooled[:, :, : oh // 2 * 2, : ow // 2 * 2].reshape(
            n, fn, oh // 2, 2, ow // 2, 2
        )
        # Place 4, "none of them", stands for 0.
        nothing = np.zeros((*shape, 1))
        return np.concatenate([windows.swapaxes(3, 4).reshape(*shape, 4), nothing], axis=-1)

    gradients, ways = _conv_backward(s), choose(s.geometry, s.fn, pool, "default")
    yield Case(
        "conv2d_block_forward",
        label,
        forward,
        outputs,
        _conv_flops(s),
        kind=f"{ways.forward}, pool {pool}",
        places=places if pool else None,
    )
    yield Case(
        "conv2d_block_backward",
        label,
        backward,
        gradients.outputs,
        gradients.flops,
        kind=f"{ways.input_gradient}, {ways.weight_gradient}, pool {pool}",
    )


def _im2col(s: ConvShape) -> Case:
    g = s.geometry
    return Case(
        "im2col",
        s.label,
        lambda rng: {"x": draw(rng, *g.input_shape), "geometry": g},
        {"col": g.column_shape},
        kind=s.window,
    )


def _col2im(s: ConvShape) -> Case:
    g = s.geometry
    return Case(
        "col2im",
        s.label,
        lambda rng: {"col": draw(rng, *g.column_shape), "geometry": g},
        {"x": g.input_shape},
        kind=s.window,
    )


def _pooling(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    g = window_geometry("benchmark", shape, 2, 2, 2, 0)
    out = g.output_shape(g.c)
    label = f"{g.c}@{g.h},2x2/2,N={g.n}"

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, *shape), "geometry": g}

    def backward(rng: np.random.Generator) -> Arguments:
        winner = np.zeros(out, np.uint8)
        REFERENCE.maxpool2d_forward(**forward(rng), out=np.zeros(out), winner=winner)
        return {"dout": draw(rng, *out), "winner": winner, "geometry": g}

    yield Case("maxpool2d_forward", label, forward, {"out": out, "winner": out})
    yield Case("maxpool2d_backward", label, backward, {"dx": shape})


def _affine(n: int, d: int, m: int) -> Iterator[Case]:
    label, flops = f"{n}x{d}->{m}", 2 * n * d * m

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d), "weight": draw(rng, d, m), "bias": draw(rng, m)}

    def backward(rng: np.random.Generator) -> Arguments:
        return {"dout": draw(rng, n, m), "x": draw(rng, n, d), "weight": draw(rng, d, m)}

    yield Case("affine_forward", label, forward, {"out": (n, m)}, flops)
    gradients = {"dx": (n, d), "dweight": (d, m), "dbias": (m,)}
    yield Case("affine_backward", label, backward, gradients, 2 * flops)


def _rows(n: int, d: int) -> Iterator[Case]:
    """ReLU and batch normalisation."""
    label, size = f"{n}x{d}", n * d

    def vectors(rng: np.random.Generator, *names: str) -> Arguments:
        return {name: np.abs(draw(rng, d)) + 0.5 for name in names} | {"epsilon": 1e-6}

    def infer(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d)} | vectors(rng, "gamma", "beta", "mean", "variance")

    def train(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d)} | vectors(rng, "gamma", "beta")

    def backward(rng: np.random.Generator) -> Arguments:
        arrays = {"dout": draw(rng, n, d), "normalized": draw(rng, n, d)}
        return arrays | vectors(rng, "gamma", "variance")

    def relu_backward(rng: np.random.Generator) -> Arguments:
        mask = (draw(rng, size) > 0).astype(np.uint8)
        return {"dout": draw(rng, size), "mask": mask}

    outputs = {"out": (size,), "mask": (size,)}
    yield Case("relu_forward", label, lambda rng: {"x": draw(rng, size)}, outputs)
    yield Case("relu_backward", label, relu_backward, {"dx": (size,)})
    outputs = {"out": (n, d), "normalized": (n, d), "mean": (d,), "variance": (d,)}
    yield Case("batchnorm_train", label, train, outputs)
    yield Case("batchnorm_infer", label, infer, {"out": (n, d)})
    outputs = {"dx": (n, d), "dgamma": (d,), "dbeta": (d,)}
    yield Case("batchnorm_backward", label, backward, outputs)


def _softmax(n: int, m: int) -> Iterator[Case]:
    label, labels = f"{n}x{m}", np.arange(n, dtype=np.int64) % m

    def forward(rng: np.random.Generator) -> Arguments:
        return {"scores": draw(rng, n, m), "labels": labels, "smoothing": 0.1}

    def backward(rng: np.random.Generator) -> Arguments:
        settings = {"labels": labels, "smoothing": 0.1, "scale": 1 / n}
        return {"probabilities": np.abs(draw(rng, n, m)), **settings}

    yield Case("softmax_cross_entropy_forward", label, forward, {"probabilities": (n, m)})
    yield Case("softmax_cross_entropy_backward", label, backward, {"dscores": (n, m)})


def _adam(size: int) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "param": draw(rng, size),
            "grad": draw(rng, size),
            "m": draw(rng, size),
            "v": np.abs(draw(rng, size)),
            "lr": 0.001,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-7,
        }

    return Case("adam_update", str(size), inputs, {})
