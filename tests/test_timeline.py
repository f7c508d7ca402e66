"""What is true when: cases by hand, and random histories against the model."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from cmt.timeline import Timeline, Version, in_memory, is_hidden, related
from tests.common.visibility_model import Model

HISTORIES = 3000


def day(n: int) -> datetime:
    """Midnight UTC, `n` days after 2031-01-01."""
    return datetime(2031, 1, 1, tzinfo=UTC) + timedelta(days=n)


def version(
    doc_id: str,
    at: int,
    text: str = "",
    *,
    supersedes: str | None = None,
    source: str = "Courier",
    seq: int = 1,
    banked: bool = True,
) -> Version:
    return Version(
        doc_id, day(at), f"2031-01/{seq:04d}", source, text or f"{doc_id} {at}", supersedes, banked
    )


def visible(versions: Sequence[Version], at: int) -> list[str]:
    """doc_id and day of the visible versions, such as "a 1"; the same by the columns of a bank."""
    timeline, date = Timeline(versions), day(at)
    by_columns, by_intervals = [], []
    for key, intervals in timeline.intervals.items():
        name, end = f"{key[0]} {(key[1] - day(0)).days}", timeline.superseded_at(*key)
        if any(start <= date and (until is None or date < until) for start, until in intervals):
            by_intervals.append(name)
        if (
            key[1] <= date
            and (end is None or date < end)
            and not is_hidden(timeline.hidden(*key), date)
        ):
            by_columns.append(name)
    assert by_columns == by_intervals
    return sorted(by_intervals)


def test_an_update_hides_from_its_date_on_what_is_not_younger() -> None:
    versions = [version("a", 1), version("b", 3, supersedes="a"), version("a", 5)]
    assert [visible(versions, at) for at in (0, 1, 2, 3, 5)] == [
        [],
        ["a 1"],
        ["a 1"],
        ["b 3"],
        ["a 5", "b 3"],
    ]
    assert visible([version("a", 3), version("b", 3, supersedes="a")], 3) == ["b 3"]


def test_a_later_version_without_supersedes_gives_the_old_document_back_from_its_date_on() -> None:
    versions = [version("a", 1), version("b", 3, supersedes="a"), version("b", 6)]
    assert [visible(versions, at) for at in (2, 3, 5, 6)] == [
        ["a 1"],
        ["b 3"],
        ["b 3"],
        ["a 1", "b 6"],
    ]
    timeline = Timeline(versions)
    assert timeline.superseded_at("a", day(1)) is None
    assert timeline.hidden("a", day(1)) == "2031-01-04T00:00:00Z/2031-01-07T00:00:00Z"


def test_of_two_versions_with_one_date_the_later_ingested_holds() -> None:
    versions = [
        version("old", 0),
        version("a", 2, "nine, not eight", supersedes="old", seq=2),
        version("a", 2, "eight", seq=1),
    ]
    assert visible(versions, 2) == ["a 2"]
    assert Timeline(versions).superseded_at("old", day(0)) == day(2)


def test_a_repeat_stands_for_the_document_in_force_from_then_on() -> None:
    versions = [
        version("a", 1, "eight"),
        version("copy", 3, "eight"),
        version("b", 5, supersedes="copy"),
    ]
    assert [visible(versions, at) for at in (3, 5)] == [["a 1"], ["b 5"]]
    timeline = Timeline(versions)
    assert [timeline.original("copy", day(at)) for at in (2, 3)] == ["copy", "a"]
    assert timeline.repeats == {("copy", day(3)): "a"}


def test_a_copy_that_came_first_does_not_hide_the_original_before_its_date() -> None:
    versions = [version("copy", 3, "eight", seq=1), version("a", 1, "eight", seq=2)]
    assert [visible(versions, at) for at in (2, 3)] == [["a 1"], ["a 1"]]


def test_texts_of_other_sources_and_texts_that_wait_are_no_originals() -> None:
    honest = version("a", 3, "eight")
    assert visible([version("b", 1, "eight", source="Mallory"), honest], 3) == ["a 3", "b 1"]
    assert visible([version("b", 1, "eight", banked=False), honest], 3) == ["a 3"]


def test_a_state_that_returns_in_the_same_words_is_new() -> None:
    versions = [
        version("r1", 1, "open"),
        version("r2", 2, "closed", supersedes="r1"),
        version("r3", 3, "open"),
    ]
    assert [visible(versions, at) for at in (1, 2, 3)] == [["r1 1"], ["r2 2"], ["r2 2", "r3 3"]]
    versions[2] = version("r3", 3, "open", supersedes="r2")
    assert visible(versions, 3) == ["r3 3"]


@pytest.mark.parametrize("second", [version("b", 3, supersedes="a"), version("b", 3, "eight")])
def test_names_lead_through_documents_that_are_not_banked(second: Version) -> None:
    versions = [
        version("a", 1, "eight"),
        second._replace(banked=False),
        version("c", 5, supersedes="b"),
    ]
    assert [visible(versions, at) for at in (3, 5)] == [["a 1"], ["c 5"]]


def random_history(rng: random.Random) -> list[Version]:
    """Up to nine versions of up to six documents of two sources on five days, some not banked."""
    doc_ids = "abcdef"[: rng.randint(2, 6)]
    versions = [
        version(
            doc_id := rng.choice(doc_ids),
            rng.randrange(5),
            f"t{rng.randrange(3)}",
            supersedes=rng.choice([None, *(other for other in doc_ids if other != doc_id)]),
            source=rng.choice("SSST"),
            seq=rng.randint(1, 3),
            banked=rng.random() < 0.75,
        )
        for _ in range(rng.randint(1, 9))
    ]
    return list(
        {one[:3]: one for one in versions}.values()
    )  # an ingest takes one version of a document and date


def test_random_histories_agree_with_the_model_and_with_what_is_related() -> None:
    gaps = repeats = 0
    for seed in range(HISTORIES):
        rng = random.Random(seed)
        versions = random_history(rng)
        model, shuffled = Model(versions), rng.sample(versions, len(versions))
        timeline = Timeline(shuffled)
        for at in range(-1, 6):
            expected = sorted(
                f"{doc_id} {(date - day(0)).days}" for doc_id, date in model.visible(day(at))
            )
            assert visible(shuffled, at) == expected, (seed, at)
        held = [v for at in range(5) for v in model.current(day(at)) if v.published_at == day(at)]
        assert timeline.repeats == {
            v[:2]: original for v in held if (original := model.repeated(v))
        }, seed
        part = related([versions[0].doc_id], in_memory(versions))
        own = {
            key: value for key, value in timeline.intervals.items() if key[0] == versions[0].doc_id
        }
        assert own.items() <= Timeline(part).intervals.items(), seed
        gaps += any(timeline.hidden(*key) for key in timeline.intervals)
        repeats += bool(timeline.repeats)
    assert gaps > HISTORIES / 50
    assert repeats > HISTORIES / 10
