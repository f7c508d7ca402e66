from cmt.text import sentences


def test_sentences_end_at_marks_and_lines_but_not_at_initials() -> None:
    assert sentences.SENTENCE_END.split("One. Two!\nThree") == ["One.", "Two!", "Three"]
    assert [bool(sentences.INITIAL.search(text)) for text in ("by J.", "Mr.", "the end.")] == [
        True,
        True,
        False,
    ]
    found = sentences.END_MARK.search("He met Dr. Moss.")
    assert found is not None and (found["word"], found["mark"], found["next"]) == ("Dr", ".", "M")
    assert found["word"].lower() in sentences.ABBREVIATIONS
