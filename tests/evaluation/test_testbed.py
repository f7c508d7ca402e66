"""What measurements work on: memories, documents and questions of a bank."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import cmt
from cmt.errors import BankError, StreamError
from cmt.evaluation.testbed import BankTestbed, ComparisonData, as_of
from tests.helpers.news import DAYS, FIRST_DAY, NEWS, MakeTestbed


def ids(testbed: BankTestbed, doc_ids: Sequence[str], among: Sequence[str]) -> list[str]:
    return testbed.current(doc_ids, among=among)["doc_id"].to_pylist()


def test_documents_and_memories_are_sorted_by_date(news_testbed: MakeTestbed) -> None:
    testbed = news_testbed()
    assert list(testbed.documents) == testbed.memories["doc_id"].to_pylist() == [row[0] for row in NEWS]
    assert testbed.documents["mayor-2"]["supersedes"] == "mayor-1"
    assert testbed.end == max(testbed.questions["asked_at"].to_pylist()) > DAYS["eel"]


def test_a_temporary_bank_gets_the_memories_that_are_added(news_testbed: MakeTestbed) -> None:
    testbed = news_testbed()
    with testbed.temporary_bank() as bank:
        testbed.add(bank, [])
        assert bank.count_rows() == 0
        testbed.add(bank, ["goat", "eel"])
        assert bank.count_rows() == 2
        assert bank.schema == testbed.answerer.bank.schema


def test_questions_about_current_documents_are_asked_as_of_the_end(news_testbed: MakeTestbed) -> None:
    testbed = news_testbed()
    first = ["mayor-1", "goat"]
    assert ids(testbed, first, among=first) == ["mayor-1", "goat"]
    assert ids(testbed, first, among=list(testbed.documents)) == ["goat"]
    current = testbed.current(first, among=first)
    assert set(current["asked_at"].to_pylist()) == {testbed.end}
    assert testbed.asked(first)["asked_at"].to_pylist() != current["asked_at"].to_pylist()


def test_questions_without_a_banked_document_are_not_asked(news_testbed: MakeTestbed) -> None:
    assert news_testbed().asked(["goat", "nowhere"]).num_rows == 1


def test_a_sample_of_no_questions_is_a_stream_error(news_testbed: MakeTestbed) -> None:
    testbed = news_testbed()
    assert testbed.sample(testbed.questions, 4).num_rows == 4
    with pytest.raises(StreamError, match="no question that fits this curve"):
        testbed.sample(testbed.questions.slice(0, 0), 4)


def test_the_dates_of_questions_can_be_replaced(news_testbed: MakeTestbed) -> None:
    questions = news_testbed().questions.slice(0, 2)
    assert as_of(questions, [FIRST_DAY] * 2)["asked_at"].to_pylist() == [FIRST_DAY] * 2
    assert as_of(questions, [FIRST_DAY] * 2).schema == questions.schema


def test_selection_parameters_can_be_replaced(adapted: cmt.Workspace) -> None:
    testbed = BankTestbed.of(adapted)
    assert testbed.answerer_for(adapted.bank, top_k=3).params.selection.top_k == 3
    assert testbed.answerer.params.selection.top_k == 8


def test_without_a_bank_there_is_nothing_to_measure(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    with pytest.raises(BankError, match="cmt update"):
        BankTestbed.of(workspace)
    assert not (tiny_workspace / "data").exists()


def test_texts_of_a_comparison_are_those_of_banked_documents(comparison_data: ComparisonData) -> None:
    assert list(comparison_data.texts) == comparison_data.documents["doc_id"].to_pylist()
    assert list(comparison_data.texts) == ["mayor-1", "ferry", "raft"]


def test_questions_of_a_comparison_are_split_by_whether_their_document_is_banked(
    comparison_data: ComparisonData,
) -> None:
    assert (comparison_data.asked.num_rows, comparison_data.absent.num_rows) == (2, 2)
    assert set(comparison_data.asked["doc_id"].to_pylist()) == {"mayor-1", "ferry"}


def test_seconds_of_a_stage_are_unknown_if_no_round_recorded_them(comparison_data: ComparisonData) -> None:
    compress, bank = comparison_data.spent("compress"), comparison_data.spent("bank")
    assert compress is not None and bank is not None
    assert comparison_data.spent("compress", "bank") == compress + bank
    assert comparison_data.spent("bank", "unheard of") is None


def test_keys_add_to_the_bytes_that_a_search_needs(comparison_data: ComparisonData) -> None:
    key = comparison_data.testbed.memories.schema.field("key").type.list_size
    without, with_keys = (comparison_data.bytes_to_search(keys=keys) for keys in (False, True))
    assert with_keys - without == 3 * 4 * key
