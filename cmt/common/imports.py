"""Deferred imports of packages that are slow to import, and the extras of packages that may be
missing.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

_EXTRAS = {
    "dvc": "pipeline",
    "matplotlib": "pipeline",
    "mcp": "mcp",
    "mlflow": "pipeline",
    "pandas": "pipeline",
    "prefect": "pipeline",
}
"""Package → the extra that installs it."""


def missing_extra(error: ImportError) -> str | None:
    """The command that installs the extra with the missing package; None if no extra has it."""
    package = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(package)
    return f"pip install 'cmt-memory[{extra}]'" if extra else None


def defer_init(name: str) -> None:
    """Import modules of the package `name` without its `__init__`, which runs at the first use of a
    name of it.
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
