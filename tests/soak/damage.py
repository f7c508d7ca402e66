"""Seeded byte flips in every kind of file that `cmt` wrote: `cmt verify` names each, or it is
harmless.

Harmless means that the content is unchanged, and so are the answers to fixed questions.
"""

import json
import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmt.errors import CmtError
from cmt.project import Project
from cmt.workspace import Workspace
from tests.helpers.rows import write_lines
from tests.soak.findings import Findings, kind_of_file
from tests.soak.processes import PROCESSES, run
from tests.soak.project import PEOPLE, THINGS, Content, content, opened

QUESTIONS = [
    *(f"Who has the {thing}?" for thing in THINGS),
    *(f"Who has the {thing} of month 2?" for thing in THINGS),
    *(f"What does {person} have?" for person in PEOPLE),
    "What is new?",
    "Whose is the mill of month 3?",
]
"""Twenty questions whose answers may not change."""
BATCH = 50  # flips that one process checks
NOT_OURS = (
    "params.yaml",
    "news",
    "more",
    "lm-source",
)  # files of a project that `cmt` did not write


@dataclass(frozen=True)
class Flip:
    """A changed byte: the original XOR `mask`."""

    kind: str
    path: str
    offset: int
    mask: int


def project_with_every_file(source: Path, folder: Path) -> Path:
    """A copy of the project in which every kind of file occurs that commands write; returns its
    folder.
    """
    shutil.copytree(source, folder)
    write_lines(folder / "bad.jsonl", [{"doc_id": "no-date", "text": "A document without a date."}])
    commands = [
        ("ingest", "bad.jsonl"),
        ("update",),
        ("forget", "ferry-1"),
        ("ingest", "more"),
        ("update", "--all"),
        ("--set", "evaluation.baselines=true", "evaluate"),
    ]
    for arguments in commands:
        outcome = run(folder, *arguments)
        if outcome.status != (1 if "bad.jsonl" in arguments else 0):
            raise RuntimeError(f"cmt {' '.join(arguments)}: {outcome.errors}")
    (folder / "bad.jsonl").unlink()
    return folder


def draw_flips(project: Path, *, count: int, seed: int) -> list[Flip]:
    """`count` flips, spread evenly over the kinds of files, determined by the seed."""
    source = random.Random(seed)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(project.rglob("*")):
        relative = path.relative_to(project)
        if (
            path.is_file()
            and path.stat().st_size
            and relative.parts[0] not in NOT_OURS
            and path.suffix != ".lock"
        ):
            files[kind_of_file(relative)].append(relative)
    kinds = sorted(files)
    flips = []
    for place in range(count):
        kind = kinds[place % len(kinds)]
        path = source.choice(files[kind])
        size = (project / path).stat().st_size
        flips.append(Flip(kind, str(path), source.randrange(size), source.randrange(1, 256)))
    return flips


def every_flip(
    source: Path,
    folder: Path,
    *,
    count: int,
    seed: int,
    workers: int,
    on_flip: Callable[[int, int], None],
) -> Findings:
    """Flip `count` bytes of a copy in `folder` of the project `source`, one at a time; `on_flip`:
    done and total.
    """
    project = project_with_every_file(source, folder / "damaged")
    flips = draw_flips(project, count=count, seed=seed)
    batches = [flips[start : start + BATCH] for start in range(0, count, BATCH)]
    findings, done = Findings(), 0
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda batch: _in_process(project, folder, batch), batches):
            findings.merge(found)
            done += found.flips.total()
            on_flip(done, count)
    findings.checked["flips"] = done
    return findings


def _in_process(project: Path, folder: Path, flips: list[Flip]) -> Findings:
    """Check `flips` in a separate process, which damaged files may crash."""
    findings = Findings()
    copy = shutil.copytree(project, folder / f"flips-{flips[0].offset}-{id(flips)}")
    rest = flips
    while rest:
        notes = copy.with_suffix(".jsonl")
        notes.write_text("")
        process = PROCESSES.Process(target=_look, args=(copy, rest, notes))
        process.start()
        process.join()
        lines = [json.loads(line) for line in notes.read_text().splitlines()]
        for flip, line in zip(rest, lines, strict=False):
            findings.flips[flip.kind, line["result"]] += 1
            if line["result"] == "silent":
                findings.add("silent", f"{flip} is not named, and {line['reason']}")
        rest = rest[len(lines) :]
        if process.exitcode:  # over the first of the rest
            findings.flips[rest[0].kind, "ended the process"] += 1
            findings.add("wrong", f"{rest[0]} ends the process with {process.exitcode}")
            (copy / rest[0].path).write_bytes((project / rest[0].path).read_bytes())
            rest = rest[1:]
    shutil.rmtree(copy)
    return findings


def _look(project: Path, flips: list[Flip], notes: Path) -> None:
    """Apply each flip in turn, check whether it is named or harmless, and restore the file."""
    sound = opened(project)
    parts = {"lm": sound.project.lm, "model": sound.project.model}
    expected, answers = content(project), _answers(sound)
    with notes.open("a") as file:
        for flip in flips:
            path = project / flip.path
            original = path.read_bytes()
            damaged = bytearray(original)
            damaged[flip.offset] ^= flip.mask
            path.write_bytes(damaged)
            try:
                result, reason = _result(project, flip, parts, expected, answers)
            finally:
                path.write_bytes(original)
            file.write(json.dumps({"result": result, "reason": reason}) + "\n")
            file.flush()


def _result(
    project: Path,
    flip: Flip,
    parts: dict[str, Any],
    expected: Content,
    answers: list[tuple[str, ...]],
) -> tuple[str, str]:
    """Whether a flip is named, harmless or silent, and the difference if it is silent."""
    top = Path(flip.path).parts[0]
    if any(
        top in f"{report.path} {problem}"
        for report in opened(project).verify()
        for problem in report.problems
    ):
        return "named", ""
    workspace = opened(project)
    if top not in ("lm", "compressor"):
        # as loaded before: reading them again takes longer than the question
        workspace = Workspace(Project(workspace.params, project, **parts))
    try:
        if content(project) != expected:
            return "silent", "the content differs"
        if _answers(workspace) != answers:
            return "silent", "answers differ"
    except CmtError as error:
        return "silent", f"it is an error for others: {error}"
    return "harmless", ""


def _answers(workspace: Workspace) -> list[tuple[str, ...]]:
    """Answers, confidences and sources of the fixed questions."""
    workspace.project.active.bank()
    answered = workspace.project.answerer.answer(QUESTIONS, as_of=[None] * len(QUESTIONS))
    return [
        (a.text, f"{a.confidence:.6f}", *(source.doc_id for source in a.sources)) for a in answered
    ]
