"""Names of earlier versions, for code and pickles that use them.

`importlib.abc` is not imported: that would take longer than everything else here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "find_earlier_modules", "moved"]

MOVED: dict[str, tuple[str, ...]] = {
    "augment": ("training.augment",),
    "averaging": ("training.averaging",),
    "backends.base": ("backends.table",),
    "batches": ("training.batches",),
    "checkpoint": ("training.checkpoint",),
    "clipping": ("training.clipping",),
    "detached": ("network.detached",),
    "ensemble": ("models.ensemble",),
    "layers.activations": ("layers.activation",),
    "layers.dense": ("layers.activation", "layers.loss", "layers.dropout", "layers.norm"),
    "layers.images": ("layers.conv", "layers.pool"),
    "layers.local_response": ("layers.norm",),
    "layers.pooling": ("layers.pool",),
    "layers.subsampling": ("layers.pool",),
    "learned": ("training.learned",),
    "ops.activations": ("ops.activation",),
    "ops.blocks": ("ops.conv",),
    "ops.dense": ("ops.activation", "ops.norm", "ops.updates"),
    "ops.images": ("ops.columns", "ops.conv", "ops.pool"),
    "ops.local_response": ("ops.norm",),
    "ops.pooling": ("ops.pool",),
    "optimizer_base": ("training.optimizer_base",),
    "parameter_groups": ("training.groups",),
    "parameters": ("network.parameters",),
    "plan": ("network.executor",),
    "recipes": ("experiment.recipes",),
    "run_weights": ("training.weights",),
    "runs": ("network.fusion",),
    "schedules": ("training.schedules",),
    "summary": ("network.summary",),
    "transfer": ("network.transfer",),
    "validation": ("training.validation",),
    "views": ("network.views",),
    "warmup": ("experiment.warmup",),
}
"""Earlier modules that pickles or users' code may name, and the modules with their content now."""

RENAMED = {
    "ConvRun": "ConvGroup",
    "Normalized": "NormGroup",
    "Plan": "Executor",
    "Run": "Group",
    "RunFacts": "GroupFacts",
    "Runs": "FusedRow",
    "cut": "fuse",
}
"""Earlier names in modules of `MOVED`, and the names now."""

PACKAGE = __name__.rpartition(".")[0]


def moved(module: str, name: str) -> Any:
    """Return what `module`, an earlier one of fastconv, had under this name.

    Raises
    ------
    AttributeError
        Nothing of that name exists any longer.
    """
    for place in MOVED[module.removeprefix(f"{PACKAGE}.")]:
        found = vars(import_module(f"{PACKAGE}.{place}"))
        for known in (name, RENAMED.get(name)):
            if known in found:
                return found[known]
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class _EarlierModules:
    """A finder and loader of modules whose files are gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        loader: Any = self
        return ModuleSpec(fullname, loader) if package == PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make a plain module."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        vars(module)["__getattr__"] = lambda attribute: moved(name, attribute)


def find_earlier_modules() -> None:
    """Let imports find the modules of `MOVED`, after all other finders."""
    if not any(isinstance(finder, _EarlierModules) for finder in sys.meta_path):
        sys.meta_path.append(_EarlierModules())
