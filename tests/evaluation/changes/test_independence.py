"""Two sources that tell the same change, and one hand with two names."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation.changes.independence import Report, admitted, namesakes, told_independently
from cmt.stream.admission.authority import Authority

HERALD = Report("h", "Saltby Herald", "The ferry company raised its fare to 9 crowns.", "9 crowns")
ECHO = Report(
    "e",
    "Orrin Echo",
    "Since Monday the crossing to Saltby costs 9 crowns, up from six.",
    "9 crowns",
)
OLD = {"Saltby Herald": [(0, "h0")], "Orrin Echo": [(0, "e0")]}


def independent(
    *reports: Report,
    past: Mapping[str, Sequence[tuple[int, str]]] | None = None,
    owner: str = "Courier",
) -> bool:
    def history(sources: Collection[str]) -> dict[str, Sequence[tuple[int, str]]]:
        return {source: (OLD if past is None else past).get(source, []) for source in sources}

    return told_independently(
        reports, owner, about={"ferry", "h", "e", "about it"}, history=history
    )


def test_two_sources_with_a_past_and_their_own_words_are_independent() -> None:
    assert independent(HERALD, ECHO)
    assert independent(HERALD, HERALD._replace(doc_id="h2"), ECHO)
    assert independent(HERALD, ECHO, past={"Saltby Herald": [(3, "h0")], "Orrin Echo": [(5, "e0")]})


@pytest.mark.parametrize(
    "past",
    [
        {},
        {"Saltby Herald": [(0, "h0")]},
        # a source that only spoke about this fact before
        {"Saltby Herald": [(0, "h0")], "Orrin Echo": [(0, "about it")]},
        # both joined the stream with the same later slice
        {"Saltby Herald": [(3, "h0")], "Orrin Echo": [(3, "e0")]},
    ],
)
def test_a_source_without_a_past_of_its_own_is_no_second_one(
    past: Mapping[str, Sequence[tuple[int, str]]],
) -> None:
    assert not independent(HERALD, ECHO, past=past)


@pytest.mark.parametrize(
    "second",
    [
        HERALD,
        HERALD._replace(doc_id="h2", text=ECHO.text),
        ECHO._replace(source="The Saltby-Herald"),
        ECHO._replace(source="file:saltby herald.jsonl"),
        ECHO._replace(text=HERALD.text),
        ECHO._replace(text="The ferry company raised its fare to 9 crowns, we hear."),
        # one template, padded
        ECHO._replace(
            text="Summer begins in Saltby. Now the ferry company raised its fare to 9 crowns. Hm."
        ),
    ],
)
def test_one_hand_is_no_second_source(second: Report) -> None:
    past = OLD | {second.source: [(1, "x0")]}
    assert not independent(HERALD, second, past=past)


def test_a_namesake_of_the_owner_is_no_second_source() -> None:
    assert not independent(HERALD, ECHO, owner="Orrin-Echo")


@pytest.mark.parametrize(
    "name",
    [
        "north line",
        "The Northline",
        "Northline!",
        "N0rthline",
        "Northlíne",
        "Nоrthlinе",
        "Northlines",
        "Northline News",
    ],
)
def test_names_that_look_alike_are_namesakes(name: str) -> None:
    assert namesakes("Northline", name) and namesakes(name, "Northline")


@pytest.mark.parametrize(
    "name", ["Southern Post", "Harbour Board", "Saltby Gazette", "Courier", "老报"]
)
def test_other_names_are_not(name: str) -> None:
    assert not namesakes("Saltby Herald", name)


EARLIER = "The ferry to Saltby costs 6 crowns."
DATE = datetime(2031, 1, 1, tzinfo=UTC)


def test_a_change_is_recorded_if_its_source_may_make_it_or_two_others_tell_it() -> None:
    texts = {"ferry": ("Courier", EARLIER)} | {
        each.doc_id: (each.source, each.text) for each in (HERALD, ECHO)
    }
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
        taken = admitted(changes, slice_, bank, authority=authority, history=lambda _sources: past)
        return [change.new.doc_id for change in taken]

    assert found(Authority(), {}) == []
    assert found(Authority(), OLD) == ["h", "e"]
    assert found(Authority(peers=[["Courier", "Orrin Echo"]]), {}) == ["e"]
    assert found(Authority({"Saltby Herald": ["Courier"]}), OLD) == ["h"]
    # an earlier document about the same fact gives a source no history
    about.append(rumour)
    assert found(Authority(), OLD) == []
