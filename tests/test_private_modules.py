"""A module whose name begins with an underscore belongs to its package: `cmt/bank/_merge.py`."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.name for path in (ROOT / "cmt").iterdir() if (path / "__init__.py").exists())


@cache
def private_imports(path: Path) -> set[str]:
    """The private modules of `cmt` that the file imports, such as `cmt.bank._merge`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.startswith("cmt.") and "._" in name.replace("__", "")}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_other_package_imports_a_private_module(package: str) -> None:
    own = ROOT / "cmt" / package
    assert list(own.rglob("*.py"))
    outside = [
        path
        for folder in ("cmt", "flows", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if own not in path.parents
    ]
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path in outside
        for name in private_imports(path)
        if name.startswith(f"cmt.{package}.")
    }
    assert wrong == set()
