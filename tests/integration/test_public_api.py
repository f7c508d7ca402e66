"""The public names of `cmt`, its documented example, and the time that importing it takes."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from inspect import Parameter, Signature, isfunction, signature
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import cmt
from cmt import errors
from cmt.workspace import Workspace
from tests.helpers.projects import change_params

ROOT = Path(__file__).parents[2]
HEAVY = {
    "torch",
    "transformers",
    "lancedb",
    "mlflow",
    "prefect",
    "pyarrow",
    "peft",
    "matplotlib",
    "numpy",
}
PUBLIC = [
    "Answer", "BankError", "CmtError", "ConfigError", "DamageError", "ModelError",
    "NotFoundError", "Params", "Round",
    "RoundError", "ServiceError", "Source", "StreamError", "UnknownDocumentError",
    "Workspace", "__version__",
    "load_params", "open",
]  # fmt: skip
METHODS = [
    "activate_if_complete", "ask", "evaluate", "fit_codebook", "forget", "forget_all",
    "forgettable", "forgotten_documents", "history", "ingest",
    "open_source", "params", "pending", "plan_training", "project", "pull", "rollback", "rounds",
    "sync", "train", "update", "verify",
]  # fmt: skip
"""The public names of a `Workspace`."""
MEASURE = """
import contextlib, io, resource, sys
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    {statement}
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime, *sorted(sys.modules))
"""


def measured(statement: str) -> tuple[float, set[str]]:
    """The CPU seconds of a Python process (the smaller of two runs), and the modules that it
    imported.
    """
    runs = []
    for _ in range(2):
        command = [sys.executable, "-c", MEASURE.format(statement=statement)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, *modules = result.stdout.split()
        runs.append((float(seconds), set(modules)))
    return min(runs, key=lambda run: run[0])


def test_the_public_names_are_exactly_these() -> None:
    assert cmt.__all__ == dir(cmt) == PUBLIC
    assert [name for name in PUBLIC if not hasattr(cmt, name)] == []
    with pytest.raises(AttributeError, match="module 'cmt' has no attribute 'opne'"):
        cmt.opne  # noqa: B018
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == {name for name in PUBLIC if name.endswith("Error")}
    assert all(issubclass(getattr(cmt, name), cmt.CmtError) for name in classes)


def test_a_workspace_shows_its_own_methods_only(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    assert [name for name in dir(workspace) if not name.startswith("_")] == METHODS
    assert Workspace.__mro__ == (Workspace, object)


def test_the_page_on_python_has_the_signature_of_every_method() -> None:
    page = " ".join((ROOT / "docs/python.md").read_text(encoding="utf-8").split())
    for name in METHODS:
        method = vars(Workspace).get(name)
        if isfunction(method):
            assert _call(f"workspace.{name}", method) in page
    for function in (cmt.open, cmt.load_params):
        assert _call(f"cmt.{function.__name__}", function) in page


def _call(name: str, function: Callable[..., Any]) -> str:
    """The signature of a function or method without its types: `workspace.ask(question, *, …)`."""
    parameters = [
        parameter.replace(annotation=Parameter.empty)
        for parameter in signature(function).parameters.values()
        if parameter.name != "self"
    ]
    return f"{name}{Signature(parameters)}"


def test_cmt_runs_as_a_module_and_has_the_version_of_pyproject() -> None:
    assert (
        cmt.__version__
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    )
    result = subprocess.run(
        [sys.executable, "-m", "cmt", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, f"cmt {cmt.__version__}\n")


def test_ctrl_c_during_the_imports_is_one_line_and_status_130(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        dedent("""
        import signal, sys

        class Interrupt:
            def find_spec(self, name, *_):
                if name == "typer":
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    signal.raise_signal(signal.SIGINT)

        sys.meta_path.insert(0, Interrupt())
    """)
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "cmt", "rounds"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "interrupted: nothing was changed\n")


def test_open_takes_keywords_only(tiny_workspace: Path) -> None:
    assert [parameter.kind.name for parameter in signature(cmt.open).parameters.values()] == [
        "KEYWORD_ONLY"
    ] * 2
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"selection.top_k": 2})
    assert isinstance(workspace, cmt.Workspace)
    assert workspace.params.selection.top_k == 2
    with pytest.raises(cmt.ConfigError, match=r"selection\.top_k"):
        cmt.open(params=tiny_workspace / "params.yaml", overrides={"selection.top_k": 0})


def test_the_main_operations_return_public_types(tiny_workspace: Path) -> None:
    memory = cmt.open(
        params=tiny_workspace / "params.yaml", overrides={"evaluation.round_baselines": False}
    )
    assert memory.ingest(source=str(tiny_workspace / "news"), file_format="jsonl").accepted == 6
    round_ = memory.update()
    assert isinstance(round_, cmt.Round)
    assert round_.state == "committed"
    answer = memory.ask("Who is the mayor of Port Ellery?")
    assert isinstance(answer, cmt.Answer)
    assert "mayor-1" in {source.doc_id for source in answer.sources}
    assert all(isinstance(source, cmt.Source) for source in answer.sources)


def test_the_example_in_the_docstring_runs_as_written_and_again(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cmt.__doc__
    example = dedent(cmt.__doc__.partition("`cmt model pull`:\n")[2])
    assert len([line for line in example.splitlines() if line]) <= 11
    change_params(tiny_workspace, evaluation={"round_baselines": False, "questions": 0})
    monkeypatch.chdir(tiny_workspace)
    for _ in range(2):  # the second run has no pending slice
        exec(example, {})  # noqa: S102 - the code under test
        assert capsys.readouterr().out.rstrip().endswith("['mayor']")


def test_importing_cmt_is_fast_and_imports_no_heavy_package() -> None:
    seconds, modules = measured("import cmt")
    assert not modules & HEAVY
    assert not modules & {"pydantic", "yaml", "rich", "typer"}
    assert seconds <= 0.5


def test_help_is_quick() -> None:
    seconds, modules = measured(
        "sys.argv[1:] = ['ask', '--help']; from cmt.cli.main import main; main()"
    )
    assert not modules & HEAVY
    assert seconds <= 1.0
