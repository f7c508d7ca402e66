"""Two sources that report the same change, and one publisher with two names."""

from collections.abc import Collection, Mapping, Sequence

import pytest

from cmt.evaluation._independence import Claim, namesakes, reported_independently

HERALD = Claim("h", "Saltby Herald", "The ferry company raised its fare to 9 crowns.", "9 crowns")
ECHO = Claim(
    "e",
    "Orrin Echo",
    "Since Monday the crossing to Saltby costs 9 crowns, up from six.",
    "9 crowns",
)
OLD = {"Saltby Herald": [(0, "h0")], "Orrin Echo": [(0, "e0")]}


def independent(
    *claims: Claim,
    past: Mapping[str, Sequence[tuple[int, str]]] | None = None,
    owner: str = "Courier",
) -> bool:
    def documents_of(sources: Collection[str]) -> dict[str, Sequence[tuple[int, str]]]:
        return {source: (OLD if past is None else past).get(source, []) for source in sources}

    about = {"ferry", "h", "e", "about it"}
    return reported_independently(claims, owner, about=about, past=documents_of)


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
def test_one_publisher_is_no_second_source(second: Claim) -> None:
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
