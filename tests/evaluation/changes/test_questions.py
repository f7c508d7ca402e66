"""Questions about a pair of texts."""

from cmt.evaluation.changes.questions import questions_between


def test_questions_are_made_of_both_texts() -> None:
    earlier = "The gates of the garden in Dunmarrow close at dusk, and dogs are not admitted."
    later = (
        "From May the gates of the garden in Dunmarrow close at 18.30, and dogs are not admitted."
    )
    made = questions_between(earlier, later)
    assert (False, "18.30") in {(each.of_earlier, each.value) for each in made}
    assert {each.of_earlier for each in made} == {True, False}
