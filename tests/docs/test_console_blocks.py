"""The comparison of promised and printed output."""

from pathlib import Path

import pytest

from tests.helpers.console_blocks import commands, difference, same_line

PAGE = """
Text.

```console
$ cmt one \\
    --option
first line
…
last line
$ cmt serve
answering on http://127.0.0.1:… until Ctrl-C
```

```python
$ not a command
```
"""


def test_commands_carry_their_promised_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    first, second = commands(page)
    assert first.text == "cmt one \\\n    --option"
    assert (first.line, first.expected) == (5, ["first line", "…", "last line"])
    assert (second.line, second.keeps_running, first.keeps_running) == (10, True, False)


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        (["a", "b"], ["a", "b", "c"], None),
        (["a", "b"], ["a", "x", "b"], "b"),
        (["a", "…", "b"], ["a", "x", "y", "b"], None),
        (["…"], [], None),
        (["a"], [], "a"),
    ],
)
def test_lines_are_compared_in_order(
    expected: list[str], output: list[str], missing: str | None
) -> None:
    assert difference(expected, output) == missing


@pytest.mark.parametrize(
    ("expected", "line", "same"),
    [
        ("F1  62.1", "F1 60.0", True),
        ("F1  62.1", "F1 50.0", False),
        ("recall@K  0.994", "recall@K  1.000", True),
        ("1,277 questions", "1,276 questions", False),
        ("6 crowns", "5 crowns", False),
        ("answering on http://127.0.0.1:…", "answering on http://127.0.0.1:34567", True),
        ("2031-01/0001", "2031-01/0001", True),
        ("2031-01/0001", "2031-02/0001", False),
    ],
)
def test_figures_have_a_tolerance_and_words_have_none(expected: str, line: str, same: bool) -> None:
    assert same_line(expected, line) is same
