"""The rules of the house, read from the source: who imports whom, what import costs."""

from __future__ import annotations

import ast
import graphlib
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

FOUNDATION = {
    "errors",
    "geometry",
    "console",
    "limits",
    "memory",
    "moved",
    "randomness",
    "progress",
}
BACKENDS = FOUNDATION | {"backends"}
CHOICE = BACKENDS | {"config", "selection"}
OPS = CHOICE | {"ops"}
LAYERS = OPS | {"functions", "util", "layers"}
IO = LAYERS | {"io", "_version"}
NETWORK = IO | {"network"}
TRAINER = NETWORK | {"training", "optimizer", "trainer"}
DATA = FOUNDATION | {"config", "io", "datasets"}
MAY_IMPORT = {
    "_version": set(),
    "moved": set(),
    "errors": set(),
    "limits": set(),
    "randomness": {"errors"},
    "console": {"errors"},
    "geometry": {"errors"},
    "gradient": {"errors"},
    "memory": {"errors", "limits"},
    "progress": {"errors", "console"},
    "backends": BACKENDS,
    "config": BACKENDS,
    "selection": CHOICE,
    "testing": CHOICE,
    "ops": OPS,
    "functions": OPS,
    "util": OPS,
    "layers": LAYERS,
    "profiling": LAYERS,
    "io": IO,
    "network": NETWORK,
    "info": NETWORK,
    "training": IO,
    "optimizer": IO | {"training"},
    "trainer": TRAINER,
    "distributed": TRAINER - {"optimizer", "trainer"},
    "datasets": DATA,
    "models": NETWORK | DATA,
    "figures": NETWORK,
    "experiment": TRAINER | DATA | {"models", "figures"},
    "sklearn": TRAINER | {"models"},
    "dropin": TRAINER | DATA | {"profiling"},
    "web": TRAINER | DATA | {"models", "experiment"},
    "cli": TRAINER
    | DATA
    | {"models", "figures", "experiment", "web", "dropin", "info", "distributed"},
    "__main__": {"cli"},
}
"""For each room, the rooms that it may know besides itself. The package itself may know all."""

BACKEND_ROOMS = {
    "short": set(),
    "algorithms": set(),
    "table": {"short"},
    "calls": {"table", "algorithms"},
    "shared": {"table"},
    "numpy": {"short", "table"},
    "numba": {"short", "table", "algorithms", "shared", "calls", "_numba"},
    "cython": {"short", "table", "algorithms", "shared", "calls", "_cython"},
    "_numba": {"table", "algorithms", "shared"},
    "_cython": set(),
}
"""The same inside `fastconv.backends`. Its registry may know all."""

NUMBA_ROOMS = {"words": set(), "launch": {"words"}}
"""The same for the folders inside `fastconv.backends._numba`. Its kernels may know all."""


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


def room(module: str, inside: str = "fastconv") -> str:
    """The part of a package that a module belongs to: ``fastconv.ops.conv`` to ``ops``."""
    below = module.removeprefix(f"{inside}.")
    return "" if below == module else below.split(".")[0]


def known(path: Path, inside: str) -> set[str]:
    """Rooms of the package `inside` that a file of it imports from, its own left out."""
    names = {name for name in imported(path) if name.startswith(f"{inside}.")}
    return {room(name, inside) for name in names} - {room(module_name(path), inside)}


@pytest.mark.parametrize(
    ("inside", "may_import"),
    [
        ("fastconv", MAY_IMPORT),
        ("fastconv.backends", BACKEND_ROOMS),
        ("fastconv.backends._numba", NUMBA_ROOMS),
    ],
)
def test_imports_run_one_way(inside, may_import):
    folder = ROOT.joinpath(*inside.split("."))
    wrong = []
    for path in sorted(folder.rglob("*.py")):
        allowed = may_import.get(room(module_name(path), inside))
        if allowed is not None:
            wrong += [
                f"{module_name(path)} may not import {inside}.{name}"
                for name in sorted(known(path, inside) - allowed)
            ]
    assert not wrong, "\n".join(wrong)


def test_every_room_is_in_the_plan():
    """A new room must be placed in the table."""
    assert {room(module_name(path)) for path in SOURCES} - {""} == set(MAY_IMPORT)
    inside = "fastconv.backends"
    files = (PACKAGE / "backends").rglob("*.py")
    assert {room(module_name(path), inside) for path in files} - {""} == set(BACKEND_ROOMS)


def test_rooms_form_no_circle():
    """As the imports are, not as the table allows them to be."""
    arrows: dict[str, set[str]] = {}
    for path in SOURCES:
        if own := room(module_name(path)):
            arrows.setdefault(own, set()).update(known(path, "fastconv") - {""})
    tuple(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError


def test_the_plan_can_be_broken(tmp_path):
    """The reader of imports sees relative, absolute and late ones."""
    code = "from ..ops import conv\nimport fastconv.trainer\ndef f():\n    from . import table\n"
    path = PACKAGE / "backends" / "imagined.py"
    source = tmp_path / "imagined.py"
    source.write_text(code)

    class Elsewhere(type(path)):  # a path that reads from another file
        def read_text(self, encoding=None):
            return source.read_text()

    seen = imported(Elsewhere(path))
    assert seen == {"fastconv.ops.conv", "fastconv.trainer", "fastconv.backends.table"}


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
    """Only the registry and code that chooses a backend may name backends."""
    if room(module_name(path)) not in (
        "layers",
        "network",
        "ops",
        "models",
        "optimizer",
        "trainer",
        "training",
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
    heavy = (
        "numba llvmlite matplotlib sklearn scipy pooch tqdm PIL tkinter torch threadpoolctl "
        "starlette uvicorn asyncio mpi4py"
    )
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
    if name.startswith("fastconv.backends.numba"):
        pytest.importorskip("numba")
    if name == "fastconv.sklearn":
        pytest.importorskip("sklearn")
    if name in ("fastconv.web.guard", "fastconv.web.server"):
        pytest.importorskip("starlette")
        pytest.importorskip("uvicorn")
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
                if method in KERNELS:  # described in table.py, for every backend
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
