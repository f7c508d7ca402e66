"""Which sources may change what an earlier document states."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.changes.admission import admitted
from cmt.stream.admission.authority import Authority

REPORTS = {
    "h": ("Saltby Herald", "The ferry company raised its fare to 9 crowns."),
    "e": ("Orrin Echo", "Since Monday the crossing to Saltby costs 9 crowns, up from six."),
}
OLD = {"Saltby Herald": [(0, "h0")], "Orrin Echo": [(0, "e0")]}
EARLIER = "The ferry to Saltby costs 6 crowns."
DATE = datetime(2031, 1, 1, tzinfo=UTC)


def test_a_change_is_recorded_if_its_source_may_make_it_or_two_others_report_it() -> None:
    texts = {"ferry": ("Courier", EARLIER)} | REPORTS
    rows = {
        name: {"memory_id": f"{name}#0", "doc_id": name, "published_at": DATE}
        | {"title": None, "source": source, "text": text}
        for name, (source, text) in texts.items()
    }
    rumour = {
        "doc_id": "h0",
        "title": None,
        "source": "Herald",
        "text": "One hears that the ferry to Saltby costs more soon.",
    }
    about: list[dict[str, Any]] = []
    bank: Any = SimpleNamespace(
        documents=lambda _doc_ids: pa.Table.from_pylist(list(rows.values())),
        full_text=lambda **_options: pa.Table.from_pylist(about),
    )

    def span(name: str, value: str) -> ValueSpan:
        first = str(rows[name]["text"]).index(value)
        return ValueSpan.of(rows[name], first, first + len(value))

    changes = [
        Change(span("ferry", "6 crowns"), span(name, "9 crowns"), DATE, 0.9) for name in ("h", "e")
    ]
    slice_ = pa.Table.from_pylist([rows["h"], rows["e"]])

    def found(authority: Authority, past: Mapping[str, Sequence[tuple[int, str]]]) -> list[str]:
        taken = admitted(changes, slice_, bank, authority=authority, past=lambda _sources: past)
        return [change.new.doc_id for change in taken]

    assert found(Authority(), {}) == []
    assert found(Authority(), OLD) == ["h", "e"]
    assert found(Authority(peers=[["Courier", "Orrin Echo"]]), {}) == ["e"]
    assert found(Authority({"Saltby Herald": ["Courier"]}), OLD) == ["h"]
    # an earlier document about the same fact gives a source no history
    about.append(rumour)
    assert found(Authority(), OLD) == []
