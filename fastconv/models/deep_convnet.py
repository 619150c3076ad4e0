"""DeepConvNet: the network of chapter 8 of *Deep Learning from Scratch*."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..errors import ArgumentError
from ..geometry import as_int, window_geometry
from ..layers import Dropout, Layer, Pooling, Relu
from ..network import Network
from .build import Builder

__all__ = ["DeepConvNet"]


CONV_16 = {"filter_num": 16, "filter_size": 3, "pad": 1, "stride": 1}
CONV_32 = {"filter_num": 32, "filter_size": 3, "pad": 1, "stride": 1}
CONV_32_PAD_2 = {"filter_num": 32, "filter_size": 3, "pad": 2, "stride": 1}
CONV_64 = {"filter_num": 64, "filter_size": 3, "pad": 1, "stride": 1}


class DeepConvNet(Network):
    """Six convolutions, three poolings, two affine layers; 99.38 % on MNIST in the book.

    ::

        conv relu conv relu pool | conv relu conv relu pool | conv relu conv relu pool |
        affine relu dropout affine dropout | softmax loss

    Parameters
    ----------
    input_dim : (C, H, W)
        Shape of one image.
    conv_param_1, ..., conv_param_6 : dict
        ``filter_num, filter_size, pad, stride`` of each convolution. By default 16, 16,
        32, 32, 64, 64 filters of 3x3, stride 1, pad 1, and pad 2 in the fourth.
    hidden_size, output_size : int
        Units of the two affine layers.
    dtype : float32 or float64
        Of the parameters and the computation; float64 reproduces the book's numbers.
    backend : str, optional
        Backend of every layer; None follows the surrounding choice.
    seed : int, optional
        Draw the weights as ``np.random.seed(seed)`` would, without touching NumPy's
        global generator. None draws from the global generator.
    weight_init_std : str or float, optional
        Of the first weights: 'he', 'xavier' or a standard deviation, for every layer; None: the
        model's own.

    Raises
    ------
    ArgumentError, ShapeError
        A parameter missing or out of range, or an image too small for the network.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (1, 28, 28),
        conv_param_1: dict[str, int] = CONV_16,
        conv_param_2: dict[str, int] = CONV_16,
        conv_param_3: dict[str, int] = CONV_32,
        conv_param_4: dict[str, int] = CONV_32_PAD_2,
        conv_param_5: dict[str, int] = CONV_64,
        conv_param_6: dict[str, int] = CONV_64,
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        dtype: DTypeLike = "float32",
        backend: str | None = None,
        seed: int | None = None,
        weight_init_std: str | float | None = None,
    ) -> None:
        build = Builder("DeepConvNet", dtype, seed, weight_init_std)
        if len(input_dim) != 3:
            raise ArgumentError(f"DeepConvNet: input_dim must be (C, H, W), got {input_dim!r}")
        channels, height, width = input_dim
        conv_params = [
            conv_param_1,
            conv_param_2,
            conv_param_3,
            conv_param_4,
            conv_param_5,
            conv_param_6,
        ]

        layers: list[Layer] = []
        for number, param in enumerate(conv_params, start=1):
            filters, size, pad, stride = _conv_numbers(f"conv_param_{number}", param)
            convolution = build.conv(channels, filters, size, stride, pad, bias=True, fan_in=True)
            layers += [convolution, Relu()]
            image = (1, channels, height, width)
            windows = window_geometry(
                f"DeepConvNet convolution {number}", image, size, size, stride, pad
            )
            channels, height, width = filters, windows.oh, windows.ow
            if number % 2 == 0:
                layers.append(Pooling(pool_h=2, pool_w=2, stride=2))
                image = (1, channels, height, width)
                windows = window_geometry(f"DeepConvNet pooling {number // 2}", image, 2, 2, 2)
                height, width = windows.oh, windows.ow

        features = channels * height * width
        hidden = as_int("DeepConvNet", "hidden_size", hidden_size, 1)
        classes = as_int("DeepConvNet", "output_size", output_size, 1)
        layers += [build.affine(features, hidden), Relu(), Dropout(0.5)]
        layers += [build.affine(hidden, classes), Dropout(0.5)]
        super().__init__(layers, build.dtype, backend)


def _conv_numbers(name: str, param: dict[str, int]) -> tuple[int, int, int, int]:
    """(filter_num, filter_size, pad, stride) of one convolution, checked."""
    keys = {"filter_num": 1, "filter_size": 1, "pad": 0, "stride": 1}
    if set(param) != set(keys):
        raise ArgumentError(
            f"DeepConvNet: {name} must have exactly {', '.join(keys)}, got {', '.join(param)}"
        )
    filters, size, pad, stride = (
        as_int(f"DeepConvNet {name}", key, param[key], least) for key, least in keys.items()
    )
    return filters, size, pad, stride
