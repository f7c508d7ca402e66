"""Deferred imports of packages that are slow to import, and the extras of packages that may be missing."""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

EXTRAS = {name: "pipeline" for name in ("dvc", "matplotlib", "mlflow", "pandas", "prefect")}
"""Package → the extra of cmt that installs it."""


def missing_extra(error: ImportError) -> str | None:
    """The command that installs the extra with the missing package; None if no extra has it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return extra and f"pip install 'cmt-memory[{extra}]'"


def defer_init(name: str) -> None:
    """Import modules of the package `name` without its `__init__`, which runs at the first use of a name of it.

    No effect if the package is missing or already imported.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    package, loader = module_from_spec(spec), spec.loader

    def run_init(attribute: str) -> Any:
        del package.__getattr__
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__getattr__ = run_init  # type: ignore[method-assign]
    sys.modules[name] = package
