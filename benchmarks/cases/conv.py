"""Convolutions, alone and with the ReLU and max pooling that follow them in a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastconv.backends.algorithms import choose

from ..shapes import ConvShape, conv_shapes, small_conv_shapes
from .case import REFERENCE, Arguments, Case, draw

__all__ = ["cases"]


def cases(full: bool) -> Iterator[Case]:
    for shape in conv_shapes() if full else small_conv_shapes():
        yield _forward(shape)
        yield _backward(shape)
        if shape.network in ("deepconvnet", "small") and shape.stride == 1:
            yield from _block(shape)


def _flops(s: ConvShape) -> int:
    g = s.geometry
    return 2 * g.n * g.oh * g.ow * s.fn * g.c * g.window


def _forward(s: ConvShape) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "x": draw(rng, *s.geometry.input_shape),
            "weight": draw(rng, s.fn, s.c, s.size, s.size),
            "bias": draw(rng, s.fn),
            "geometry": s.geometry,
        }

    outputs = {"out": s.geometry.output_shape(s.fn)}
    kind = f"{s.window}, {choose(s.geometry, s.fn, False, 'default').forward}"
    return Case("conv2d_forward", s.label, inputs, outputs, _flops(s), kind)


def _backward(s: ConvShape) -> Case:
    def inputs(rng: np.random.Generator) -> Arguments:
        return {
            "dout": draw(rng, *s.geometry.output_shape(s.fn)),
            "x": draw(rng, *s.geometry.input_shape),
            "weight": draw(rng, s.fn, s.c, s.size, s.size),
            "geometry": s.geometry,
        }

    outputs = {
        "dx": None if s.takes_images else s.geometry.input_shape,
        "dweight": (s.fn, s.c, s.size, s.size),
        "dbias": (s.fn,),
    }
    chosen = choose(s.geometry, s.fn, False, "default")
    kind = f"{s.window}, {chosen.input_gradient}, {chosen.weight_gradient}"
    products = 1 if s.takes_images else 2
    return Case("conv2d_backward", s.label, inputs, outputs, products * _flops(s), kind)


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
        drawn = _forward(s).inputs(rng) | {"residual": None, "relu": True, "pool": pool}
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

    gradients, chosen = _backward(s), choose(s.geometry, s.fn, pool, "default")
    yield Case(
        "conv2d_block_forward",
        label,
        forward,
        outputs,
        _flops(s),
        kind=f"{chosen.forward}, pool {pool}",
        places=places if pool else None,
    )
    yield Case(
        "conv2d_block_backward",
        label,
        backward,
        gradients.outputs,
        gradients.flops,
        kind=f"{chosen.input_gradient}, {chosen.weight_gradient}, pool {pool}",
    )
