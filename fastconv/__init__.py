"""fastconv: the CNN of *Deep Learning from Scratch* at the hardware's speed.

The book's layers, networks and Trainer, on backends that can be switched: the
NumPy reference, Numba kernels, Cython kernels. Nothing else changes::

    import fastconv
    from fastconv.trainer import Trainer

    (x_train, t_train), (x_test, t_test) = fastconv.datasets.load_digits()
    network = fastconv.DeepConvNet()
    with fastconv.use_backend("numba"):
        Trainer(network, x_train, t_train, x_test, t_test, epochs=2, optimizer="Adam").train()
"""

from . import datasets, errors, functions, gradient, layers, optimizer, trainer, util
from ._version import __version__
from .config import get_num_threads, set_num_threads
from .info import show_config
from .models import DeepConvNet
from .selection import get_backend, list_backends, set_backend, use_backend
from .trainer import Trainer

__all__ = [
    "DeepConvNet",
    "Trainer",
    "__version__",
    "datasets",
    "errors",
    "functions",
    "get_backend",
    "get_num_threads",
    "gradient",
    "layers",
    "list_backends",
    "optimizer",
    "set_backend",
    "set_num_threads",
    "show_config",
    "trainer",
    "use_backend",
    "util",
]
