"""Import the scripts of benchmarks/, which belong to no package and import each other by name."""

import importlib.util
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

from cmt.cli.context import run_script

FOLDER = Path(__file__).parents[2] / "benchmarks"


def load_script(name: str) -> ModuleType:
    """Import benchmarks/<name>.py with its folder on the path, like a started script."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    sys.path.insert(0, str(FOLDER))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


_loaded = cache(load_script)


def run_main(name: str, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of benchmarks/<name>.py inside the test's own process."""
    stdout, stderr = StringIO(), StringIO()
    with (
        patch.object(sys, "argv", [f"{name}.py", *arguments]),
        patch.object(sys, "excepthook", sys.excepthook),  # Typer installs its own
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        run_script(_loaded(name).main)
    code = ended.value.code
    assert isinstance(code, int)
    return code, stdout.getvalue(), stderr.getvalue()
