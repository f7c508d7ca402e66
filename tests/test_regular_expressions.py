"""Every regular expression that sees text of strangers takes less than a second for 100 kB of its
worst input.
"""

import ast
import importlib
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cmt/sources", "cmt/stream/readers")
LENGTH, SECONDS = 100_000, 1.0
SEARCHES = {"search", "finditer", "findall", "split", "sub"}
ANCHORED = {"match", "fullmatch"}
# of the few patterns that are made of a variable
VARIABLES = {"name": "main", "names": "rss|feed|rdf:rdf", "is_text": True}
INPUTS = [
    # a beginning, what is repeated, and an end; the end prevents a match
    *(("", unit, "\0") for unit in (" ", "\n", " \n", "a", "1", "a ", "<", "<a ", "<a>", "</a")),
    *(("", unit, "\0") for unit in ("&", "#", "| ", "`", "=", "-", ".", '"', "x=", "<!--", "<?")),
    *(("", f"<{name}>", "\0") for name in ("url", "h1", "script", "head", "doc 1", "br")),
    *(("", f"<{name} ", "\0") for name in ("loc", "h1", "script", "head", "doc", "br")),
    *(("", f"</{name}", "\0") for name in ("url", "h1", "script", "head", "doc", "item")),
    ("<urlset><url><loc>", " ", "\0"),
    ("<urlset>", "<![CDATA[", "\0"),
    ("<!doctype x [", "] ", "\0"),
    ("<h1>", "</h1", " " * 5_000),
    ("From a 00:00", "00:00 0000 ", "\0"),
    ("From a", " 00:00", "\0"),
    ("# a", " ", "x"),
    ("# a", " #", "x"),
    ("# 1", "1", "x"),
    ("## 1.1", ".", "x"),
    ("## 1.1", "()", "x"),
    ("## 1.1(", "()", "x"),
    ("## 1.1((", "a)(", "x"),
    ("---\n", "---", "\0"),
    ("---\n", "\n", "\0"),
    ("|a|\n|", "-| ", "x"),
    ("", "|a|\n|-|\n", "\0"),
    ("", "|a|", " " * 5_000),
    ("href", " ", "\0"),
    ("", "href =", "\0"),
    ("", "${A", "\0"),
    ("sep=,", " ", "\0"),
    ("{", " ", "\0"),
    ("", "2031-01-", "\0"),
    ("", ".zip", "\0"),
]


class Pattern(NamedTuple):
    """A regular expression, and how it is used."""

    name: str
    compiled: re.Pattern[Any]
    anchored: bool


@cache
def patterns() -> list[Pattern]:
    """The patterns in the source of PACKAGES."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    methods: dict[str, set[str]] = {}  # name of a constant → the methods that are called
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in SEARCHES | ANCHORED:
                for part in ast.walk(node.value):  # `(_A if x else _B).match`, `_module.A.match`
                    name = getattr(part, "id", getattr(part, "attr", ""))
                    methods.setdefault(name, set()).add(node.attr)
    return [pattern for path, tree in trees.items() for pattern in of_module(path, tree, methods)]


def of_module(path: Path, tree: ast.Module, methods: dict[str, set[str]]) -> Iterator[Pattern]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names = vars(importlib.import_module(module.removesuffix(".__init__"))) | VARIABLES
    constants = {
        node.value: node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")):
            continue
        function = ast.unparse(node.func).removeprefix("re.")
        if function not in SEARCHES | ANCHORED | {"compile"}:
            continue
        text = eval(ast.unparse(node.args[0]), names)  # noqa: S307 - of this repository
        given = node.args[{"compile": 1, "sub": 4, "split": 3}.get(function, 2) :]
        given += [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
        flags = eval(ast.unparse(given[0]), names) if given else 0  # noqa: S307
        used = methods.get(constants.get(node, ""), {"search"})
        anchored = (used if function == "compile" else {function}) <= ANCHORED
        yield Pattern(f"{path.stem}: {text!r:.60}", re.compile(text, flags), anchored)


def seconds(pattern: Pattern, parts: tuple[str, str, str], length: int) -> float:
    """Processor time of one pass over a text of this length."""
    begin, unit, end = parts
    text = begin + unit * ((length - len(begin) - len(end)) // len(unit)) + end
    subject = text.encode() if isinstance(pattern.compiled.pattern, bytes) else text
    began = time.process_time()
    if pattern.anchored:
        pattern.compiled.match(subject)
    else:
        for _ in pattern.compiled.finditer(subject):
            pass
    return time.process_time() - began


def test_the_list_is_complete() -> None:
    names = {pattern.name.partition(":")[0] for pattern in patterns()}
    assert {"_sitemap", "web", "_robots", "_mail", "_pages", "_prose", "_text"} <= names
    assert len(patterns()) > 50


@pytest.mark.timeout(60)  # nothing else ends a search of cubic time
@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.name)
def test_the_worst_input_takes_less_than_a_second(pattern: Pattern) -> None:
    # an input takes a second only if a tenth of it takes a millisecond, even in cubic time
    suspect = [parts for parts in INPUTS if seconds(pattern, parts, LENGTH // 10) >= SECONDS / 1000]
    slow = [parts for parts in suspect if seconds(pattern, parts, LENGTH) >= SECONDS]
    assert not slow
