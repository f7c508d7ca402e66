"""The pairs that train the cross-encoder."""

from tests.helpers.scripts import load_script


def test_a_document_about_something_else_gets_the_names_of_a_question() -> None:
    script = load_script("train_cross_encoder")
    jabs = {"doc_id": "d2", "title": "Flu in Tarn Abbey", "text": "The van stops in Tarn Abbey; a jab costs 12 crowns."}
    names = script.INNER_NAMES.findall("What does a jab in Tarn Abbey cost?")
    others = script.INNER_NAMES.findall("What does the Saltby ferry cost?")
    assert (names, others) == (["Tarn Abbey"], ["Saltby"])
    assert script.renamed(jabs, names, others) == jabs | {
        "title": "Flu in Saltby",
        "text": "The van stops in Saltby; a jab costs 12 crowns.",
    }
