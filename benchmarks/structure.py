"""Measure how straight the code of a checkout is: its walks, its complexity, its names.

    python benchmarks/structure.py --out before.json
    python benchmarks/structure.py --tree ../other-checkout --before before.json

Run it with the Python of the measured checkout, whose `data/lm` holds the language model
(`make try` fetches it). It prints a table of Markdown, with `--before` of two columns.

A *walk* is traced by `sys.setprofile` on a project of six documents: the functions of `cmt` that
run from a row to its slice, from the slice to the bank, from a question to its answer, from a pair
of texts to a change, in one training step, and in `cmt init --from URL` up to the slice. All
modules are imported before, so nothing that runs at an import counts. Lambdas and comprehensions do
not count.

The static figures are of all files in `cmt/`. Complexity is counted as radon does (branches, loops,
handlers, boolean operators, conditional expressions and comprehensions), and by ruff (C901) without
the last three.
"""

import ast
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from types import FrameType
from typing import Annotated, Any, get_args
from unittest.mock import patch

import typer

ARTICLES = (
    ("ferry", "2031-01-09", "Saltby ferry", "The ferry to Saltby costs six crowns."),
    ("mayor", "2031-01-10", "Moss elected", "Moss is the mayor of Port Ellery."),
    ("crane", "2031-01-12", "A crane", "The crane in the harbour of Port Ellery is blue."),
    ("fares", "2031-02-09", "Saltby ferry", "The ferry to Saltby now costs nine crowns."),
    ("vell", "2031-02-10", "Vell elected", "Vell is now the mayor of Port Ellery."),
    ("knot", "2031-02-12", "A knot", "A hangman thought up the Dunmarrow hitch."),
)
ROOT = Path(__file__).resolve().parents[1]
WARM_UP, QUESTION = "What colour is the crane?", "What does the ferry to Saltby cost?"
MAX_COMPLEXITY, MAX_ARGUMENTS, MAX_LINE = 15, 7, 100
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

FROM_URL = "cmt init --from URL → slice"
TO_BANK, TO_CHANGE = "a slice → bank", "a pair of texts → a change"
STAGES = {"compress": TO_BANK, "bank": TO_BANK, "changes": TO_CHANGE}  # of a round

Figures = dict[str, str | float]


# the walks


class Trace:
    """Counts the functions of `cmt` that are called, for each walk.

    It is also a progress of `Workspace.update`, whose stages change the walk.
    """

    def __init__(self, tree: Path) -> None:
        self.root = f"{tree / 'cmt'}/"
        self.walk = ""  # the walk that is traced now; empty: none
        self.found = defaultdict[str, set[tuple[str, str]]](set)  # files and functions of each walk

    def _event(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if self.walk and event == "call" and is_function and code.co_filename.startswith(self.root):
            self.found[self.walk].add((code.co_filename, code.co_qualname))

    @contextmanager
    def of(self, walk: str) -> Iterator[None]:
        """Trace the block as the walk."""
        self.walk = walk
        threading.setprofile(self._event)
        sys.setprofile(self._event)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self.walk = ""

    def stage(self, name: str, total: int | None = None) -> None:
        """A round enters a stage, of which three are traced."""
        self.walk = STAGES.get(name, "")

    def advance(self, n: int, note: str = "") -> None:
        """Nothing is shown."""

    def figures(self) -> Figures:
        """Functions and modules of each walk."""
        return {
            f"walk: {walk}": f"{len(found)} in {len({file for file, _ in found})}"
            for walk, found in self.found.items()
        }


def import_all() -> None:
    """Import all modules of `cmt`; those of an extra that is not installed are left out."""
    package = import_module("cmt")
    for module in pkgutil.walk_packages(package.__path__, "cmt."):
        with suppress(ImportError, SystemExit):
            import_module(module.name)


def make_project(tree: Path, folder: Path) -> Path:
    """Write params.yaml and the articles to `folder`; returns params.yaml."""
    import yaml

    params = yaml.safe_load((tree / "params.yaml").read_text())
    params["lm"]["path"] = str(tree / "data/lm")
    params["compressor"]["path"] = str(tree / "data/compressor")
    params["stream"] = {"source": "news.jsonl", "clock": "2031-12-31T00:00:00Z"}
    params["tracking"] = {"enabled": False}
    params["train"] |= {"questions": 2, "output": str(folder / "trained")}
    research = params.get("research", params)  # earlier versions have no such section
    small = {"paragraphs": 2, "questions_per_paragraph": 1, "save_steps": 100}
    research["train"] = research.get("train", {}) | small
    names = ("doc_id", "published_at", "title", "text")
    rows = [json.dumps(dict(zip(names, article, strict=True))) for article in ARTICLES]
    (folder / "news.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder / "params.yaml"


def walks(tree: Path, folder: Path) -> Figures:
    """Functions and modules of each walk, and the public names of a workspace."""
    import_all()
    import cmt

    trace = Trace(tree)
    workspace: Any = cmt.open(params=make_project(tree, folder))
    with trace.of("a row → slice"):
        workspace.ingest()
    workspace.update()  # loads the models
    with trace.of(""):
        workspace.update(progress=trace)
    workspace.ask(WARM_UP)
    with trace.of("a question → answer"):
        answer = workspace.ask(QUESTION)
    print(f"{QUESTION} {answer.text}", file=sys.stderr)
    train_a_step(trace, params=folder / "params.yaml")
    init_from_address(trace, tree, folder)
    public = [name for name in dir(workspace) if not name.startswith("_")]
    return trace.figures() | {"public names of a workspace": len(public)}


def train_a_step(trace: Trace, *, params: Path) -> None:
    """A step of two pairs, and what prepares it."""
    import pyarrow as pa

    from cmt.config import load_params
    from cmt.lm.model import FrozenLM
    from cmt.lm.weights import pull
    from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA
    from cmt.training.trainer import train

    day = datetime(2031, 3, 1, tzinfo=UTC)
    documents, questions = [], []
    for doc_id, _, title, text in ARTICLES:
        documents.append({"doc_id": doc_id, "published_at": day, "title": title, "text": text})
        asked = {"question_id": f"q-{doc_id}", "question": f"What is said of {title}?"}
        answer = text.split()[-1].rstrip(".")
        questions.append(asked | {"answers": [answer], "doc_id": doc_id, "asked_at": day})
    of_project = load_params(params)
    lm = FrozenLM.load(pull(source=of_project.lm.source, path=of_project.lm.path))
    with trace.of("a training pair → step"):
        train(
            lm=lm,
            documents=pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA),
            questions=pa.Table.from_pylist(questions, schema=QUESTION_SCHEMA),
            params=of_project,
        )


def init_from_address(trace: Trace, tree: Path, folder: Path) -> None:
    """`cmt init --from URL` up to the first round, from a server of this machine."""
    from typer.testing import CliRunner

    import cmt
    from cmt.cli.main import app

    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/feed.xml"
    write_feed(folder / "feed.xml")
    options = ["--set", f"lm.path={tree / 'data/lm'}"]
    command = [*options, "init", str(folder / "own"), "--from", address]
    with patch.object(cmt.Workspace, "update", side_effect=SystemExit), trace.of(FROM_URL):
        result = CliRunner().invoke(app, command)
    server.shutdown()
    print(result.output, file=sys.stderr)


def write_feed(path: Path) -> None:
    """The articles as RSS."""
    items = []
    for doc_id, date, title, text in ARTICLES:
        past = date.replace("2031", "2025")  # the clock of a new project is the system's
        items.append(
            f"<item><guid>{doc_id}</guid><title>{title}</title><pubDate>{past}T08:00:00Z</pubDate>"
            f"<description>{text}</description></item>"
        )
    body = f"<channel><title>Courier</title>{''.join(items)}</channel>"
    path.write_text(f'<rss version="2.0">{body}</rss>')


# the files


def complexity(function: ast.AST) -> int:
    """Complexity of a function as radon counts it, without the functions inside it."""
    total = 1
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                continue
            case ast.If() | ast.IfExp() | ast.Assert():
                total += 1
            case ast.For() | ast.AsyncFor() | ast.While():
                total += 1 + bool(node.orelse)
            case ast.Try():
                total += len(node.handlers) + bool(node.orelse)
            case ast.BoolOp():
                total += len(node.values) - 1
            case ast.comprehension():
                total += 1 + len(node.ifs)
            case ast.Match():
                total += len(node.cases)
        pending.extend(ast.iter_child_nodes(node))
    return total


def imported_modules(node: ast.AST, module: str) -> Iterator[str]:
    """Names that an import statement of `module` may import, of modules or of their contents."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = module.split(".")[: -node.level]
            base = ".".join([*parents, *filter(None, [node.module])])
        yield base
        for alias in node.names:
            yield f"{base}.{alias.name}"


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules of one package that import each other, directly or through others."""
    reached = {}
    for start in imports:
        found, pending = set[str](), [start]
        while pending:
            new = imports[pending.pop()] - found
            found |= new
            pending.extend(new)
        reached[start] = found
    groups: list[set[str]] = []
    for start, found in reached.items():
        group = {other for other in found if start in reached[other]} | {start}
        if len(group) > 1 and group not in groups:
            groups.append(group)
    return groups


def parse(tree: Path) -> dict[str, ast.Module]:
    """The modules of `cmt` by their names."""
    parsed = {}
    for path in sorted((tree / "cmt").rglob("*.py")):
        name = ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")
        parsed[name] = ast.parse(path.read_text())
    return parsed


def import_figures(modules: Mapping[str, ast.Module]) -> Figures:
    """Imports inside functions, circles inside packages, and modules that look public."""
    # 1. which module of its own package each module imports
    imports: dict[str, set[str]] = {}
    for name, module in modules.items():
        package = name.split(".")[:2]
        named = {other for node in ast.walk(module) for other in imported_modules(node, name)}
        imports[name] = {
            other for other in (named & modules.keys()) - {name} if other.split(".")[:2] == package
        }
    # 2. imports inside functions, of nested ones once
    inner = set[ast.AST]()
    for module in modules.values():
        for function in functions_of(module):
            inner |= {node for node in ast.walk(function) if isinstance(node, IMPORTS)}
    found = circles(imports)
    for group in found:
        print("circle:", ", ".join(sorted(group)), file=sys.stderr)
    return {
        "imports inside functions": len(inner),
        "circles inside packages": len(found),
        "modules that look public": sum(not re.search(r"\._[^_]", name) for name in modules),
    }


def functions_of(module: ast.AST) -> list[Any]:
    """All functions and methods, nested ones too."""
    return [node for node in ast.walk(module) if isinstance(node, FUNCTIONS)]


def size_figures(tree: Path, modules: Mapping[str, ast.Module]) -> Figures:
    """Sizes of files, functions and lines."""
    functions = [function for module in modules.values() for function in functions_of(module)]
    lengths = [function.end_lineno - function.lineno + 1 for function in functions]
    complexities = [complexity(function) for function in functions]
    nodes = [sum(1 for _ in ast.walk(function)) for function in functions]
    lines = [
        line.strip()
        for path in (tree / "cmt").rglob("*.py")
        for line in path.read_text().splitlines()
    ]
    code = [len(line) for line in lines if line and not line.startswith("#")]
    comprehensions = sum(
        isinstance(node, COMPREHENSIONS) for module in modules.values() for node in ast.walk(module)
    )
    return {
        "files × lines": f"{len(modules)} × {len(lines) / len(modules):.0f}",
        "functions: lines, median / 90 % / most": _spread(lengths),
        "complexity (radon), median / 90 % / most": _spread(complexities),
        f"functions above {MAX_COMPLEXITY} (radon)": sum(c > MAX_COMPLEXITY for c in complexities),
        "syntax nodes of a function, median": median(nodes),
        "characters of a code line, mean": round(sum(code) / len(code), 1),
        "comprehensions a 100 lines": round(100 * comprehensions / len(lines), 1),
    }


def ruff_figures(tree: Path) -> Figures:
    """What ruff finds above the limits; a `noqa` with a reason is no finding."""
    complexity, arguments = (
        f"lint.mccabe.max-complexity={MAX_COMPLEXITY}",
        f"lint.pylint.max-args={MAX_ARGUMENTS}",
    )
    return {
        f"functions above {MAX_COMPLEXITY} (C901)": _ruff(tree, "C901", complexity),
        f"functions of more than {MAX_ARGUMENTS} arguments (PLR0913)": _ruff(
            tree, "PLR0913", arguments
        ),
        f"lines of more than {MAX_LINE} characters": _ruff(tree, "E501", f"line-length={MAX_LINE}"),
    }


def _spread(values: list[int]) -> str:
    return f"{median(values):.0f} / {quantiles(values, n=10)[-1]:.0f} / {max(values)}"


def _ruff(tree: Path, rule: str, setting: str) -> int:
    """Number of ruff's findings of a rule in `cmt/`."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", rule]
    command += ["--config", setting, "--output-format", "json", str(tree / "cmt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return len(json.loads(done.stdout))


def configuration_keys(section: Any, *, research: bool) -> int:
    """Keys of a model, and of the models in a list or union; 0 without a model."""
    fields: dict[str, Any] | None = getattr(section, "model_fields", None)
    if not fields:
        return sum(configuration_keys(part, research=research) for part in get_args(section))
    left_out = () if research else getattr(section, "RESEARCH", ())
    return sum(
        configuration_keys(field.annotation, research=research) or 1
        for name, field in fields.items()
        if name not in left_out
    )


def main(
    tree: Annotated[Path, typer.Option(help="The checkout to measure.")] = ROOT,
    before: Annotated[Path | None, typer.Option(help="JSON of an earlier run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    static: Annotated[bool, typer.Option("--static", help="Trace no walk.")] = False,
) -> None:
    """Print the table."""
    tree = tree.resolve()
    sys.path.insert(0, str(tree))
    from cmt.config import Params

    figures: Figures = {}
    if not static:
        with tempfile.TemporaryDirectory() as folder:
            figures |= walks(tree, Path(folder))
    modules = parse(tree)
    figures |= size_figures(tree, modules) | ruff_figures(tree) | import_figures(modules)
    figures["configuration keys"] = configuration_keys(Params, research=True)
    figures["configuration keys outside `research`"] = configuration_keys(Params, research=False)
    if out:
        out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    earlier = json.loads(before.read_text()) if before else {}
    print("| | before | after |\n|---|---|---|" if before else "| | |\n|---|---|")
    for name, value in figures.items():
        cells = [name, *([str(earlier.get(name, ""))] if before else []), str(value)]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
