"""The report: what it shows, that it needs nothing else, and that nothing in it is taken for markup."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cmt
from cmt.answering.answer import Answer, Source, Span
from cmt.common.progress import NullProgress
from cmt.errors import BankError, StreamError
from cmt.evaluation.comparison import SYSTEMS, Comparison
from cmt.evaluation.curve import POINT_SCHEMA, Curve
from cmt.evaluation.evaluate import RECORD_SCHEMA
from cmt.evaluation.finetuning import TOKEN_WEIGHTS
from cmt.evaluation.testbed import ComparisonData
from cmt.report import charts
from cmt.report.comparison import compare
from cmt.report.costs import costs, keep
from cmt.report.curves import folder
from cmt.report.failures import worst_answers
from cmt.report.highlights import passage, pieces
from cmt.report.history import LATEST, entries
from cmt.report.page import gather, render, write_report
from cmt.report.svg import SERIES, svg

QUICK = [name for name in SYSTEMS if name not in {*TOKEN_WEIGHTS, "mac"}]  # MAC is not trained there

MOMENT = datetime(2031, 2, 25, 7, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script><img src=//evil.example/x onerror=alert(2)>'
VOID = {"meta", "img", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Elements, ids, addresses and visible text of a page; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, *names: str) -> list[str]:
        return [value for name, value in self.attributes if name in names]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def adapted_folder(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose two slices have their rounds; a document and its question are hostile."""
    copy = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("report") / "project"))
    document = {
        "doc_id": "evil",
        "published_at": "2031-02-06T07:00:00Z",
        "title": HOSTILE,
        "text": f"Eve wrote {HOSTILE}",
    }
    question = {
        "doc_id": "evil",
        "asked_at": "2031-02-25T07:00:00Z",
        "question": f"Who wrote {HOSTILE}?",
        "answers": ["Eve"],
    }
    for name, row in (("documents", document), ("questions", question)):
        with (copy / f"news/{name}.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    written = yaml.safe_load((copy / "params.yaml").read_text())
    written.setdefault("selection", {})["reach"] = 1000.0  # every document is among somebody's sources
    (copy / "params.yaml").write_text(yaml.safe_dump(written))
    workspace = opened(copy)
    workspace.ingest()
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    gather(workspace, questions=20, progress=NullProgress())  # leaves the cheap curves
    return copy


@pytest.fixture
def adapted(adapted_folder: Path, tmp_path: Path) -> cmt.Workspace:
    return opened(Path(shutil.copytree(adapted_folder, tmp_path / "project")))


@pytest.fixture(scope="module")
def html(adapted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "deep" / "index.html"
    write_report(opened(adapted_folder), path, questions=20, progress=NullProgress())
    return path.read_text(encoding="utf-8")


def opened(project: Path) -> cmt.Workspace:
    return cmt.open(params=project / "params.yaml")


def page(workspace: cmt.Workspace) -> str:
    return render(gather(workspace, questions=20, progress=NullProgress()))


def test_the_page_is_whole_and_loads_nothing(html: str) -> None:
    found = Page(html)
    assert found.elements["script"] == found.elements["link"] == found.elements["img"] == found.elements["iframe"] == 0
    assert all(value.startswith("#") for value in found.values("href", "xlink:href"))
    assert not found.values("src", "srcset", "action", "background", "poster", "data")
    assert "default-src 'none'" in " ".join(found.values("content"))
    assert not re.search(r"@import|url\((?!#)|https?:", html)
    assert len(html.encode()) < 5_000_000


def test_every_link_leads_somewhere_and_every_id_is_there_once(html: str) -> None:
    found = Page(html)
    ids = Counter(found.values("id"))
    assert set(ids.values()) == {1}
    assert {value.removeprefix("#") for value in found.values("href", "xlink:href")} <= ids.keys()
    named = " ".join(found.values("aria-labelledby")).split()
    assert set(named) <= ids.keys()
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= ids.keys()


def test_the_page_can_be_walked_with_a_keyboard_and_read_on_a_phone(html: str) -> None:
    found = Page(html)
    assert found.elements["h1"] == 1
    assert found.elements["svg"] == html.count('role="img"') >= 5
    assert found.values("role").count("region") == found.values("tabindex").count("0") == html.count('class="scroll"')
    assert "width=device-width, initial-scale=1" in found.values("content")
    assert "prefers-color-scheme: dark" in html
    assert ":focus-visible" in html
    assert "Skip to the report" in found.text


def test_what_documents_say_is_never_markup(html: str) -> None:
    assert "alert(" in html
    assert "<img" not in html
    assert HOSTILE in Page(html).text
    assert "[red]The raft[/] :fire:" in html


def test_every_round_has_its_lineage(html: str, adapted: cmt.Workspace) -> None:
    rounds = adapted.ledger.rounds()
    assert [round_.round_id for round_ in rounds] == ["2031-01/0001", "2031-02/0001"]
    for round_ in rounds:
        for value in (round_.slice_digest, round_.compressor, round_.params_digest, round_.bank_digest):
            assert value in html
        assert f'id="round-{round_.round_id.replace("/", "-")}"' in html
    assert html.count(f"compressor {rounds[0].compressor[:12]}") >= 8  # below every table and chart


def test_what_was_quoted_is_underlined(html: str) -> None:
    assert re.search(r'<mark class="quote" title="quoted, probability [01]\.\d\d">[^<]+</mark>', html)


def test_all_ways_and_the_worst_questions_are_shown(html: str) -> None:
    text = Page(html).text
    for words in (
        "CMT memory",
        "closed-book",
        "BM25-RAG, top 1",
        "Who thought up the Dunmarrow hitch?",
        "the right document",
    ):
        assert words in text
    assert 'class="card question"' in html


def test_the_report_says_what_it_holds(adapted: cmt.Workspace, tmp_path: Path) -> None:
    found = write_report(adapted, tmp_path / "r.html", questions=20, progress=NullProgress())
    assert found["bytes"] == (tmp_path / "r.html").stat().st_size
    assert (found["rounds"], found["curves"]) == (2, ["retention", "noise", "supersession", "size", "k"])
    assert found["unmeasured"] == []
    assert found["rows"] == QUICK
    assert found["ways"] == ["cmt", "closed", "rag"]
    assert 1 <= found["worst_questions"] <= 5


def test_curves_and_costs_are_measured_once(adapted: cmt.Workspace) -> None:
    shutil.rmtree(folder(adapted))
    (adapted.state / "baselines.json").unlink()
    first = gather(adapted, questions=20, progress=NullProgress())
    files = {file: file.stat().st_mtime_ns for file in (*folder(adapted).iterdir(), adapted.state / "baselines.json")}
    second = gather(adapted, questions=20, progress=NullProgress())
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert render(replace(second, made=first.made)) == render(first)


def test_what_was_measured_on_an_earlier_bank_is_measured_again_or_says_so(
    adapted: cmt.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = json.loads((folder(adapted) / "k.json").read_text())
    raw |= {"title": "Old k", "lineage": raw["lineage"] | {"bank": "0" * 64}}  # of no bank
    (folder(adapted) / "noise.json").write_text("no curve")
    kept = json.loads((adapted.state / "baselines.json").read_text())
    kept["lineage"]["bank"] = "0" * 64
    texts = []
    for most in (0, 1000):  # memories of a bank that is large
        monkeypatch.setattr("cmt.report.curves.LARGE", most)
        monkeypatch.setattr("cmt.report.curves.LARGE", most)
        (folder(adapted) / "k.json").write_text(json.dumps(raw))
        (adapted.state / "baselines.json").write_text(json.dumps(kept))
        texts.append(Page(page(adapted)).text)
    large, small = texts
    assert re.search(
        r"Old k On \d questions that the seed has drawn\. Measured on an earlier state of the bank\.", large
    )
    assert "cmt curves noise" in large
    assert "With what they cost" not in large
    assert "Old k" not in small and "cmt curves" not in small
    assert "With what they cost" in small


def test_rows_are_shown_with_their_costs(html: str, adapted: cmt.Workspace) -> None:
    text = Page(html).text
    for name in ("the right document", "BM25-RAG, top 3", "dense RAG, top 1", "Peak, GB", "Tokens a question"):
        assert name in text
    assert "Not measured: fine-tuned; fine-tuned, salient spans; fine-tuned, CaMeLS-style; MAC." in text
    rows = {row["row"]: row for row in json.loads((adapted.state / "baselines.json").read_text())["rows"]}
    assert f"{rows['full']['cost']['tokens_per_question']:,.0f}" in text


def test_rows_that_were_measured_by_themselves_join_the_others(adapted: cmt.Workspace) -> None:
    data = ComparisonData.of(adapted, limit=2)
    measured = Comparison(data).measure(["salient"])
    keep(adapted, measured, data.testbed.lineage)
    found = costs(adapted, limit=20, progress=NullProgress())
    assert [row["row"] for row in found.rows] == [name for name in SYSTEMS if name not in found.missing]
    assert found.missing == ["uniform", "camels", "mac"]
    assert [row["n"] for row in found.rows if row["row"] == "salient"] == [2]


@pytest.mark.parametrize("rubbish", ["", "[]", '{"rows": 3}', '{"lineage": 3}'])
def test_costs_that_cannot_be_read_are_measured_again(adapted: cmt.Workspace, rubbish: str) -> None:
    (adapted.state / "baselines.json").write_text(rubbish)
    assert len(costs(adapted, limit=1, progress=NullProgress()).rows) == len(QUICK)


@pytest.mark.parametrize("left", ["nothing", "rubbish"])
def test_questions_are_asked_again_where_their_records_are_gone(adapted: cmt.Workspace, left: str) -> None:
    for file in (adapted.state / "rounds").glob("*/answers.parquet"):
        file.unlink()
        if left == "rubbish":
            file.write_bytes(b"PAR1 rubbish")
    found = gather(adapted, questions=20, progress=NullProgress())
    assert [way.name for way in found.ways] == ["cmt", "closed", "rag"]
    assert found.failures
    assert [chart.name for chart in found.history] == ["rounds", "seconds"]  # new and earlier need each round's records
    assert all(entry.gain is None for entry in found.entries)


def test_a_stream_without_questions_has_a_page_and_needs_no_lm(tiny_workspace: Path) -> None:
    (tiny_workspace / "news/questions.jsonl").unlink()
    workspace = opened(tiny_workspace)
    workspace.ingest()
    workspace.update()
    again = opened(tiny_workspace)
    html = page(again)
    assert "No round has been scored" in html
    assert "2031-01/0001" in html
    assert "lm" not in vars(again)
    Page(html)


def test_a_refused_round_says_why(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"gate.min_f1": 100.0})
    workspace.ingest()
    assert workspace.update().state == "refused"
    assert "is refused: F1 0.0 is below gate.min_f1 100" in Page(page(workspace)).text


def test_without_a_bank_there_is_no_report(tiny_workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(BankError, match="cmt update"):
        write_report(opened(tiny_workspace), tmp_path / "r.html", questions=20, progress=NullProgress())
    assert list(tmp_path.glob("*.html")) == []


def test_a_page_that_cannot_be_written_says_so(adapted: cmt.Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot write"):
        write_report(adapted, tmp_path / "file" / "r.html", questions=20, progress=NullProgress())


def test_a_long_stream_keeps_the_page_light(adapted: cmt.Workspace) -> None:
    last = adapted.ledger.rounds()[-1]
    names = [f"2030-{place:04d}/0001" for place in range(300)]
    many = [replace(last, round_id=name, slice_id=name, number=place - 300) for place, name in enumerate(names)]
    adapted.ledger.write(*many)
    found = gather(adapted, questions=20, progress=NullProgress())
    assert (len(found.entries), found.left_out) == (LATEST, 302 - LATEST)
    html = render(found)
    assert f"{302 - LATEST} earlier rounds are left out" in html
    assert len(html.encode()) < 2_000_000
    assert html.count("2030-0299/0001") >= 2


def test_what_a_round_added_is_measured_on_its_own_questions(adapted: cmt.Workspace) -> None:
    (first, second), left_out = entries(adapted)
    assert left_out == 0
    assert (first.questions, second.questions, first.superseding, second.superseding) == (2, 3, 0, 1)
    assert first.earlier == {}
    assert second.own.keys() == second.earlier.keys() == {"cmt", "closed", "rag"}
    assert second.gain == second.own["cmt"] - second.own["closed"]


def record(name: str, **values: Any) -> dict[str, Any]:
    row = {
        "question_id": name,
        "doc_id": f"doc-{name}",
        "question": f"What is {name}?",
        "golds": ["blue"],
        "asked_at": MOMENT,
        "cmt": "red",
        "cmt_f1": 0.0,
        "sources": [f"doc-{name}"],
        "recalled": True,
        "confidence": 0.5,
    }
    return row | values


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=RECORD_SCHEMA)


def test_ways_are_compared_question_by_question() -> None:
    said = [
        record(f"q{i}", cmt="blue" if i < 6 else "red", cmt_f1=float(i < 6), rag="red", rag_f1=0.0) for i in range(8)
    ]
    memory, rag = compare(table(*said), scores={"recall": 0.75, "rag_recall": 0.5}, seed=0)
    assert (memory.label, memory.scores.f1, memory.recall, memory.behind) == ("CMT memory", 75.0, 0.75, None)
    assert (rag.label, rag.scores.f1, rag.recall) == ("BM25-RAG, top 1", 0.0, 0.5)
    assert rag.behind is not None
    assert rag.behind[0] == 75.0
    assert 30 < rag.behind[1] < 75 < rag.behind[2] <= 100
    same = [row | {"rag": row["cmt"], "rag_f1": row["cmt_f1"]} for row in said]
    assert compare(table(*same), scores={}, seed=0)[1].behind == (0.0, 0.0, 0.0)


def test_intervals_do_not_depend_on_the_order_of_the_records() -> None:
    rows = [record(f"q{i:02d}", cmt="blue " * (i % 4) + "sky", rag="blue" if i % 3 else "red") for i in range(30)]
    rows = [row | {"cmt_f1": 0.0, "rag_f1": 0.0} for row in rows]
    there, back = (compare(table(*some), scores={}, seed=0) for some in (rows, rows[::-1]))
    assert [(way.scores, way.behind) for way in there] == [(way.scores, way.behind) for way in back]
    assert there[0].scores.ci[0] < there[0].scores.f1 < there[0].scores.ci[1]


class Shelf:
    """Stands where an Answerer goes: every document in full, its windows as given."""

    def __init__(self, spans: tuple[Span, ...] = (), quote: Span | None = None) -> None:
        self.spans, self.quote = spans, quote

    def answer(self, questions: list[str], *, as_of: list[datetime]) -> list[Answer]:
        assert as_of == [MOMENT] * len(questions)
        return [Answer(text, "red", True, 0.5, (self._source(text),)) for text in questions]

    def _source(self, question: str) -> Source:
        name = question.removeprefix("What is ").removesuffix("?")
        return Source(f"doc-{name}", None, MOMENT, 0.5, 0.9, "A sky of blue over grass.", self.spans, self.quote)


def test_the_worst_are_the_wrong_ones_given_with_confidence() -> None:
    rows = [record("a", confidence=0.4), record("b", confidence=0.9), record("c", cmt_f1=0.5), record("d", cmt_f1=1.0)]
    found = worst_answers(table(*rows), Shelf())  # type: ignore[arg-type]
    assert [failure.question for failure in found] == ["What is b?", "What is a?", "What is c?"]
    assert len(worst_answers(table(*rows), Shelf(), shown=2)) == 2  # type: ignore[arg-type]
    assert worst_answers(table(), Shelf()) == []  # type: ignore[arg-type]


def test_a_failure_says_where_it_went_wrong() -> None:
    def reason(row: dict[str, Any], *spans: Span) -> str:
        return worst_answers(table(row), Shelf(spans))[0].reason  # type: ignore[arg-type]

    assert "was not selected" in reason(record("a", doc_id="elsewhere"))
    assert "below the threshold" in reason(record("a", cmt=""))
    assert "was selected, and the LM answered something else" in reason(record("a"))
    assert "was selected and read, and the LM answered something else" in reason(record("a"), Span(2, 13, 0.9))
    assert "other windows of it were read" in reason(record("a"), Span(14, 24, 0.9))


def test_an_answer_that_changed_since_is_shown_beside_the_old_one() -> None:
    now, then = worst_answers(table(record("a"), record("b", cmt="green")), Shelf())  # type: ignore[arg-type]
    assert (now.said, now.again) == ("red", "")
    assert (then.said, then.again) == ("green", "red")


spans = st.builds(Span, st.integers(-5, 30), st.integers(-5, 30), st.floats(0, 1))


@given(text=st.text(max_size=25), found=st.lists(spans, max_size=5))
def test_pieces_are_the_text_with_every_window_marked(text: str, found: list[Span]) -> None:
    cut = pieces(text, found)
    assert "".join(piece.text for piece in cut) == text
    marks = [piece.probability for piece in cut for _ in piece.text]
    for place, mark in enumerate(marks):
        over = [span.probability for span in found if span.first <= place < span.last]
        assert mark == (max(over) if over else None)


def test_a_title_before_a_text_becomes_its_heading() -> None:
    source = Source("sky", "A sky", MOMENT, 0.5, 0.9, "A sky\nof blue.", (Span(2, 8, 0.9),))
    heading, body = passage(source)
    assert [(piece.text, piece.probability) for piece in heading] == [("A ", None), ("sky", 0.9)]
    assert [(piece.text, piece.probability) for piece in body] == [("of", 0.9), (" blue.", None)]
    assert passage(source).windows == ["sky", "of"]
    for other in (replace(source, title=None), replace(source, title="A s")):
        assert "".join(piece.text for piece in passage(other).body) == source.text
    assert passage(replace(source, title=None, text=None, spans=())) == ([("sky", None, False)], [])


def test_the_quote_is_a_piece_of_its_own_and_breaks_no_window() -> None:
    source = Source("sky", "A sky", MOMENT, 0.5, 0.9, "A sky\nof deep blue.", (Span(6, 18, 0.9),), Span(9, 13, 0.4))
    assert [tuple(piece) for piece in passage(source).body] == [
        ("of ", 0.9, False),
        ("deep", 0.9, True),
        (" blue", 0.9, False),
        (".", None, False),
    ]
    assert passage(source).windows == ["of deep blue"]
    failure = worst_answers(table(record("sky")), Shelf((Span(0, 25, 0.5),), Span(9, 13, 0.4)))[0]  # type: ignore[arg-type]
    assert [piece.text for piece in failure.selected[0].passage.body if piece.quoted] == ["blue"]


def test_neighbouring_pieces_differ() -> None:
    cut = pieces("one two three", [Span(0, 3, 0.5), Span(3, 7, 0.5), Span(8, 13, 0.2), Span(20, 30, 0.9)])
    assert [(piece.text, piece.probability) for piece in cut] == [("one two", 0.5), (" ", None), ("three", 0.2)]


def picture(name: str) -> str:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 3], color=SERIES[0], marker="o", label="<b>$x$ & co")
        axes.grid()
        axes.legend()

    return str(svg(draw, name=name, title='A "title" <i>'))


def test_a_picture_takes_its_colours_from_the_page() -> None:
    found = picture("one")
    assert not re.search(r"#[0-9a-f]{6}|black|white", found)
    assert {"var(--ink)", "var(--faint)", "var(--s1)"} <= set(re.findall(r"var\(--\w+\)", found))
    assert "&lt;b&gt;$x$ &amp; co" in found
    assert "<style" not in found
    assert '<title id="one-title">A &#34;title&#34; &lt;i&gt;</title>' in found


def test_pictures_are_repeatable_and_share_no_ids() -> None:
    assert picture("one") == picture("one")
    ids = [set(re.findall(r'\bid="([^"]+)"', picture(name))) for name in ("one", "two")]
    assert ids[0] and not ids[0] & ids[1]


def test_a_curve_is_drawn_over_each_of_its_axes() -> None:
    row = {"series": "memory", "n": 9, "em": 1.0, "em_prefix": 1.0, "f1_low": 20.0, "f1_high": 60.0, "recall": 0.5}
    row |= {"documents": 5, "memories": 5, "bytes": 10, "seconds": 0.25}
    points = [row | {"x": x, "f1": f1, "first_token": x / 10} for x, f1 in ((1.0, 30.0), (16.0, 50.0))]
    rows = pa.Table.from_pylist(points, schema=POINT_SCHEMA)
    curve = Curve("k", "K", {"x": "selected", "first_token": "soon"}, rows, {})
    chart = charts.curve_chart(curve, note="", basis="this")
    assert chart is not None
    assert chart.head[:3] == ["selected", "soon", "F1"]
    assert chart.rows[0] == ["1", "0.1", "30.0", "20.0 – 60.0", "–", "–", "0.500", "9", "0.25"]
    assert "selected</text>" in chart.svg and "soon</text>" in chart.svg
    assert charts.curve_chart(replace(curve, points=rows.slice(0, 0)), note="", basis="") is None


def test_charts_without_numbers_are_left_out() -> None:
    assert charts.rounds_chart([], "") is charts.retention_chart([], "") is charts.seconds_chart([], "") is None
    assert charts.ways_chart([], "") is None
