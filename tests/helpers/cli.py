"""Run `cmt …` in this process or in a new one."""

import json
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from cmt.cli.main import app, main
from tests.helpers.processes import CONTEXT, started

MAYOR = "Who is the mayor of Port Ellery?"


def run(folder: Path, *arguments: str, status: int = 0, stdin: str | None = None) -> Result:
    """Run `cmt` on the project in `folder` and check its exit status; other exceptions are raised
    here.
    """
    command = ["--params", str(folder / "params.yaml"), *arguments]
    result = CliRunner().invoke(app, command, catch_exceptions=False, input=stdin)
    assert result.exit_code == status, result.output
    return result


def read(folder: Path, *arguments: str, status: int = 0) -> Any:
    """The parsed output of `cmt … --json`, which prints nothing else on stdout."""
    return json.loads(run(folder, *arguments, "--json", status=status).stdout)


def bank_report(folder: Path) -> dict[str, Any]:
    """The report of `cmt verify` on the only bank of an undamaged project."""
    [report] = [
        part for part in read(folder, "verify")["parts"] if part["part"].startswith("bank ")
    ]
    return dict(report)


_MAIN = """
import sys
from cmt.cli.main import main
params, *commands = sys.argv[1:]
for command in commands:
    sys.argv = ["cmt", "--params", params, *command.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, command
print(*sys.modules, file=sys.stderr)
"""


def imported_modules(folder: Path, *commands: str) -> set[str]:
    """The modules that a new process has imported after these commands of `cmt`."""
    command = [sys.executable, "-c", _MAIN, str(folder / "params.yaml"), *commands]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


def modules_after(folder: Path, *arguments: str) -> set[str]:
    """As `imported_modules`, with PRELOADED, which `cmt` need not import then."""
    modules = CONTEXT.SimpleQueue()
    with started(_put_modules, folder, arguments, modules):
        return set(modules.get())


def _put_modules(
    folder: Path, arguments: tuple[str, ...], modules: "SimpleQueue[list[str]]"
) -> None:
    sys.argv = ["cmt", "--params", str(folder / "params.yaml"), *arguments]
    try:
        with redirect_stdout(StringIO()):
            main()
    except SystemExit as ended:
        assert not ended.code
    modules.put([*sys.modules])
