"""The ```console blocks of a Markdown page: commands, and the output that the page promises for
each.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIGURE = re.compile(r"(?<![\w.,/-])-?\d+\.\d+(?![\w./-])")
ANYTHING = "…"  # in promised output: any text within a line; alone on a line, any lines
TOLERANCE = 8.0
"""Allowed difference of a figure with decimals from the promised one: EM and F1 of a sample, in
points.
"""


@dataclass
class Command:
    """A command of a page."""

    text: str
    line: int  # line of the page
    expected: list[str] = field(default_factory=list)

    @property
    def keeps_running(self) -> bool:
        """Whether the page says that the command runs until it is interrupted."""
        return any("until Ctrl-C" in line for line in self.expected)


def commands(page: Path) -> list[Command]:
    """The commands of all console blocks, in order; a command ending in a backslash continues on
    the next line.
    """
    text = page.read_text(encoding="utf-8")
    found: list[Command] = []
    for block in _BLOCK.finditer(text):
        first_line = text.count("\n", 0, block.start(1)) + 1
        continued = False
        for number, line in enumerate(block[1].splitlines(), start=first_line):
            if continued:
                found[-1].text += "\n" + line
            elif line.startswith("$ "):
                found.append(Command(line[2:], number))
            elif found:
                found[-1].expected.append(line)
            continued = line.endswith("\\") if continued or line.startswith("$ ") else False
    return found


def difference(expected: list[str], output: list[str]) -> str | None:
    """The first promised line that the output lacks, or None if the output keeps its promise.

    Lines are compared in order and without their indentation. Output may go on after the last
    promised line.
    """
    index = 0
    skipping = False
    for line in expected:
        wanted = line.strip()
        if wanted == ANYTHING:
            skipping = True
            continue
        candidates = (
            range(index, len(output)) if skipping else range(index, min(index + 1, len(output)))
        )
        match = next((at for at in candidates if same_line(wanted, output[at].strip())), None)
        if match is None:
            return line
        index, skipping = match + 1, False
    return None


def same_line(expected: str, line: str) -> bool:
    """Whether a line matches: equal words and integers, decimals within TOLERANCE, anything for
    …
    """
    pattern, figures, at = "", list[float](), 0
    for figure in _FIGURE.finditer(expected):
        pattern += _literal(expected[at : figure.start()]) + r"(-?\d+\.\d+)"
        figures.append(float(figure[0]))
        at = figure.end()
    matched = re.fullmatch(pattern + _literal(expected[at:]), line)
    return matched is not None and all(
        abs(float(actual) - figure) <= TOLERANCE
        for actual, figure in zip(matched.groups(), figures, strict=True)
    )


def _literal(text: str) -> str:
    """A pattern for text: runs of blanks as one or more blanks, an ellipsis as anything."""
    parts = [re.escape(part) for part in re.split(r"\s+", text)]
    return r"\s+".join(parts).replace(ANYTHING, ".*")
