"""`cmt verify`: whether LM, compressor, slices, ledger and banks are what was written, by whole
digests.

Each part is read on its own, so that damage to one hides none of the others. Every problem ends
with what to do.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from cmt.bank.bank import Bank, open_bank
from cmt.bank.integrity import DELETIONS, altered_files
from cmt.bank.ledger import Ledger
from cmt.bank.maintenance import Audit
from cmt.bank.rounds import Round, contradiction
from cmt.bank.schema import schema_value
from cmt.bank.tables import (
    MEMORIES,
    connect,
    current_table,
    how_to_refill,
    memory_tables,
    translate_errors,
)
from cmt.common.digests import sha256_hex
from cmt.common.progress import Progress
from cmt.errors import BankError, CmtError, ModelError
from cmt.lm import weights
from cmt.lm.integrity import read_record
from cmt.modeling.champion import FILE as CHAMPION_FILE
from cmt.modeling.champion import champion_folder, read_champion
from cmt.modeling.checkpoint import checkpoint_digest, load_checkpoint
from cmt.project import Project
from cmt.rounds.erasure import read_journal
from cmt.stream.forgotten import DOC_IDS, SKETCHES
from cmt.text.display import counted

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class PartReport:
    """What reading one part of a project found."""

    part: str
    """"language model", "compressor", "champion", "slices", "forgetting", "ledger", or "bank" with
    the first 12 digits of its compressor."""
    path: str
    content: str
    """How much it holds."""
    digest: str
    """SHA-256 of the content; empty if it could not be computed."""
    problems: tuple[str, ...] = ()
    """One line each; empty if the part is sound."""
    advice: str = ""
    """What repairs the problems that do not say it themselves."""


def verify(project: Project, *, progress: Progress) -> list[PartReport]:
    """Read every part of the project; what does not exist yet is left out."""
    params = project.params
    parts: list[tuple[str, str, Callable[[], PartReport]]] = [
        ("language model", str(params.lm.path), lambda: _language_model(project)),
        ("compressor", str(params.compressor.path), lambda: _compressor(project)),
        ("slices", str(params.stream.path), lambda: _slices(project)),
    ]
    champion = project.state / CHAMPION_FILE
    if champion.exists():
        parts.append(("champion", str(champion), lambda: _champion(project)))
    if project.history.forgetting_journal.exists():
        parts.append(
            ("forgetting", str(project.history.forgetting_journal), lambda: _forgetting(project))
        )
    uri = params.bank.uri
    if Ledger.exists(uri):
        parts.append(("ledger", uri, lambda: _ledger(project)))
    names: list[str] = []
    with suppress(BankError):  # there is no bank
        names = memory_tables(connect(uri))
    for name in names:
        parts.append((f"bank {name.removeprefix(MEMORIES)}", uri, partial(_bank, project, name)))
    progress.stage("verify", len(parts))
    reports = []
    for part, path, read in parts:
        try:
            reports.append(read())
        except CmtError as error:
            reports.append(PartReport(part, path, "", "", (str(error),)))
        progress.advance(1)
    return reports


def _language_model(project: Project) -> PartReport:
    lm = project.params.lm
    folder = weights.verify(source=lm.source, path=lm.path)
    return PartReport("language model", str(folder), lm.source, read_record(folder).digest)


def _compressor(project: Project) -> PartReport:
    folder = project.params.compressor.path
    tensors = load_checkpoint(folder).weights  # checked against SHA256SUMS
    return PartReport(
        "compressor", str(folder), f"{len(tensors)} tensors", checkpoint_digest(folder)
    )


def _champion(project: Project) -> PartReport:
    """The file that names the champion, and the compressors that it names."""
    path = project.state / CHAMPION_FILE
    named = read_champion(project.state)
    if named is None:  # removed meanwhile
        return PartReport("champion", str(path), "", "")
    problems = []
    for compressor in (named.champion, named.previous):
        folder = champion_folder(project.state, compressor.digest)
        try:
            load_checkpoint(folder)
            if (digest := checkpoint_digest(folder)) != compressor.digest:
                problems.append(f"{folder} holds another compressor, {digest[:12]}")
        except ModelError as error:
            problems.append(str(error))
    advice = (
        f"restore {project.state.parent / 'compressors'}, or remove {path} to use compressor.path"
    )
    return PartReport(
        "champion", str(path), named.champion.bank, named.champion.digest, tuple(problems), advice
    )


def _forgetting(project: Project) -> PartReport:
    journal, path = read_journal(project), project.history.forgetting_journal
    if journal is None:  # finished meanwhile
        return PartReport("forgetting", str(path), "", "")
    documents = counted(len(journal.doc_ids), "document")
    problem = f"{'the purge' if journal.purge else 'forgetting'} of {documents} is not finished"
    advice = (
        "run `cmt update`, `cmt forget` or `cmt bank optimize`, each of which finishes it, unless "
        "one is at work"
    )
    return PartReport("forgetting", str(path), documents, "", (problem,), advice)


def _slices(project: Project) -> PartReport:
    store = project.store
    journal = _readable(lambda: read_journal(project), None)
    if problems := store.verify(skip=journal.slices if journal else ()):
        return PartReport("slices", str(store.path), "", "", tuple(problems))
    slices = store.slices()
    content = f"{len(slices):,} slices, {sum(slice_.n_documents for slice_ in slices):,} documents"
    digest = sha256_hex(*(slice_.digest for slice_ in slices))
    problems = _missing_slices(project)
    lost = sorted(set(_readable(project.history.forgotten, ())).difference(store.forgotten()))
    if lost and journal is None:
        names = _some(lost)
        problems.append(
            f"{len(lost):,} forgotten documents are missing in {store.path / DOC_IDS} and could be "
            f"ingested again: restore it and {SKETCHES} from a backup, or run `cmt forget {names}`"
        )
    return PartReport("slices", str(store.path), content, digest, tuple(problems))


def _missing_slices(project: Project) -> list[str]:
    """A line for each slice that a committed round of the compressor in use has, and the stream
    lacks.
    """
    path = project.store.path
    known = {slice_.slice_id for slice_ in project.store.slices()}
    in_use = _readable(lambda: project.compressor_digest, "")
    lines = []
    for round_ in _readable(lambda: project.ledger.rounds(), ()):
        is_committed = round_.compressor == in_use and round_.state == "committed"
        if is_committed and round_.slice_id not in known:
            lines.append(
                f"slice {round_.slice_id} is missing, but its round is committed: restore {path} "
                "from a backup or DVC"
            )
    return lines


def _ledger(project: Project) -> PartReport:
    uri, ledger = project.params.bank.uri, project.ledger
    rounds, changes = ledger.rounds(), ledger.changes()
    ledger.forgotten()  # raises BankError if it cannot be read
    problems = []
    if any(round_.state == "committed" for round_ in rounds):
        with translate_errors(
            f"the pointer in {uri} cannot be read", "run `cmt update --all`, which sets it again"
        ):
            if current_table(ledger.connection) not in memory_tables(ledger.connection):
                problems.append(
                    f"bank {uri} does not say which compressor answers: run `cmt update --all`"
                )
    digest = sha256_hex(*map(repr, [*rounds, *changes]))
    content = f"{len(rounds):,} rounds" + (
        f", {counted(len(changes), 'change')}" if changes else ""
    )
    undecided = [round_.round_id for round_ in rounds if round_.state == "started"]
    content += (
        f", {', '.join(undecided)} undecided: its rows do not answer yet" if undecided else ""
    )
    return PartReport("ledger", uri, content, digest, tuple(problems))


@dataclass(frozen=True)
class _Recorded:
    """What ledger and stream say about one bank."""

    rounds: Sequence[Round]
    forgotten: Sequence[str] | None
    """None if they cannot be read."""

    @classmethod
    def of(cls, project: Project, compressor: str) -> "_Recorded":
        """Read it before the bank: another process writes the bank first, then the ledger."""
        rounds = _readable(lambda: project.ledger.rounds(), ())
        rounds = [round_ for round_ in rounds if round_.compressor.startswith(compressor)]
        return cls(rounds, _readable(project.history.forgotten, None))

    @property
    def committed(self) -> list[Round]:
        return [round_ for round_ in self.rounds if round_.state == "committed"]

    @property
    def idle(self) -> bool:
        """Whether there are rounds, none is at work, and nothing is forgotten."""
        states = {round_.state for round_ in self.rounds}
        return (
            bool(states)
            and states.isdisjoint(("started", "rolling_back"))
            and (self.forgotten == [])
        )


def _bank(project: Project, name: str) -> PartReport:
    """One bank: its files, its rounds in the ledger, and all its rows."""
    uri, compressor = project.params.bank.uri, name.removeprefix(MEMORIES)
    part, recorded = f"bank {compressor}", _Recorded.of(project, compressor)
    # 1. Open it.
    if altered := altered_files(uri, name, DELETIONS):  # before Lance reads them
        damage = (
            f"{altered[0]} of bank {uri}, which lists deleted rows, does not match its checksum"
        )
        return PartReport(part, uri, "", "", (damage,), how_to_refill(uri))
    try:
        bank = open_bank(project.bank_location, compressor=compressor)
        version, rows = bank.version_and_rows()
    except BankError as error:
        advice = f"if it is damaged, {how_to_refill(uri)}"
        return PartReport(part, uri, "", "", (str(error),), advice)
    # 2. Compare it with the ledger. `undo`: the rounds whose rows are damaged or missing.
    committed = recorded.committed
    problems, undo = list[str](), list[Round]()
    problem = contradiction(recorded.rounds, version=version, rows=rows, idle=recorded.idle)
    if problem:
        problems.append(f"bank {uri} {problem}")
        undo = _rounds_after(version, committed)
    # 3. Read every row.
    digest = schema_value(bank.schema, "compressor")
    unbanked = _readable(lambda: project.history.unbanked(digest), None)
    try:
        audit = bank.audit(unbanked=unbanked)
    except BankError as error:
        problems.append(str(error))
        return PartReport(part, uri, "", "", tuple(problems), _advice(project, bank, committed))
    problems += audit.problems
    if not problems:
        problems += _other_rows(recorded, audit, uri)
    if problems and not undo:
        undo = [round_ for round_ in committed if round_.slice_id in audit.slices] or committed
    # 4. Report.
    advice = _advice(project, bank, undo) if problems else ""
    problems += [audit.index_problem] if audit.index_problem else []
    problems += _dates_and_forgotten(project, bank, audit, recorded)
    return PartReport(part, uri, f"{audit.rows:,} rows", audit.digest, tuple(problems), advice)


def _rounds_after(version: int, committed: Sequence[Round]) -> list[Round]:
    """The rounds that wrote a later version of the bank; all if none did."""
    later = [round_ for round_ in committed if (round_.version_after or 0) > version]
    return later or list(committed)


def _other_rows(recorded: _Recorded, audit: Audit, uri: str) -> Iterator[str]:
    """Rows that differ from those that the last round left."""
    committed = recorded.committed
    if recorded.idle and committed and committed[-1].bank_digest != audit.digest:
        yield f"bank {uri} has other rows than round {committed[-1].round_id} left"


def _dates_and_forgotten(
    project: Project, bank: Bank, audit: Audit, recorded: _Recorded
) -> Iterator[str]:
    """Documents that the bank shows at other dates than the stream, or although they are
    forgotten.
    """
    uri = project.params.bank.uri
    if audit.misdated:
        yield (
            f"bank {uri} shows documents at other dates than the stream says "
            f"({_some(audit.misdated)}): run `cmt update --all`, and if no slice waits, "
            f"{_advice(project, bank, recorded.committed)}"
        )
    if left := bank.present(recorded.forgotten or ()):
        yield (
            f"{len(left):,} forgotten documents are still in bank {uri}: "
            f"run `cmt forget {_some(sorted(left))}`"
        )


def _some(names: Sequence[str]) -> str:
    return " ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _advice(project: Project, bank: Bank, undo: Sequence[Round]) -> str:
    """How to make the first of the rounds `undo` and all later ones again, or else the whole
    bank.
    """
    refill = how_to_refill(project.params.bank.uri)
    if not undo:
        return refill
    try:
        bank.check_version(undo[0].version_before)
    except BankError:
        return refill  # no rollback reaches the version before it
    compressor = undo[0].compressor
    in_use = _readable(lambda: project.compressor_digest, "")
    with_it = "" if compressor == in_use else f" with compressor {compressor[:12]} in use"
    return f"run `cmt rollback {undo[0].round_id}` and `cmt update --all`{with_it}, or {refill}"


def _readable(read: Callable[[], T], default: D) -> T | D:
    """What `read` returns; `default` if that part cannot be read, which has a report of its own."""
    try:
        return read()
    except CmtError:
        return default
