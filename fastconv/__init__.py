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

from typing import TYPE_CHECKING, Any

from . import datasets, errors, functions, gradient, io, layers, optimizer, trainer, util
from ._version import __version__
from .augment import Augmentation
from .config import get_math_mode, get_num_threads, set_math_mode, set_num_threads
from .info import show_config
from .models import DeepConvNet
from .selection import get_backend, list_backends, set_backend, use_backend
from .trainer import Trainer

if TYPE_CHECKING:
    from .dropin import (
        install,
        is_installed,
        load_ipython_extension,
        stats,
        uninstall,
        unload_ipython_extension,
    )

__all__ = [
    "Augmentation",
    "DeepConvNet",
    "Trainer",
    "__version__",
    "datasets",
    "errors",
    "functions",
    "get_backend",
    "get_math_mode",
    "get_num_threads",
    "gradient",
    "install",
    "io",
    "is_installed",
    "layers",
    "list_backends",
    "load_ipython_extension",
    "optimizer",
    "set_backend",
    "set_math_mode",
    "set_num_threads",
    "show_config",
    "stats",
    "trainer",
    "uninstall",
    "unload_ipython_extension",
    "use_backend",
    "util",
]


def __getattr__(name: str) -> Any:
    # Names of the drop-in, which most programs do not import.
    if name in __all__:
        from . import dropin

        return getattr(dropin, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
