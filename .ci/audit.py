"""`make audit`: every installed package is one of constraints.txt, in the version that it names.
Needs no network.

It says that the environment is the reviewed one, not that the reviewed one has no known
vulnerability: for that, run `pip-audit -r constraints.txt` where the network allows it.
"""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
UNPINNED = {"cmt-memory", "pip", "setuptools"}
"""The project itself, and what `python -m venv` brings along."""


def pinned(lines: list[str]) -> dict[str, str]:
    """Package → version of each `name==version` in `lines`. Raises ValueError for a line that
    allows several.
    """
    pins = {}
    for line in (line.partition("#")[0].strip() for line in lines):
        if line:
            name, equals, version = line.partition(";")[0].strip().partition("==")
            if not equals or "*" in version:
                raise ValueError(f"{line!r} does not name one version")
            pins[normal(name)] = version
    return pins


def differences(installed: dict[str, str], pins: dict[str, str]) -> list[str]:
    """One line for each installed package that is not pinned, or pinned to another version."""
    return [
        f"{name} {version} is installed, constraints.txt has {pins.get(name, 'no such package')}"
        for name, version in sorted(installed.items())
        if name not in UNPINNED
        and pins.get(name) not in (version, version.partition("+")[0])  # +cpu, +cu128
    ]


def normal(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    """Print the differences; 1 if there are any."""
    installed = {normal(found.metadata["Name"]): found.version for found in distributions()}
    problems = differences(installed, pinned(PINS.read_text(encoding="utf-8").splitlines()))
    print("\n".join(problems) or f"{len(installed)} packages, all as in constraints.txt")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
