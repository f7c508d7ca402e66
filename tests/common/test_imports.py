"""Packages whose `__init__` waits for its first use."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from cmt.common.imports import defer_init, missing_extra


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose `__init__` defines `value`, with one module."""
    (tmp_path / "slow_package").mkdir()
    (tmp_path / "slow_package/__init__.py").write_text(
        "from slow_package.part import small\nvalue = small + 1\n"
    )
    (tmp_path / "slow_package/part.py").write_text("small = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("slow_package", "slow_package.part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "slow_package"


def test_a_module_is_imported_without_the_init_of_its_package(package: str) -> None:
    defer_init(package)
    assert import_module("slow_package.part").small == 1
    assert "value" not in vars(sys.modules[package])


def test_the_first_use_of_a_name_runs_the_init(package: str) -> None:
    defer_init(package)
    module = import_module(package)
    assert module.value == 2
    with pytest.raises(AttributeError):
        _ = module.missing
    with pytest.raises(ImportError):
        exec("from slow_package import missing")  # noqa: S102


def test_an_imported_or_missing_package_stays_as_it_is(package: str) -> None:
    module = import_module(package)
    defer_init(package)
    assert sys.modules[package] is module
    defer_init("package_that_is_not_there")
    assert "package_that_is_not_there" not in sys.modules


def test_the_extra_of_a_missing_package_is_named() -> None:
    missing = ModuleNotFoundError("No module named 'mlflow.entities'", name="mlflow.entities")
    assert missing_extra(missing) == "pip install 'cmt-memory[pipeline]'"
    assert missing_extra(ModuleNotFoundError(name="mcp.types")) == "pip install 'cmt-memory[mcp]'"
    assert (
        missing_extra(ModuleNotFoundError("No module named 'cmt.nothing'", name="cmt.nothing"))
        is None
    )
