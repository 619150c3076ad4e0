"""The convolutions that are measured: DeepConvNet's, VGG-16's, ResNet-50's, GoogLeNet's.

Sources: VGG arXiv:1409.1556, ResNet arXiv:1512.03385 (with the stride in the 3x3
convolution, as today's libraries have it), GoogLeNet arXiv:1409.4842, table 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fastconv.geometry import WindowGeometry, window_geometry

__all__ = ["IMAGES", "LARGE_IMAGES", "ConvShape", "conv_shapes", "small_conv_shapes"]

IMAGES, LARGE_IMAGES = 100, 8
"""Batch of DeepConvNet, and of the networks that take 224 x 224 images."""


@dataclass(frozen=True)
class ConvShape:
    """A convolution of a square image: C channels to FN filters of size x size."""

    network: str
    n: int
    c: int
    side: int
    fn: int
    size: int
    stride: int
    pad: int

    @property
    def label(self) -> str:
        """For example ``vgg16:64@224->128,3x3``."""
        return f"{self.network}:{self.c}@{self.side}->{self.fn},{self.window}"

    @property
    def window(self) -> str:
        """For example ``7x7/2``; a stride of 1 is not said."""
        return f"{self.size}x{self.size}" + f"/{self.stride}" * (self.stride > 1)

    @property
    def geometry(self) -> WindowGeometry:
        """The numbers as a backend takes them."""
        shape = (self.n, self.c, self.side, self.side)
        return window_geometry("benchmark", shape, self.size, self.size, self.stride, self.pad)

    @property
    def takes_images(self) -> bool:
        """Whether this is a first layer, of which nobody needs the input's gradient."""
        return self.c in (1, 3)


# C, H = W, FN, pad of the 3x3 convolutions.
DEEPCONVNET = ((1, 28, 16, 1), (16, 28, 16, 1), (16, 14, 32, 1), (32, 14, 32, 2))
DEEPCONVNET += ((32, 8, 64, 1), (64, 8, 64, 1))

# C, H = W, FN.
VGG16 = ((3, 224, 64), (64, 224, 64), (64, 112, 128), (128, 112, 128), (128, 56, 256))
VGG16 += ((256, 56, 256), (256, 28, 512), (512, 28, 512), (512, 14, 512))

# C, H = W, FN, stride.
RESNET50_3X3 = ((64, 56, 64, 1), (128, 56, 128, 2), (128, 28, 128, 1), (256, 28, 256, 2))
RESNET50_3X3 += ((256, 14, 256, 1), (512, 14, 512, 2), (512, 7, 512, 1))
RESNET50_1X1 = ((64, 56, 64, 1), (64, 56, 256, 1), (256, 56, 64, 1), (256, 56, 128, 1))
RESNET50_1X1 += ((256, 56, 512, 2), (128, 28, 512, 1), (512, 28, 128, 1), (512, 28, 256, 1))
RESNET50_1X1 += ((512, 28, 1024, 2), (256, 14, 1024, 1), (1024, 14, 256, 1), (1024, 14, 512, 1))
RESNET50_1X1 += ((1024, 14, 2048, 2), (512, 7, 2048, 1), (2048, 7, 512, 1))

# H = W, C, then the filters: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after the pool.
INCEPTIONS = (
    (28, 192, 64, 96, 128, 16, 32, 32),
    (28, 256, 128, 128, 192, 32, 96, 64),
    (14, 480, 192, 96, 208, 16, 48, 64),
    (14, 512, 160, 112, 224, 24, 64, 64),
    (14, 512, 128, 128, 256, 24, 64, 64),
    (14, 512, 112, 144, 288, 32, 64, 64),
    (14, 528, 256, 160, 320, 32, 128, 128),
    (7, 832, 256, 160, 320, 32, 128, 128),
    (7, 832, 384, 192, 384, 48, 128, 128),
)


def conv_shapes() -> list[ConvShape]:
    """Return every distinct convolution; one that two networks share goes by the first."""
    distinct: dict[tuple[int, ...], ConvShape] = {}
    for s in (*_deepconvnet(), *_vgg16(), *_resnet50(), *_googlenet()):
        distinct.setdefault((s.n, s.c, s.side, s.fn, s.size, s.stride, s.pad), s)
    return list(distinct.values())


def small_conv_shapes() -> list[ConvShape]:
    """Return one small convolution of each kind, for tests, which time nothing."""
    return [
        ConvShape("small", 2, 3, 12, 8, 7, 2, 3),
        ConvShape("small", 2, 4, 9, 24, 5, 1, 2),
        ConvShape("small", 3, 16, 10, 32, 3, 1, 1),
        ConvShape("small", 2, 20, 7, 16, 1, 1, 0),
    ]


def _deepconvnet() -> Iterator[ConvShape]:
    for c, side, fn, pad in DEEPCONVNET:
        yield ConvShape("deepconvnet", IMAGES, c, side, fn, 3, 1, pad)


def _vgg16() -> Iterator[ConvShape]:
    for c, side, fn in VGG16:
        yield ConvShape("vgg16", LARGE_IMAGES, c, side, fn, 3, 1, 1)


def _resnet50() -> Iterator[ConvShape]:
    yield ConvShape("resnet50", LARGE_IMAGES, 3, 224, 64, 7, 2, 3)
    for c, side, fn, stride in RESNET50_3X3:
        yield ConvShape("resnet50", LARGE_IMAGES, c, side, fn, 3, stride, 1)
    for c, side, fn, stride in RESNET50_1X1:
        yield ConvShape("resnet50", LARGE_IMAGES, c, side, fn, 1, stride, 0)


def _googlenet() -> Iterator[ConvShape]:
    def conv(c: int, side: int, fn: int, size: int) -> ConvShape:
        return ConvShape("googlenet", LARGE_IMAGES, c, side, fn, size, 1, size // 2)

    yield conv(64, 56, 64, 1)
    yield conv(64, 56, 192, 3)
    for side, c, one, reduce3, three, reduce5, five, pool in INCEPTIONS:
        for fn in (one, reduce3, reduce5, pool):
            yield conv(c, side, fn, 1)
        yield conv(reduce3, side, three, 3)
        yield conv(reduce5, side, five, 5)
