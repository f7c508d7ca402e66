"""The fit of the confidence, on a tiny LM: questions of every kind, weights and measures."""

import json
from pathlib import Path

import pytest

from tests.helpers.facts import FACTS
from tests.helpers.scripts import run_main
from tests.helpers.training import squad


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_and_measures_are_fitted_to_all_kinds_of_questions(tiny_workspace: Path) -> None:
    rows = [
        {"id": f"{fact['doc_id']}-{answers}", "title": "Facts", "context": fact["text"]}
        | {"question": question, "answers": answers}
        for fact in FACTS
        for question, answers in (
            (fact["question"], [fact["answer"]]),
            (f"Why not {fact['doc_id']}?", []),
        )
    ]
    data = tiny_workspace / "facts.json"
    data.write_bytes(squad(rows))
    options = [
        "--data",
        str(data),
        "--params",
        str(tiny_workspace / "params.yaml"),
        "--questions",
        "12",
        "--json",
    ]
    status, stdout, stderr = run_main("fit_confidence", *options)
    assert status == 0, stderr
    result = json.loads(stdout)
    assert {"answerable", "unanswerable", "absent"} <= {case["kind"] for case in result["cases"]}
    assert "constant" in result["weights"]
    evidence = set(result["weights"]) - {"constant"}
    assert all(evidence <= case.keys() for case in result["cases"])
    assert 0 <= result["measures"]["refused, absent"] <= 1
    assert 0 <= result["measures"]["calibration error, facts"] <= 1
