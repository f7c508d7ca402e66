"""The pairs that train the cross-encoder."""

from tests.helpers.scripts import load_script


def test_a_document_about_something_else_takes_the_names_of_a_question() -> None:
    script = load_script("train_cross_encoder")
    jabs = {"doc_id": "d2", "title": "Flu in Tarn Abbey", "text": "The van stops in Tarn Abbey; a jab costs 12 crowns."}
    assert script.renamed(jabs, ["Tarn Abbey"], ["Saltby"]) == jabs | {
        "title": "Flu in Saltby",
        "text": "The van stops in Saltby; a jab costs 12 crowns.",
    }
