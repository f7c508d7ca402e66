"""Labels, colours and markers of the compared systems."""

from cmt.common.systems import ROUND_SYSTEMS, SYSTEM_STYLES, system_label


def test_the_systems_of_a_round_differ_in_label_colour_and_marker() -> None:
    styles = [SYSTEM_STYLES[name] for name in ROUND_SYSTEMS]
    for values in zip(*styles, strict=True):
        assert len(set(values)) == len(ROUND_SYSTEMS)


def test_an_unknown_system_is_called_by_its_name() -> None:
    assert system_label("rag-bm25-3") == "BM25-RAG, top 3"
    assert system_label("new") == "new"
