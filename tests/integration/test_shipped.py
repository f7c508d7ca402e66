"""The shipped compressors, on the real LM and on invented documents that they were not trained on.

`test_init.py` has the default settings: text kept, 8 bits a number, four tokens a vector.
"""

from pathlib import Path

import pytest

from cmt.config import load_params
from cmt.evaluation.metrics import mark
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import WEIGHTS, checkpoint_digest
from tests.helpers.facts import FACTS, documents

ROOT = Path(__file__).parents[2]


def test_the_model_card_names_the_digest_of_the_weights() -> None:
    folder = ROOT / "data/compressor"
    assert f"# Compressor {checkpoint_digest(folder)[:12]}\n" in (folder / "card.md").read_text()
    assert (folder / WEIGHTS).stat().st_size < 40e6


@pytest.mark.timeout(900)  # minutes on a CPU without fast bfloat16
def test_questions_about_unseen_documents_are_answered_from_the_smallest_bank(
    real_lm: FrozenLM,
) -> None:
    facts = FACTS[::2]
    smallest = {"bank.keep_text": False, "bank.codes": "int4", "compressor.window": 8}
    params = load_params(ROOT / "params.yaml", smallest | {"selection.abstain_below": -1.0})
    bank = TemporaryBank.of(
        ROOT / "data/compressor", lm=real_lm, documents=documents(facts), params=params
    )
    vectors, tokens = bank.rows["n_vectors"].to_numpy(), bank.rows["n_tokens"].to_numpy()
    assert (vectors == -(-tokens // 8)).all()
    assert bank.rows["text"].null_count == len(bank.rows)
    with bank.answerer() as answerer:
        answers = answerer.answer([fact["question"] for fact in facts], as_of=[None] * len(facts))
    scores = mark([answer.text for answer in answers], [[fact["answer"]] for fact in facts])
    assert 100 * float(scores.f1.mean()) >= 70
