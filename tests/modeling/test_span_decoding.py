"""Decoding of token scores: quotes, windows, and their margins."""

from math import inf, log

import pytest
import torch
from torch import Tensor

from cmt.modeling.span_decoding import (
    AnswerSpan,
    QuoteLimits,
    TokenSpan,
    best_answer_span,
    choose_windows,
    likeliest_memories,
    neighbours_at,
    token_log_probabilities,
    window_margin,
)


def log_probabilities(*memories: list[float]) -> Tensor:
    """(S, n, 2), equal for beginning and end."""
    begins = torch.tensor(memories)
    return torch.stack([begins, begins], 2)


def quote_of(probability: Tensor, texts: list[list[int]]) -> AnswerSpan:
    """The quote where every token is a word of the same sentence."""
    free = [
        QuoteLimits(
            begins=every,
            ends=every,
            sentences=none,
            open_before=none,
            open_after=none,
            new=every,
            whole=list(range(len(every))),
        )
        for every, none in (([True] * len(text), [0] * len(text)) for text in texts)
    ]
    return best_answer_span(probability, texts, free)


def test_the_quote_is_the_likeliest_span_of_one_memory() -> None:
    probability, texts = torch.full((2, 20, 2), -9.0), [list(range(20)), list(range(20))]
    probability[0, 4, 0] = probability[1, 2, 1] = (
        0.0  # a beginning in one memory, an end in the other
    )
    probability[1, 1, 0] = probability[0, 3, 1] = -0.5  # an end before the beginning
    assert quote_of(probability, texts).span == TokenSpan(1, 1, 2)
    probability[0, 8, 1] = 0.0
    assert quote_of(probability, texts).span == TokenSpan(0, 4, 8)
    probability[0, 8, 1], probability[0, 19, 1] = -9.0, 0.0
    assert quote_of(probability, texts).span == TokenSpan(0, 4, 19)
    probability[0, 4, 0], probability[0, 3, 0] = -9.0, 0.0  # more than MAX_SPAN_TOKENS tokens
    probability[0, 3, 1] = -9.0
    assert quote_of(probability, texts).span == TokenSpan(1, 1, 2)
    assert quote_of(torch.zeros(1, 1, 2), [[5]]).span == TokenSpan(0, 0, 0)


def test_the_margin_of_a_quote_is_its_lead_over_other_tokens() -> None:
    probability = log_probabilities([-1.0, -9.0, -9.0, -3.0], [-9.0, -1.5, -9.0, -9.0])
    quote = quote_of(probability, [[5, 6, 7, 8], [9, 4, 9, 9]])
    assert quote.span.first == 0
    assert quote.margin == pytest.approx(1.0)
    # the same token elsewhere is no rival: the next one is the span of the first four tokens
    assert quote_of(probability, [[5, 6, 7, 8], [9, 5, 9, 9]]).margin == pytest.approx(2.0)
    assert quote_of(log_probabilities([-1.0]), [[5]]).margin == inf


def test_spans_with_equal_tokens_add_up_to_one_probability() -> None:
    scores = torch.full((1, 1, 6, 2), -9.0)
    scores[0, 0, [1, 4], :] = 5.0
    probability = token_log_probabilities(scores)[0]
    equal, different = [[3, 7, 3, 3, 7, 3]], [[3, 7, 3, 3, 8, 3]]
    single = quote_of(probability, different).probability
    assert quote_of(probability, equal).probability == pytest.approx(2 * single, rel=1e-3)
    assert 0.3 < single < 0.5
    scores[0, 0] = -9.0
    assert quote_of(token_log_probabilities(scores)[0], equal).probability < 0.01


def test_spans_that_share_tokens_with_the_quote_agree_with_it() -> None:
    scores = torch.full((1, 1, 4, 2), -9.0)
    scores[0, 0, 1, 0] = scores[0, 0, 1, 1] = 9.0
    alone = quote_of(token_log_probabilities(scores)[0], [[5, 6, 7, 8]])
    assert alone.agreement == pytest.approx(alone.probability, abs=0.01)
    scores[0, 0, 2, 1] = 9.0  # half of the ends: a span of two tokens, one of them the quote's
    both = quote_of(token_log_probabilities(scores)[0], [[5, 6, 7, 8]])
    assert both.agreement == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=0.01)
    nowhere = quote_of(token_log_probabilities(torch.full((1, 1, 4, 2), -9.0))[0], [[5, 6, 7, 8]])
    assert nowhere.agreement < 0.01


@pytest.mark.parametrize(
    ("tokens", "question", "first", "last", "allowed"),
    [
        (["Toll", "\n", "From", " today"], "", 0, 2, False),  # across title and text
        (["Toll", "\n", "From", " today"], "", 2, 3, True),
        (["Toll", "\n", "From", " today"], "", 1, 2, False),  # a line break is part of no quote
        ([" Pen", "zance", " port"], "", 0, 0, False),  # inside a word
        ([" Pen", "zance", " port"], "", 1, 2, False),
        ([" Pen", "zance", " port"], "", 0, 1, True),
        ([" ", "1", ",", "5", "0", " km", "."], "How many km?", 1, 1, False),  # inside a number
        ([" ", "1", ",", "5", "0", " km", "."], "How many km?", 3, 5, False),
        ([" ", "1", ",", "5", "0", " km", "."], "How many km?", 1, 4, True),
        ([" in", " ", "2", "0", ",", " and"], "", 2, 3, True),
        ([" Falk", "'s", " book"], "", 0, 0, True),
        (
            [" costs", " ", "3", "4", " euros", "."],
            "How much?",
            2,
            3,
            False,
        ),  # a number without its unit
        ([" costs", " ", "3", "4", " euros", "."], "How much?", 2, 4, True),
        ([" costs", " ", "3", "4", " euros", "."], "How many euros?", 2, 3, True),
        (
            [" costs", " ", "3", "4", " euros", "."],
            "How much?",
            1,
            4,
            False,
        ),  # it begins with a blank
        ([" two", " million", " people"], "How many people?", 0, 0, False),
        ([" two", " million", " people"], "How many people?", 0, 1, True),
        ([" grew", " ", "3", "%", "."], "By how much?", 2, 2, False),
        (
            [" In", " ", "2", "0", "1", "1", " Mark", " left"],
            "When?",
            2,
            5,
            True,
        ),  # a name is no unit
        (
            [" two", " centers", " closed"],
            "How much?",
            0,
            0,
            True,
        ),  # nor a word that begins like one
        ([" two", " tons", " of"], "What does Washington weigh?", 0, 0, False),
        ([" two", " tons", " of"], "How many tons?", 0, 0, True),
        (["東京", "都", "は"], "", 1, 1, True),  # no blanks between words
        (["東京", "都", "は"], "東京は?", 0, 0, True),
        (
            [" Switzer", "land", " has", " Zurich"],
            "Which city of Switzerland?",
            0,
            1,
            False,
        ),  # words of the question
        ([" Switzer", "land", " has", " Zurich"], "Which city of Switzerland?", 0, 3, True),
        ([" Switzer", "land", ",", " Zurich"], "Which city of Switzerland?", 0, 2, False),
        ([" The", " city", " of", " Zurich"], "Which city?", 0, 1, False),
        ([" slower", " than", " that"], "Is it faster or slower?", 0, 0, True),  # a choice
        ([" a", " dollar", " is", " $"], "What is the symbol of a dollar?", 3, 3, True),
        (
            [" kingdom", ".", " The", " Scyth", "ians"],
            "",
            0,
            4,
            False,
        ),  # across the end of a sentence
        ([" kingdom", ".", " The", " Scyth", "ians"], "", 2, 4, True),
        ([" fell", '!"', " “", "No", " one"], "", 0, 4, False),
        ([" Rev", ".", " John", " Jenkins"], "", 0, 3, True),  # an abbreviation ends none
        ([" J", ".", " Smith"], "", 0, 2, True),  # nor an initial
        ([" approx", ".", " three"], "", 0, 2, True),  # nor what goes on in small letters
        ([" Vol", ".", " ", "4"], "", 0, 3, True),  # nor what goes on with a number
        ([" ink", " (", "India", " ink", ")."], "", 0, 3, False),  # a bracket that is not closed
        ([" ink", " (", "India", " ink", ")."], "", 2, 3, True),
        ([" ink", " (", "India", " ink", ")", "."], "", 0, 4, True),
        ([" ink", " (", "India", " ink", ")", "."], "", 2, 4, False),  # one that is not opened
        ([" ", "1", ")", " ink"], "", 1, 3, True),  # one that closes nothing
        ([" the", ' "', "plain", " text", '"'], "", 0, 3, False),
        ([" the", ' "', "plain", " text", '"'], "", 0, 4, True),
        ([" the", " “", "plain", " text", "”"], "", 2, 4, False),
        ([" a", " ", "7", '"', " single"], "", 0, 4, True),  # inches
        (
            ["“", "Toll", "\n", "From", " today", "”"],
            "",
            3,
            5,
            True,
        ),  # a line closes what it opened
    ],
)
def test_a_quote_ends_with_its_words_and_stays_in_a_sentence(
    tokens: list[str], question: str, first: int, last: int, allowed: bool
) -> None:
    probability = torch.full((1, len(tokens), 2), -9.0)
    probability[0, first, 0] = probability[0, last, 1] = -0.1
    quote = best_answer_span(
        probability, [list(range(len(tokens)))], [QuoteLimits.of(tokens, question)]
    )
    assert (quote.span == TokenSpan(0, first, last)) is allowed
    inside = tokens[quote.span.first : quote.span.last + 1]
    assert "\n" not in "".join(inside)


def test_a_quote_in_an_address_goes_on_to_its_end() -> None:
    tokens = [" at", " https", "://", "a", ".example", *"/bcdefghijklmnopqr", " before", " May"]
    probability = torch.full((1, len(tokens), 2), -9.0)
    probability[0, 1, 0] = probability[0, 4, 1] = -0.1
    quote = best_answer_span(
        probability, [list(range(len(tokens)))], [QuoteLimits.of(tokens, "Where?")]
    )
    assert "".join(tokens[quote.span.first : quote.span.last + 1]) == (
        " https://a.example/bcdefghijklmnopqr"
    )
    assert list(quote.tokens) == list(range(1, len(tokens) - 2))


@pytest.mark.parametrize(
    ("question", "begins"),
    [("How many projects are closed?", False), ("How many crowns?", True), ("How much?", True)],
)
def test_other_things_than_money_are_not_counted_in_money(question: str, begins: bool) -> None:
    limits = QuoteLimits.of([" 20,000", " crowns", " for", " 3", " teams"], question)
    assert limits.begins[0] is begins
    assert limits.begins[3]


def test_a_memory_without_an_allowed_quote_has_the_likeliest_one() -> None:
    assert best_answer_span(
        torch.zeros(1, 1, 2), [[5]], [QuoteLimits.of(["\n"], "")]
    ).span == TokenSpan(0, 0, 0)


@pytest.mark.parametrize(
    ("scores", "best", "neighbours", "spans"),
    [
        ([[0, 9, 0, 0, 0]], 1, 0, [(0, 1, 1)]),
        ([[0, 9, 0, 0, 0]], 1, 2, [(0, 0, 3)]),
        ([[9, 0, 0, 0, 0]], 1, 1, [(0, 0, 1)]),  # no neighbour before the first
        ([[0, 0, 0, 0, 9]], 1, 1, [(0, 3, 4)]),
        ([[0, 9, 0, 0, 8]], 2, 0, [(0, 1, 1), (0, 4, 4)]),  # in the order of the text
        ([[0, 8, 0, 0, 9]], 2, 0, [(0, 1, 1), (0, 4, 4)]),
        ([[0, 9, 0, 8, 0]], 2, 1, [(0, 0, 4)]),  # adjoining windows form one span
        (
            [[1, 8, 0], [0, 0, 9]],
            2,
            1,
            [(1, 1, 2), (0, 0, 2)],
        ),  # the memory with the best window first
        ([[1, 2, None], [None, None, None]], 9, 3, [(0, 0, 1)]),
        ([[None, None]], 3, 1, []),
    ],
)
def test_the_best_windows_are_chosen_with_their_neighbours(
    scores: list[list[float | None]], best: int, neighbours: int, spans: list[tuple[int, int, int]]
) -> None:
    table = torch.tensor(
        [[-inf if score is None else float(score) for score in row] for row in scores]
    )
    tokens = table.repeat_interleave(3, 1).unsqueeze(-1).expand(-1, -1, 2)
    expected = [TokenSpan(memory, 3 * first, 3 * last + 2) for memory, first, last in spans]
    assert choose_windows(tokens, 3, best, neighbours) == expected


def test_a_span_ends_where_its_memory_ends() -> None:
    scores = torch.tensor([[0.0, 0.0, 0.0, 9.0, -inf, -inf]]).unsqueeze(-1).expand(-1, -1, 2)
    assert choose_windows(scores, 3, 1, 1) == [TokenSpan(0, 0, 3)]


def test_a_value_that_is_left_out_shortens_no_memory() -> None:
    scores = torch.tensor([[0.0, -inf, -inf, 0.0, 0.0, 9.0]]).unsqueeze(-1).expand(-1, -1, 2)
    assert choose_windows(scores, 3, 1, 0) == [TokenSpan(0, 3, 5)]


def test_the_margin_of_windows_is_their_lead_over_the_first_that_is_left_out() -> None:
    probability = log_probabilities([-1.0, -2.0, -2.5, -8.0])
    assert window_margin(probability, 1, 1) == pytest.approx(1.0)
    assert window_margin(probability, 1, 2) == pytest.approx(0.5)
    assert window_margin(probability, 1, 4) == inf
    assert window_margin(probability, 2, 1) == pytest.approx(
        float(torch.tensor([-1.0, -2.0]).logsumexp(0) - torch.tensor([-2.5, -8.0]).logsumexp(0))
    )


def test_the_margin_of_windows_covers_the_order_of_memories() -> None:
    near = log_probabilities([-1.0, -9.0], [-1.125, -9.0])
    far = log_probabilities([-1.0, -1.125], [-9.0, -9.0])
    assert window_margin(near, 1, 2) == pytest.approx(0.125)
    assert window_margin(far, 1, 2) == pytest.approx(7.875)
    assert choose_windows(near, 1, 2, 0) != choose_windows(near.flip(0), 1, 2, 0)


def test_the_margins_leave_padding_out() -> None:
    probability = log_probabilities([-1.0, -inf])
    assert quote_of(probability, [[5]]).margin == inf
    assert window_margin(probability, 1, 1) == inf


@pytest.mark.parametrize(("window", "neighbours"), [(1, 9), (2, 4), (4, 2), (8, 1), (16, 0)])
def test_about_as_much_text_is_shown_at_every_window(window: int, neighbours: int) -> None:
    assert neighbours_at(2, 4, window) == neighbours


def test_the_likeliest_memories_and_their_lead() -> None:
    log_probability = log_probabilities([0.1, 0.1], [0.4, 0.0], [0.2, 0.05]).log()
    log_probability[0, 1] = -inf  # padding
    memories, lead = likeliest_memories(log_probability, 2)
    assert memories == [1, 2]
    assert lead == pytest.approx(log(0.25 / 0.1), rel=1e-5)
    assert likeliest_memories(log_probability, 3) == ([1, 2, 0], inf)
