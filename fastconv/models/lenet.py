"""LeNet-5: the first network of this kind (LeCun et al. 1998), with ReLU and max pooling."""

from __future__ import annotations

from numpy.typing import DTypeLike

from ..geometry import window_geometry
from ..layers import Pooling, Relu
from ..network import Network
from .build import Builder, image_shape

__all__ = ["lenet"]


def lenet(
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    input_size: tuple[int, int] = (28, 28),
    dtype: DTypeLike = "float32",
    backend: str | None = None,
    seed: int | None = None,
    weight_init_std: str | float | None = None,
) -> Network:
    """LeNet-5, as today's libraries write it: 61,706 parameters for MNIST.

    Parameters
    ----------
    num_classes, in_channels : int
    input_size : (H, W)
        The first affine layer depends on it.
    dtype : float32 or float64
    backend : str, optional
        Backend of every layer; None follows the surrounding choice.
    seed : int, optional
        Of the initial weights; None draws from NumPy's global generator.
    weight_init_std : str or float, optional
        Of the first weights: 'he', 'xavier' or a standard deviation, for every layer; None: the
        model's own.

    Returns
    -------
    Network
        With the parameters ``conv1.weight`` to ``fc3.bias``.

    Raises
    ------
    ShapeError
        Images too small.
    """
    build = Builder("lenet", dtype, seed, weight_init_std)
    channels, height, width = image_shape("lenet", (in_channels, *input_size))
    # 28 x 28 is padded to the paper's 32 x 32.
    first = window_geometry("lenet convolution 1", (1, channels, height, width), 5, 5, 1, 2)
    second = window_geometry("lenet convolution 2", (1, 6, first.oh // 2, first.ow // 2), 5, 5)
    pooled = window_geometry("lenet pooling 2", (1, 16, second.oh, second.ow), 2, 2, 2)
    features = 16 * pooled.oh * pooled.ow
    layers = {
        "conv1": build.conv(channels, 6, 5, pad=2, bias=True),
        "relu1": Relu(),
        "pool1": Pooling(2, 2, stride=2),
        "conv2": build.conv(6, 16, 5, bias=True),
        "relu2": Relu(),
        "pool2": Pooling(2, 2, stride=2),
        "fc1": build.affine(features, 120),
        "relu3": Relu(),
        "fc2": build.affine(120, 84),
        "relu4": Relu(),
        "fc3": build.affine(84, build.count("num_classes", num_classes)),
    }
    return Network(layers, build.dtype, backend)
