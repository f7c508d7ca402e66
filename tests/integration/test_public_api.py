"""What `import cmt` offers, and how little it costs."""

import subprocess
import sys
import tomllib
from inspect import signature
from pathlib import Path

import pytest

import cmt
from cmt import errors

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "lancedb", "mlflow", "prefect", "pyarrow", "peft", "matplotlib", "numpy"}
PUBLIC = [
    "Answer",
    "BankError",
    "CmtError",
    "ConfigError",
    "ModelError",
    "Params",
    "Round",
    "RoundError",
    "ServiceError",
    "Source",
    "StreamError",
    "Workspace",
    "__version__",
    "load_params",
    "open",
]
MEASURE = """
import contextlib, io, resource, sys
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    {statement}
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime, *sorted(sys.modules))
"""


def measured(statement: str) -> tuple[float, set[str]]:
    """Processor seconds of a Python process from its start, median of 3, and the modules that it has imported."""
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", MEASURE.format(statement=statement)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, *modules = done.stdout.split()
        runs.append((float(seconds), set(modules)))
    return sorted(runs, key=lambda run: run[0])[1]


def test_the_public_names_are_these() -> None:
    assert cmt.__all__ == PUBLIC
    assert dir(cmt) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(cmt, name) is getattr(cmt, name)


def test_every_error_is_public() -> None:
    family = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert family == {name for name in PUBLIC if name.endswith("Error")}
    assert all(issubclass(getattr(cmt, name), cmt.CmtError) for name in family)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'cmt' has no attribute 'opne'"):
        cmt.opne  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    assert cmt.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_a_workspace_is_opened_by_keyword(tiny_workspace: Path) -> None:
    assert [p.kind.name for p in signature(cmt.open).parameters.values()] == ["KEYWORD_ONLY"] * 2
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"selection.top_k": 2})
    assert isinstance(workspace, cmt.Workspace)
    assert workspace.params.selection.top_k == 2
    with pytest.raises(cmt.ConfigError, match=r"selection\.top_k"):
        cmt.open(params=tiny_workspace / "params.yaml", overrides={"selection.top_k": 0})


def test_the_api_is_the_main_job_in_ten_lines(tiny_workspace: Path) -> None:
    memory = cmt.open(params=tiny_workspace / "params.yaml")
    assert memory.ingest(source=str(tiny_workspace / "news"), format="jsonl").accepted == 6
    round_ = memory.update()
    assert isinstance(round_, cmt.Round)
    assert round_.state == "committed"
    answer = memory.ask("Who is the mayor of Port Ellery?")
    assert isinstance(answer, cmt.Answer)
    assert "mayor-1" in {source.doc_id for source in answer.sources}
    assert all(isinstance(source, cmt.Source) for source in answer.sources)


def test_importing_cmt_is_quick() -> None:
    seconds, modules = measured("import cmt")
    assert not modules & HEAVY
    assert not modules & {"pydantic", "yaml", "rich", "typer"}
    assert seconds <= 0.5


@pytest.mark.parametrize("arguments", ["--help", "ask --help", "bank --help", "--version"])
def test_help_is_quick(arguments: str) -> None:
    seconds, modules = measured(f"sys.argv[1:] = {arguments.split()}; from cmt.cli.main import main; main()")
    assert not modules & HEAVY
    assert seconds <= 1.0


def test_cmt_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "cmt", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"cmt {cmt.__version__}\n")
