from cmt.text.words import stems


def test_stems_are_cut_words_without_function_words() -> None:
    assert stems("The Mayors' mayoralty, in 1987!") == ["mayors", "mayora", "1987"]
    assert stems("") == stems("Who was it?") == []
