"""Rounds, questions and `cmt verify` notice damage, and the advice of each message repairs it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lancedb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cmt
from cmt.rounds.care.verification import PartReport
from cmt.workspace import Workspace
from tests.helpers.cli import MAYOR, read, run
from tests.helpers.damage import flip, lose_versions, replace_bytes
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, open_workspace, run_steps

FERRY = "What does the ferry to Saltby cost?"


def bank_table(project: Path) -> Path:
    """The folder of the table that answers."""
    return project / "data/bank" / f"{open_workspace(project).project.active.stored().name}.lance"


def reports(project: Path) -> dict[str, PartReport]:
    """What `verify` reports, by the first word of the part."""
    return {report.part.split()[0]: report for report in open_workspace(project).verify()}


def damaged(project: Path) -> list[str]:
    """The parts that `verify` finds damaged."""
    return [name for name, report in reports(project).items() if report.problems]


def test_a_sound_project_has_no_problems(adapted_project: Path) -> None:
    found = reports(adapted_project)
    assert list(found) == ["language", "compressor", "slices", "ledger", "bank"]
    assert [report.content for report in found.values()][2:] == [
        "2 slices, 6 documents",
        "2 rounds",
        "6 rows",
    ]
    assert found["bank"].digest == open_workspace(adapted_project).rounds()[-1].bank_digest
    assert {len(report.digest.partition("-")[0]) for report in found.values()} == {64}
    assert read(adapted_project, "verify")["problems"] == 0
    printed = run(adapted_project, "verify").stdout.splitlines()
    assert [line.split()[0] for line in printed if line.endswith("sound")] == list(found)


def test_a_project_without_rounds_has_no_bank_to_verify(project: Path) -> None:
    assert list(reports(project)) == ["language", "compressor", "slices"]
    assert damaged(project) == []


# Rows


def test_a_changed_text_stops_a_question_and_the_advice_repairs_it(adapted_workspace: Path) -> None:
    before = read(adapted_workspace, "ask", FERRY)
    assert replace_bytes(bank_table(adapted_workspace) / "data", b"six crowns", b"ten crowns")
    stderr = run(adapted_workspace, "ask", FERRY, status=1).stderr
    assert "memory 'ferry#0' in" in stderr and "run `cmt verify`" in stderr
    verified = run(adapted_workspace, "verify", status=1)
    assert "memory 'ferry#0' does not match its checksum" in verified.stdout
    assert f"run `cmt rollback {JANUARY}` and `cmt update --all`, or restore" in verified.stdout
    assert "error: 1 problem in bank" in verified.stderr
    run(adapted_workspace, "rollback", JANUARY)
    run(
        adapted_workspace, "--set", "evaluation.questions=2", "update", "--all"
    )  # the answers calibrate the confidence
    assert (
        read(adapted_workspace, "ask", FERRY) | {"id": before["id"]} == before
    )  # of a later version of the bank
    assert damaged(adapted_workspace) == []


def test_a_damaged_row_stops_the_round_that_asks_for_it(adapted_workspace: Path) -> None:
    replace_bytes(bank_table(adapted_workspace) / "data", b"six crowns", b"ten crowns")
    ingest_more(adapted_workspace, month=3, doc_ids=["quiet"])
    with pytest.raises(cmt.DamageError, match="memory 'ferry#0'"):
        open_workspace(adapted_workspace, evaluation__earlier_questions=4).update()


def test_a_bank_that_lacks_rows_stops_the_next_round(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.project.bank.remove({"ferry"})
    [problem] = reports(adapted_workspace)["bank"].problems
    assert problem.endswith(f"has 5 rows, but round {FEBRUARY} left 6")
    ingest_more(adapted_workspace, month=3, doc_ids=["quiet"])
    with pytest.raises(
        cmt.DamageError, match=f"has 5 rows, but round {FEBRUARY} left 6: run `cmt verify`"
    ):
        open_workspace(adapted_workspace).update()


def test_a_bank_with_other_rows_than_the_ledger_recorded_is_reported(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.project.ledger.write(replace(workspace.rounds()[-1], bank_digest="0" * 64 + "-3"))
    [problem] = [
        problem for report in reports(adapted_workspace).values() for problem in report.problems
    ]
    assert f"has other rows than round {FEBRUARY} left" in problem


# Versions


def test_lost_versions_are_noticed_and_the_advice_repairs_them(adapted_workspace: Path) -> None:
    before = read(adapted_workspace, "ask", FERRY)
    january, february = open_workspace(adapted_workspace).rounds()
    assert january.version_after
    lose_versions(bank_table(adapted_workspace), keep=january.version_after)
    assert open_workspace(adapted_workspace).project.active.stored().count_rows() == 3
    lost = (
        rf"is at version {january.version_after}, but round {FEBRUARY} "
        rf"left version {february.version_after}"
    )
    ingest_more(adapted_workspace, month=3, doc_ids=["quiet"])
    uses: list[Callable[[Workspace], object]] = [
        lambda workspace: workspace.ask(FERRY),
        Workspace.evaluate,
        Workspace.update,
    ]
    for use in uses:
        with pytest.raises(cmt.DamageError, match=f"{lost}: run `cmt verify`"):
            use(open_workspace(adapted_workspace))
    assert (
        f"run `cmt rollback {FEBRUARY}` and `cmt update --all`"
        in run(adapted_workspace, "verify", status=1).stdout
    )
    run(adapted_workspace, "rollback", FEBRUARY)
    run(adapted_workspace, "update", "--all")
    assert read(adapted_workspace, "ask", FERRY)["answer"] == before["answer"]
    assert damaged(adapted_workspace) == []


def test_a_table_that_cannot_be_opened_is_filled_again_as_advised(adapted_workspace: Path) -> None:
    for manifest in (bank_table(adapted_workspace) / "_versions").iterdir():
        manifest.write_bytes(b"cut")
    printed = run(adapted_workspace, "verify", status=1).stdout
    uri = open_workspace(adapted_workspace).params.bank.uri
    assert "or remove it and run `cmt update --all`, which fills it again" in printed
    shutil.rmtree(uri)
    run(adapted_workspace, "update", "--all")
    assert read(adapted_workspace, "ask", MAYOR)["known"] in (True, False)
    assert damaged(adapted_workspace) == []


# Slices, ledger, compressor, LM


def replace_column(path: Path, name: str, values: pa.Array) -> None:
    """Write a table again with other values in a column, as a valid Parquet file."""
    rows = pq.read_table(path)
    position = rows.schema.get_field_index(name)
    pq.write_table(rows.set_column(position, rows.schema.field(position), values), path)


def flip_a_bit(path: Path) -> None:
    flip(path, path.stat().st_size // 3)


def test_a_damaged_list_of_deleted_rows_is_named_before_lance_reads_it(
    adapted_workspace: Path,
) -> None:
    open_workspace(adapted_workspace).forget("raft")
    assert damaged(adapted_workspace) == []
    file = next((bank_table(adapted_workspace) / "_deletions").glob("*.arrow"))
    flip_a_bit(file)
    report = reports(adapted_workspace)["bank"]
    assert (
        report.problems[0].startswith(f"{file.name} of bank")
        and "does not match its checksum" in report.problems[0]
    )
    assert "cmt update --all" in report.advice


def test_an_altered_slice_stops_its_round_before_it_begins(begun: Path) -> None:
    workspace = open_workspace(begun)
    documents = workspace.project.store.slice(FEBRUARY).path.with_name("0001.documents.parquet")
    replace_column(documents, "text", pa.array(["The crane is grey."] * 3))
    with pytest.raises(
        cmt.StreamError, match=f"slice {FEBRUARY} was altered.*or delete them and ingest again"
    ):
        open_workspace(begun).update()
    assert [round_.round_id for round_ in workspace.rounds()] == [JANUARY]
    [(part, [problem])] = [
        (part, report.problems) for part, report in reports(begun).items() if report.problems
    ]
    assert part == "slices"
    assert problem.startswith(f"slice {FEBRUARY} was altered, its rows do not match the digest in ")
    for file in workspace.project.store.slice(FEBRUARY).path.parent.glob("0001.*"):
        file.unlink()
    run(begun, "ingest")
    run(begun, "update", "--all")
    assert damaged(begun) == []


def test_a_changed_record_of_a_round_is_noticed(adapted_workspace: Path) -> None:
    table = lancedb.connect(open_workspace(adapted_workspace).params.bank.uri).open_table("rounds")
    [first, second] = table.to_arrow().sort_by("round_id").to_pylist()
    changed = first["record"].replace('"documents": 3', '"documents": 4')
    assert changed != first["record"]
    table.update(where=f"round_id = '{first['round_id']}'", values={"record": changed})
    stderr = run(adapted_workspace, "rounds", status=1).stderr
    assert f"the row of round {JANUARY} does not match its checksum" in stderr
    assert "ledger" in damaged(adapted_workspace)
    assert "or remove it and run `cmt update --all`" in stderr


def test_damaged_lm_compressor_and_slices_are_each_named_and_pulling_repairs_the_lm(
    adapted_workspace: Path,
) -> None:
    compressor = shutil.copytree(
        open_workspace(adapted_workspace).params.compressor.path, adapted_workspace / "copy"
    )
    paths = {"lm__path": str(adapted_workspace / "lm"), "compressor__path": str(compressor)}
    workspace = open_workspace(adapted_workspace, **paths)
    folder = workspace.pull()
    assert not [report for report in workspace.verify() if report.problems]
    # 1. the damage
    tokenizer = folder / "tokenizer.json"
    content = tokenizer.read_bytes()
    tokenizer.unlink()
    tokenizer.write_bytes(content.replace(b'"he"', b'"hx"', 1))
    flip_a_bit(Path(compressor) / "compressor.safetensors")
    for file in workspace.project.store.slice(FEBRUARY).path.parent.glob("0001.*"):
        file.unlink()
    # 2. its report
    found = {
        report.part.split()[0]: report.problems for report in workspace.verify() if report.problems
    }
    assert list(found) == ["language", "compressor", "slices"]
    [of_lm], [of_slices] = found["language"], found["slices"]
    assert "tokenizer.json" in of_lm and "run `cmt model pull`" in of_lm
    assert "compressor.safetensors changed" in found["compressor"][0]
    assert of_slices.startswith(
        f"slice {FEBRUARY} is missing, but its round is committed: restore "
    )
    # 3. the advice
    shutil.rmtree(folder)
    workspace.pull()
    assert [report.part.split()[0] for report in workspace.verify() if report.problems] == [
        "compressor",
        "slices",
    ]


# Staged memories


def test_damaged_staged_memories_are_compressed_again(
    project: Path, undisturbed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_steps(open_workspace(project), JANUARY, last="compress")
    [staged] = (project / "data/state/rounds").rglob("memories-*")
    replace_column(staged, "n_tokens", pa.array([1] * 3, pa.int32()))
    assert open_workspace(project).update().bank_digest == undisturbed[0]
    assert "its documents are compressed again" in caplog.text


def test_a_damaged_list_of_forgotten_documents_is_named_and_hides_no_other_report(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    workspace.project.ledger.forget("somebody")
    table = lancedb.connect(workspace.params.bank.uri).open_table("forgotten")
    table.update(where="doc_id = 'somebody'", values={"checksum": "0"})
    found = reports(adapted_workspace)
    [problem] = found["ledger"].problems
    assert "the forgotten document 'somebody' does not match its checksum" in problem
    assert found["slices"].content == "2 slices, 6 documents"
    assert (found["bank"].content, found["bank"].problems) == ("6 rows", ())
