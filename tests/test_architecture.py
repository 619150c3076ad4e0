"""The rules of the house, read from the source: who imports whom, what import costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from fastconv.backends.table import KERNELS

from .conftest import ROOT

PACKAGE = ROOT / "fastconv"
SOURCES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = {"errors", "geometry", "console"}
BACKENDS = FOUNDATION | {"backends"}
CHOICE = BACKENDS | {"config", "selection"}
OPS = CHOICE | {"ops"}
LAYERS = OPS | {"functions", "util", "randomness", "layers"}
NETWORK = LAYERS | {"limits", "room", "io", "exclusive", "parameters", "plan", "runs", "network"}
MODELS = NETWORK | {"models"}
WEIGHTS = {"learned", "averaging", "validation", "run_weights", "checkpoint"}
TRAINER = MODELS | WEIGHTS | {"optimizer", "optimizer_base", "parameter_groups", "clipping"}
TRAINER |= {"batches", "progress", "detached", "trainer"}
DATA = FOUNDATION | {"limits", "config", "room", "io", "progress", "datasets"}
MAY_IMPORT = {
    "errors": set(),
    "geometry": FOUNDATION,
    "console": {"errors"},
    "backends": BACKENDS,
    "limits": set(),
    "config": BACKENDS | {"limits", "config"},
    "selection": CHOICE,
    "ops": OPS,
    "augment": OPS,
    "views": OPS,
    "randomness": set(),
    "progress": {"errors"},
    "batches": {"config", "errors", "randomness"},
    "functions": OPS,
    "util": OPS,
    "gradient": {"errors"},
    "layers": LAYERS,
    "room": {"errors", "limits"},
    "io": LAYERS | {"_version", "limits", "room", "io"},
    "parameter_groups": {"errors"},
    "optimizer": OPS | {"optimizer_base"},
    "optimizer_base": OPS | {"learned", "parameter_groups"},
    "schedules": {"errors"},
    "recipes": {"errors", "io"},
    "clipping": set(),
    "learned": OPS,
    "averaging": FOUNDATION | {"learned"},
    "validation": OPS | {"learned"},
    "run_weights": FOUNDATION | WEIGHTS - {"checkpoint"},
    "checkpoint": FOUNDATION | WEIGHTS | {"batches", "io", "optimizer_base"},
    "exclusive": {"errors"},
    "parameters": OPS,
    "detached": LAYERS | {"parameters"},
    "runs": LAYERS,
    "plan": LAYERS | {"plan", "runs"},
    "network": NETWORK | {"learned"},
    "models": MODELS,
    "trainer": TRAINER,
    "info": LAYERS | {"plan", "runs", "_version"},
    "testing": CHOICE | {"testing"},
    "datasets": DATA,
    "figures": DATA,
    "profiling": LAYERS,
    "dropin": TRAINER | DATA | {"profiling"},
}
"""For each room, the rooms that it may know. Rooms above (the command line) may know all."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Full names of all modules that the file imports, anywhere in it."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            # `from . import x` imports the module x; `from .x import y` may, too.
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def room(module: str) -> str:
    """The part of fastconv that a module belongs to: ``fastconv.ops.images`` to ``ops``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_one_way(path):
    own = room(module_name(path))
    if own not in MAY_IMPORT:
        return
    known = {name for name in imported(path) if name.split(".")[0] == "fastconv"}
    allowed = MAY_IMPORT[own] | {own}
    wrong = sorted(name for name in known if room(name) not in allowed)
    assert not wrong, f"{module_name(path)} may not import {', '.join(wrong)}"


def test_every_room_is_in_the_plan():
    """A new room must be placed: below, in the table, or above, among these."""
    above = {"", "__main__", "_version", "evaluation", "run_folder", "run_data", "training_run"}
    above |= {"warmup", "ensemble", "ensemble_run", "summary", "drawing", "transfer"}
    above |= {room(module_name(path)) for path in SOURCES if path.stem.split("_")[0] == "cli"}
    rooms = {room(module_name(path)) for path in SOURCES}
    assert rooms - above == set(MAY_IMPORT)


def test_the_plan_can_be_broken(tmp_path):
    """The reader of imports sees relative, absolute and late ones."""
    code = "from ..ops import images\nimport fastconv.trainer\ndef f():\n    from . import base\n"
    path = PACKAGE / "backends" / "imagined.py"
    source = tmp_path / "imagined.py"
    source.write_text(code)

    class Elsewhere(type(path)):  # a path that reads from another file
        def read_text(self, encoding=None):
            return source.read_text()

    seen = imported(Elsewhere(path))
    assert seen == {"fastconv.ops.images", "fastconv.trainer", "fastconv.backends.table"}


def code_tokens(path: Path):
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type not in (tokenize.COMMENT, tokenize.STRING):
                yield token


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_records_read_and_write_json(path):
    """So that nothing that is read goes unchecked, and what is written is JSON: it has no NaN."""
    if path.name != "records.py":
        assert "json" not in imported(path)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_config_reads_the_environment(path):
    words = {token.string for token in code_tokens(path)}
    if path.name != "config.py":
        assert not words & {"environ", "environb", "getenv", "putenv"}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_layer_names_a_backend(path):
    """Names of backends are for the registry, and for those who choose one."""
    if room(module_name(path)) not in (
        "layers",
        "network",
        "ops",
        "models",
        "optimizer",
        "trainer",
    ):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    words = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node not in docstrings
    }
    assert not words & {"numpy", "numba", "cython"}


def test_import_is_light():
    """Nothing that is not needed yet: no compiler, no plotting, no data libraries."""
    heavy = "numba llvmlite matplotlib sklearn scipy pooch tqdm PIL tkinter torch threadpoolctl"
    code = (
        "import sys, fastconv\n"
        f"loaded = [name for name in {heavy.split()!r} if name in sys.modules]\n"
        "loaded += [name for name, module in sys.modules.items() if name.startswith('fastconv')\n"
        "           and (getattr(module, '__file__', '') or '').endswith(('.so', '.pyd'))]\n"
        "print(' '.join(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == []


def public_modules() -> list[str]:
    private = ("_numba", "_cython", "__main__")
    names = [module_name(path) for path in SOURCES]
    return [name for name in names if not any(part in name.split(".") for part in private)]


@pytest.mark.parametrize("name", public_modules())
def test_public_names_exist_and_have_docstrings(name):
    if name.startswith("fastconv.backends.numba_"):
        pytest.importorskip("numba")
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    for public in getattr(module, "__all__", ()):
        value = getattr(module, public)
        own = getattr(value, "__module__", "").startswith("fastconv")
        if not own or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert value.__doc__, f"{name}.{public} has no docstring"
        if inspect.isclass(value) and not public.endswith("Backend"):
            for method, function in vars(value).items():
                if method in KERNELS:  # described in base.py, for every backend
                    continue
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert function.__doc__, f"{name}.{public}.{method} has no docstring"


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_all_of_the_books_names_are_where_a_script_looks():
    books = {
        "functions": "identity_function step_function sigmoid sigmoid_grad relu relu_grad softmax "
        "mean_squared_error sum_squared_error cross_entropy_error softmax_loss",
        "util": "smooth_curve shuffle_dataset conv_output_size im2col col2im",
        "layers": "Relu Sigmoid Affine SoftmaxWithLoss Dropout BatchNormalization Convolution "
        "Pooling np im2col col2im softmax sigmoid cross_entropy_error",
        "gradient": "numerical_gradient numerical_gradient_2d",
        "optimizer": "SGD Momentum Nesterov AdaGrad RMSprop Adam",
        "trainer": "Trainer SGD Momentum Nesterov AdaGrad RMSprop Adam",
        "datasets.mnist": "load_mnist init_mnist img_dim img_size train_num test_num",
    }
    for name, words in books.items():
        module = importlib.import_module(f"fastconv.{name}")
        missing = [word for word in words.split() if word not in module.__all__]
        assert not missing, f"fastconv.{name} lacks {missing}"
