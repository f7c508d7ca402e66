"""Curves over small banks: with answers that follow from what the bank finds, and with a real tiny LM."""

from dataclasses import replace
from pathlib import Path

import pytest

import cmt
from cmt.bank.bank import Bank
from cmt.common.progress import NullProgress
from cmt.errors import StreamError
from cmt.evaluation.curve import POINT_SCHEMA, read, write
from cmt.evaluation.curves import CURVES, KS, SHARES, noise, retention, size, top_k
from cmt.evaluation.knowledge_updates import knowledge_updates
from cmt.evaluation.testbed import BankTestbed
from tests.helpers.news import MakeTestbed, column


def test_retention_asks_about_the_first_documents_as_later_ones_join(news_testbed: MakeTestbed) -> None:
    curve = retention(news_testbed(), steps=2)
    assert curve.points.schema == POINT_SCHEMA
    assert column(curve, "x") == column(curve, "documents") == [5, 10]
    assert column(curve, "n") == [2, 2]  # crane and goat: the others are superseded
    assert column(curve, "kept") == column(curve, "f1") == [100, 100]


def test_retention_fails_if_all_first_documents_are_superseded(news_testbed: MakeTestbed) -> None:
    with pytest.raises(StreamError, match="no question that fits this curve"):
        retention(news_testbed(), steps=5)


def test_size_asks_about_all_current_documents_so_far(news_testbed: MakeTestbed) -> None:
    curve = size(news_testbed(), steps=5)
    assert column(curve, "n") == [2, 4, 5, 6, 7]  # of ten documents three are superseded
    assert column(curve, "memories") == [2, 4, 6, 8, 10]
    assert column(curve, "bytes") == sorted(set(column(curve, "bytes")))
    assert column(size(news_testbed(), steps=5, limit=3), "n") == [2, 3, 3, 3, 3]
    assert set(curve.axes) == {"x", "bytes"}


def test_noise_adds_irrelevant_documents_in_per_cent_of_the_relevant(news_testbed: MakeTestbed) -> None:
    curve = noise(news_testbed())
    assert column(curve, "x") == list(SHARES)
    assert column(curve, "documents") == [5, 6, 7, 8, 9, 10]
    assert len(set(column(curve, "n"))) == 1
    assert column(curve, "kept")[0] == 100


def test_noise_keeps_documents_of_one_article_together(news_testbed: MakeTestbed) -> None:
    testbed = news_testbed()
    for document in testbed.documents.values():
        in_article = document["supersedes"] or document["published_at"].day < 3
        document["title"] = "Port Ellery" if in_article else None
    # six articles, one of them of five documents: the smaller half is three others
    assert column(noise(testbed, shares=(0, 100)), "documents") == [3, 6]


def test_the_projects_bank_does_not_change(news_bank: Bank, news_testbed: MakeTestbed) -> None:
    before = news_bank.version, news_bank.digest()
    for measure in (retention, size, noise, knowledge_updates):
        measure(news_testbed(), **({"steps": 2} if measure in (retention, size) else {}))
    assert (news_bank.version, news_bank.digest()) == before


def test_progress_counts_every_question(news_testbed: MakeTestbed) -> None:
    remaining: dict[str, int] = {}

    class CountingProgress(NullProgress):
        def stage(self, name: str, total: int | None = None) -> None:
            self.name, remaining[name] = name, total or 0

        def advance(self, n: int, note: str = "") -> None:
            remaining[self.name] -= n

    for measure in (noise, size, knowledge_updates):
        measure(replace(news_testbed(), progress=CountingProgress()))
    assert remaining == {"noise": 0, "size": 0, "supersession": 0}


def test_more_selected_memories_have_a_higher_recall(adapted: cmt.Workspace) -> None:
    curve = top_k(BankTestbed.of(adapted), ks=(1, 4))
    assert column(curve, "x") == [1, 4]
    assert column(curve, "n") == [4, 4]
    assert column(curve, "recall")[0] <= column(curve, "recall")[1] == 1.0
    assert all(0 < seconds < 60 for seconds in column(curve, "first_token") + column(curve, "seconds"))
    assert set(curve.axes) == {"x", "first_token"}
    assert adapted.params.selection.top_k == 8


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_can_be_measured_on_a_project(name: str, adapted: cmt.Workspace, tmp_path: Path) -> None:
    before = adapted.bank.version
    curve = CURVES[name](BankTestbed.of(adapted), limit=3)
    # the bar about old answers that were known is missing where none was
    assert curve.points.num_rows in {"k": (len(KS),), "noise": (len(SHARES),), "supersession": (4, 5)}.get(name, (5,))
    assert curve.name == name
    assert curve.lineage["compressor"] == adapted.model.digest
    assert list(curve.lineage["slices"]) == ["2031-01/0001", "2031-02/0001"]
    assert adapted.bank.version == before
    assert read(write(curve, tmp_path)[0]) == curve
