"""The figures of the code itself, on functions whose figures are known."""

import ast
from types import ModuleType

import pytest

from tests.helpers.scripts import load_script


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    return load_script("structure")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", 1),
        ("if a and b or c: pass", 4),
        ("for x in [y for y in z if y]:\n  pass\n else: pass", 5),
        ("try: pass\n except A: pass\n except B: pass\n else: pass", 4),
        ("while a if b else c: pass", 3),
        ("def inner():\n  if a: pass", 1),  # a function inside counts for itself
    ],
)
def test_complexity_worked_out_by_hand(structure: ModuleType, body: str, expected: int) -> None:
    function = ast.parse(f"def f():\n {body}").body[0]
    assert structure.complexity(function) == expected


def test_imports_and_circles(structure: ModuleType) -> None:
    statement = ast.parse("from .b import name").body[0]
    assert set(structure.imported_modules(statement, "cmt.bank.a")) == {
        "cmt.bank.b",
        "cmt.bank.b.name",
    }
    chain = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert structure.circles(chain) == [{"b", "c"}]


def test_public_modules_and_imports_inside_functions(structure: ModuleType) -> None:
    texts = {
        "cmt.bank": "",
        "cmt.bank._ranking": "import re\ndef f():\n import json\n def g(): import ast",
        "cmt.bank.rows": "from cmt.bank import _ranking",
    }
    modules = {name: ast.parse(text) for name, text in texts.items()}
    assert structure.import_figures(modules) == {
        "imports inside functions": 2,
        "circles inside packages": 0,
        "modules that look public": 2,
    }
