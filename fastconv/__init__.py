"""fastconv: the CNN of *Deep Learning from Scratch* at the hardware's speed.

The book's layers, networks and Trainer, on backends that can be switched: the
NumPy reference, Numba kernels, Cython kernels. Nothing else changes::

    import fastconv
    from fastconv.trainer import Trainer

    (x_train, t_train), (x_test, t_test) = fastconv.datasets.load_digits(flatten=False)
    network = fastconv.DeepConvNet()
    trainer = Trainer(network, x_train, t_train, x_test, t_test, epochs=5,
                      optimizer="Adam", optimizer_param={"lr": 0.001})
    with fastconv.use_backend("numba"):
        trainer.train()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .moved import find_earlier_modules

if TYPE_CHECKING:
    from . import datasets, errors, functions, gradient, io, layers, optimizer, trainer, util
    from .config import get_math_mode, get_num_threads, set_math_mode, set_num_threads
    from .dropin import (
        install,
        is_installed,
        load_ipython_extension,
        report,
        stats,
        uninstall,
        unload_ipython_extension,
    )
    from .experiment.trained import load_prepared
    from .info import show_config
    from .models import DeepConvNet
    from .selection import get_backend, list_backends, set_backend, use_backend
    from .trainer import Trainer
    from .training.augment import Augmentation

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
    "load_prepared",
    "optimizer",
    "report",
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


_CONFIG = ("get_math_mode", "get_num_threads", "set_math_mode", "set_num_threads")
_SELECTION = ("get_backend", "list_backends", "set_backend", "use_backend")
_DROPIN = (
    *("install", "is_installed", "report", "stats", "uninstall"),
    *("load_ipython_extension", "unload_ipython_extension"),
)

_HOMES = {
    "Augmentation": "training.augment",
    "DeepConvNet": "models",
    "Trainer": "trainer",
    "load_prepared": "experiment.trained",
    "show_config": "info",
    **dict.fromkeys(_CONFIG, "config"),
    **dict.fromkeys(_SELECTION, "selection"),
    **dict.fromkeys(_DROPIN, "dropin"),
}
"""The modules of the names above that are not modules themselves."""


def __getattr__(name: str) -> Any:
    # Modules are imported when they are first named, so Ctrl-C works before NumPy is loaded.
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    if not name.startswith("_"):
        module = f"{__name__}.{name}"
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


find_earlier_modules()
