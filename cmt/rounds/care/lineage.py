"""Where a round, a registered compressor, an answer or a document comes from, and what came of it.

One id is followed through all stores.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cmt.bank.memory_ids import memory_id
from cmt.bank.rounds import Round
from cmt.common.dates import iso
from cmt.errors import BankError, NotFoundError
from cmt.evaluation.changes.report import describe
from cmt.evaluation.gate.judgement import changed_answers
from cmt.modeling.champion import champion_folder, read_champion
from cmt.modeling.checkpoint import checkpoint_digest, digest_in_use, seen_slices
from cmt.project import Project

_ANSWER_ID = re.compile(r"(?P<compressor>[0-9a-f]{12})-(?P<version>\d{1,18})-[0-9a-f]{12}")


@dataclass(frozen=True)
class Lineage:
    """The known facts about a round, a version, an answer or a document."""

    name: str
    facts: dict[str, str]
    """By name; unknown facts are left out."""


def lineage(project: Project, name: str) -> list[Lineage]:
    """The lineage of the round, registered version, answer or document `name`; of a round, one for
    each compressor.

    An answer has the lineage of its compressor and bank version, and of the last round before it. A
    document has its latest version in the bank that answers, and its inferred changes in both
    directions.

    Raises NotFoundError if nothing has that name, and ServiceError if MLflow is needed and cannot
    be used.
    """
    rounds = [round_ for round_ in project.history.all_rounds() if round_.round_id == name]
    if rounds:
        folders = _folders(project)
        changes = sum(change.round_id == name for change in project.history.changes())
        more_facts = {"changes found": str(changes)} if changes else {}
        more_facts |= {
            f"canary {n}": line
            for n, line in enumerate(changed_answers(project.state, rounds[-1]), 1)
        }
        return [
            Lineage(
                f"round {name}", _round_facts(round_, folders.get(round_.compressor)) | more_facts
            )
            for round_ in rounds
        ]
    if answer := _ANSWER_ID.fullmatch(name):
        return _answer_lineage(project, name, answer["compressor"], int(answer["version"]))
    if document := _document_lineage(project, name):
        return [document]
    if not name.isdecimal():
        round_ids = dict.fromkeys(round_.round_id for round_ in project.history.all_rounds())
        raise NotFoundError(
            f"there is no round {name!r} (there are: {', '.join(round_ids) or 'none'}), and no "
            "document of that name in the bank. A version of the registry is a number, the id of "
            "an answer COMPRESSOR-VERSION-ANSWER"
        )
    return [Lineage(f"version {name}", _version_facts(project, name))]


def _answer_lineage(
    project: Project, name: str, compressor: str, bank_version: int
) -> list[Lineage]:
    """The answer, and the round that wrote its version of the bank, which may have been rolled back
    since.
    """
    rounds = [
        round_
        for round_ in project.history.all_rounds()
        if round_.compressor.startswith(compressor)
    ]
    if not rounds:
        raise NotFoundError(
            f"answer {name}: no bank of compressor {compressor} is here: "
            "go to the project that answered"
        )
    before = [
        round_
        for round_ in rounds
        if (round_.state == "committed" and (round_.version_after or 0) <= bank_version)
        or (round_.state == "rolled_back" and round_.version_after == bank_version)
    ]
    last = max(before, key=lambda round_: round_.version_after or 0, default=None)
    folder = _folders(project).get(rounds[0].compressor)
    facts = {
        "compressor": rounds[0].compressor,
        "bank version": str(bank_version),
        "last round before": last.round_id if last else "",
        "rounds before": str(len(before)),
    }
    answer = Lineage(f"answer {name}", facts)
    return (
        [answer, Lineage(f"round {last.round_id}", _round_facts(last, folder))]
        if last
        else [answer]
    )


def _document_lineage(project: Project, doc_id: str) -> Lineage | None:
    """The latest version of the document in the bank that answers, and its changes; None if the
    bank has none.
    """
    rows = []
    with suppress(BankError):  # there is no bank
        columns = ["memory_id", "title", "published_at", "superseded_at", "supersedes", "slice_id"]
        rows = project.active.stored().rows(columns, {memory_id(doc_id, 0)}).to_pylist()
    if not rows:
        return None
    facts = {
        "title": rows[0]["title"],
        "published": iso(rows[0]["published_at"]),
        "superseded": iso(until) if (until := rows[0]["superseded_at"]) else "",
        "supersedes": rows[0]["supersedes"],
        "round": rows[0]["slice_id"],
    }
    for report in describe(project, [doc_id]):
        change = report.change
        role = (
            f"changes {change.old.doc_id}"
            if change.new.doc_id == doc_id
            else f"changed by {change.new.doc_id}"
        )
        rejected = ", rejected" if change.state == "rejected" else ""
        facts[f"{role}, {change.id}"] = f"{report.values}, from {iso(change.holds_from)}{rejected}"
    return Lineage(f"document {doc_id}", {name: value for name, value in facts.items() if value})


def _round_facts(round_: Round, folder: Path | None) -> dict[str, str]:
    facts = {
        "state": round_.state,
        "gate": round_.judgement,
        "reason": round_.reason,
        "set aside": ", ".join(round_.set_aside),
        "slice digest": round_.slice_digest,
        "compressor": round_.compressor,
        "compressor's folder": str(folder or ""),
        "compressor was trained on slices": ", ".join(seen_slices(folder)) if folder else "",
        "bank version before": str(round_.version_before),
        "bank version after": str(round_.version_after or ""),
        "bank digest": round_.bank_digest,
        "parameters": round_.params_digest,
        "recompressed": "yes" if round_.recompressed else "",
        "git commit": round_.git_commit,
        "dvc.lock": round_.dvc_lock,
        "Prefect run": round_.prefect_run,
        "MLflow run": round_.mlflow_run,
        "started": round_.started_at,
        "finished": round_.finished_at,
    }
    return {name: value for name, value in facts.items() if value}


def _version_facts(project: Project, name: str) -> dict[str, str]:
    registry = project.registry
    version = registry.version(name)
    folders = _folders(project)
    folder = next(
        (path for path in folders.values() if checkpoint_digest(path) == version.digest), None
    )
    in_use = next((digest for digest, path in folders.items() if path == folder), "")
    adapted = [
        round_.round_id
        for round_ in project.history.all_rounds()
        if round_.compressor == in_use and folder
    ]
    facts = {
        "compressor": version.digest,
        "aliases": ", ".join(version.aliases),
        "decision": version.decision,
        "held-out F1": "" if version.f1 is None else f"{version.f1:.1f} on {version.held_out}",
        "training run in MLflow": version.run,
        "started by": registry.started_by(version),
        "folder": str(folder or ""),
        "trained on slices": version.slices,
        "rounds": ", ".join(adapted),
    }
    return {name: value for name, value in facts.items() if value}


def _folders(project: Project) -> dict[str, Path]:
    """The compressors at hand: digest at the window in use → folder."""
    window, named = project.params.compressor.window, read_champion(project.state)
    paths = [project.params.compressor.path, project.declared.compressor.path]
    if named:
        paths += [
            champion_folder(project.state, compressor.digest)
            for compressor in (named.champion, named.previous)
        ]
    return {digest_in_use(path, window=window): path for path in paths if path.is_dir()}
