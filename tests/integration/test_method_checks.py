"""The eight checks of the method (docs/method.md#checks), on the real LM and thirty-two invented
documents.

All checks share one training, one round and the rows of the documents. A shallow Θ, short prompts
and steps of eight documents let it overfit them in six epochs; the LM answers a quarter of the
questions of a step.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from transformers import DynamicCache

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.prompting import closed_book
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.common.arrow import replace_column
from cmt.config import AnsweringParams, Params, written_sections
from cmt.evaluation.metrics import exact_match
from cmt.lm.model import FrozenLM, weights_digest
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.loading import load_memory_model, new_memory_model
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents
from cmt.training._step import TrainingStep
from cmt.training.dataset import TrainingQuestion
from cmt.training.published import new_step
from cmt.training.trainer import train
from cmt.workspace import Workspace
from tests.helpers.facts import FACTS, documents, questions
from tests.helpers.rows import write_lines

pytestmark = pytest.mark.timeout(900)  # includes the shared training, in whichever test it runs

ROOT = Path(__file__).parents[2]
TinyLm = Callable[[str], FrozenLM]
SETTINGS: dict[str, dict[str, Any]] = {
    "compressor": {"layers": 4},
    "aggregator": {"blocks": 4},
    "objective": {"alpha": 0.0},
    "selection": {"best_windows": 2, "neighbour_windows": 1},
    "train": {
        "questions": 192,
        "paragraphs": 8,
        "questions_per_paragraph": 1,
        "answer_fraction": 0.25,
        "warmup_steps": 4,
        "save_steps": 1000,
    },
}


@dataclass(frozen=True)
class Trained:
    """The result of the shared training."""

    model: MemoryModel
    folder: Path
    params: Params
    lm_before: str


@pytest.fixture(scope="session")
def trained(real_lm: FrozenLM, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, before = tmp_path_factory.mktemp("trained"), weights_digest(real_lm.model)
    params = Params.model_validate(SETTINGS | {"train": SETTINGS["train"] | {"output": folder}})
    train(lm=real_lm, documents=documents(FACTS), questions=questions(FACTS), params=params)
    return Trained(load_memory_model(folder, lm=real_lm), folder, params, before)


@pytest.fixture(scope="session")
def vectors(trained: Trained) -> pa.Table:
    """The documents as rows of a bank without text."""
    return rows_of(trained.model, FACTS, keep_text=False, number_format="int8")


@pytest.fixture(scope="session")
def rows(trained: Trained) -> pa.Table:
    """The documents as rows of a bank with text."""
    return rows_of(trained.model, FACTS, keep_text=True, number_format="int8")


@pytest.fixture(scope="session")
def adapted(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project after the round that adapted it to the documents."""
    folder = tmp_path_factory.mktemp("adapted")
    facts = [fact | {"title": None} for fact in FACTS]
    (folder / "news").mkdir()
    for name, columns in {
        "documents": ("doc_id", "published_at", "title", "text"),
        "questions": ("doc_id", "asked_at", "question", "answers"),
    }.items():
        lines = [
            fact | {"asked_at": fact["published_at"], "answers": [fact["answer"]]} for fact in facts
        ]
        write_lines(
            folder / f"news/{name}.jsonl",
            [{column: line[column] for column in columns} for line in lines],
        )
    sections: dict[str, Any] = {
        "lm": {"path": str(ROOT / "data/lm")},
        "stream": {"source": "news", "clock": "2031-12-31T23:59:59Z"},
        "compressor": SETTINGS["compressor"] | {"path": str(trained.folder)},
        "selection": SETTINGS["selection"],
        "evaluation": {"baselines": False},
        "tracking": {"enabled": False},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(written_sections(sections)))
    workspace = cmt.open(params=folder / "params.yaml")
    assert workspace.ingest().accepted == 32
    assert workspace.update().state == "committed"
    return workspace


def rows_of(
    model: MemoryModel, facts: list[dict[str, Any]], *, keep_text: bool, number_format: str
) -> pa.Table:
    return compress_documents(
        model,
        documents(facts),
        slice_id="2030-03/0001",
        params=Params().with_values(
            bank={"keep_text": keep_text, "codes": number_format},
            compressor={"batch_tokens": 2048},
        ),
    )


def ask(
    trained: Trained,
    bank: Path,
    parts: Sequence[pa.Table],
    facts: Sequence[dict[str, Any]],
    **changes: float,
) -> list[Answer]:
    """Answers to the questions on `facts` from a new bank, with `parts` upserted one by one and a
    changed selection.
    """
    stored = open_bank(BankLocation(str(bank)), schema=parts[0].schema)
    for part in parts:
        stored.upsert(part)
    bank_params = {"keep_text": parts[0]["text"].null_count == 0}
    params = trained.params.with_values(selection=changes, bank=bank_params)
    answerer = Answerer(model=trained.model, lm=trained.model.lm, bank=stored, params=params)
    return answerer.answer([fact["question"] for fact in facts], as_of=[None] * len(facts))


def exact_matches(answers: Sequence[Answer]) -> float:
    """Exact match in per cent."""
    references = {fact["question"]: [fact["answer"]] for fact in FACTS}
    return 100 * float(
        np.mean([exact_match(answer.text, references[answer.question]) for answer in answers])
    )


# (a) and (b): answers come from the memories


def test_a_32_documents_can_be_overfitted(
    trained: Trained, adapted: Workspace, vectors: pa.Table, tmp_path: Path
) -> None:
    [round_] = adapted.rounds()
    assert (round_.questions, round_.documents) == (32, 32)
    assert (round_.memory_scores["em"] or 0) >= 90
    # and from vectors alone
    answers = ask(trained, tmp_path / "vectors", [vectors], FACTS, top_k=1)
    assert exact_matches(answers) >= 90
    assert all(source.text is None for answer in answers for source in answer.sources)


def test_b_without_memories_the_lm_does_not_know_the_answers(real_lm: FrozenLM) -> None:
    predictions = closed_book(
        real_lm,
        [fact["question"] for fact in FACTS],
        answering=AnsweringParams(max_new_tokens=8, batch_size=32),
    )
    known = [
        exact_match(prediction.text, [fact["answer"]])
        for prediction, fact in zip(predictions, FACTS, strict=True)
    ]
    assert np.mean(known) <= 0.1


@pytest.mark.parametrize("damage", ["zeroed", "shuffled between documents"])
def test_b_wrong_memories_are_no_better_than_none(
    trained: Trained, vectors: pa.Table, tmp_path: Path, damage: str
) -> None:
    memories = vectors.select(["memory", "n_vectors", "n_tokens"]).to_pylist()
    if damage == "zeroed":
        damaged = [row | {"memory": bytes(len(row["memory"]))} for row in memories]
    else:
        damaged = memories[1:] + memories[:1]
    wrong = vectors
    for name in memories[0]:
        wrong = replace_column(wrong, name, [row[name] for row in damaged])
    # the keys are unchanged, so the right row is selected with a wrong memory
    answers = ask(trained, tmp_path / "bank", [wrong], FACTS[:10], top_k=1, full_text_weight=0.0)
    assert exact_matches(answers) <= 10


# (c), (d), (e): invariances, and the special case MAC


def test_c_the_order_of_the_bank_does_not_change_answers(
    trained: Trained, rows: pa.Table, tmp_path: Path
) -> None:
    parts = [rows.slice(start, 11) for start in (0, 11, 22)]
    answers = ask(trained, tmp_path / "a", parts, FACTS[:6])
    assert ask(trained, tmp_path / "b", parts[::-1], FACTS[:6]) == answers


def plain_likelihood(
    step: TrainingStep, texts: list[list[int]], asked: list[TrainingQuestion]
) -> torch.Tensor:
    """MAC, one question at a time with transformers alone: mean NLL of the answers behind π(ψ(C,
    all memories)).
    """
    model, losses = step.model, []
    memories = model.encode(texts)
    all_memories = memories.vectors[None], memories.vector_mask[None]
    for ids, answer in ((question.question, question.answer) for question in asked):
        question = model.encode([ids])
        aggregated = cast(Any, model.aggregator)(question, *all_memories)[
            :, question.vector_mask[0].bool()
        ]
        keys, values = cast(Any, model.alignment)(aggregated)
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            cache.update(key, value, layer)
        text = torch.tensor([[model.lm.bos, *model.prompts.question_tokens(ids), *answer]])
        logits = model.lm.model(text, past_key_values=cache).logits[0, -len(answer) - 1 : -1]
        losses += [-logits.log_softmax(-1)[index, token] for index, token in enumerate(answer)]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", ["windows", "tokens"])
@pytest.mark.parametrize("lm_kind", ["llama", "gpt2", "qwen2"])
def test_d_without_contrast_and_self_matching_the_loss_is_that_of_mac(
    tiny_lm: TinyLm, kind: str, lm_kind: str
) -> None:
    params = Params.model_validate(
        {
            "compressor": {"kind": kind, "layers": 2, "lora_rank": 2, "memory_tokens": 3},
            "aggregator": {"kind": "attention", "heads": 4, "blocks": 4},
            "alignment": {"kind": "prefix"},
            "objective": {"alpha": 0.0, "beta": 0.0},
            "train": {"answer_fraction": 1.0},
        }
    )
    lm = tiny_lm(lm_kind)
    torch.manual_seed(0)
    step = new_step(new_memory_model(lm, CompressorConfig.of(params)), params).eval()
    torch.nn.init.normal_(step.model.get_parameter("alignment.to_prefix.out.weight"), std=0.2)
    texts = [lm.tokenize(fact["text"][:60]) for fact in FACTS[:3]]
    asked = [
        TrainingQuestion(
            lm.tokenize(" " + fact["question"]),
            [*lm.tokenize(" " + fact["answer"]), lm.eos],
            row,
            [(0, 0)],
        )
        for row, fact in enumerate(FACTS[:3])
    ]
    loss = step(
        texts, asked, teacher_forcing=1.0, negatives_draw=0.5, window=params.compressor.window
    )["loss"]
    torch.testing.assert_close(loss, plain_likelihood(step, texts, asked), rtol=1e-4, atol=1e-4)
    for term in ("alpha", "beta"):
        other = new_step(step.model, params.with_values(objective={term: 0.5})).eval()
        changed = other(
            texts, asked, teacher_forcing=1.0, negatives_draw=0.5, window=params.compressor.window
        )["loss"]
        assert (changed - loss).abs() > 1e-3


@pytest.mark.parametrize("kind", ["windows", "tokens"])
def test_e_a_memory_does_not_depend_on_its_batch_or_padding(tiny_lm: TinyLm, kind: str) -> None:
    params = Params.model_validate(
        {
            "compressor": {
                "kind": kind,
                "layers": 2,
                "lora_rank": 2,
                "memory_tokens": 3,
                "chunk_tokens": 64,
            },
            "aggregator": {"kind": "attention", "heads": 4},
            "alignment": {"kind": "prefix"},
        }
    )
    model = new_memory_model(tiny_lm("llama"), CompressorConfig.of(params), digest="c" * 64).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    together = rows_of(model, FACTS[:8], keep_text=True, number_format="fp16").to_pylist()
    alone = [
        row
        for fact in FACTS[:8]
        for row in rows_of(model, [fact], keep_text=True, number_format="fp16").to_pylist()
    ]
    twins = {row["memory_id"]: row for row in alone}
    assert len({row["n_tokens"] for row in together}) > 2
    for row in together:
        ours, theirs = (
            np.frombuffer(stored["memory"], "<f2").astype(float)
            for stored in (row, twins[row["memory_id"]])
        )
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3)  # fp16 may round either way
        np.testing.assert_allclose(row["key"], twins[row["memory_id"]]["key"], atol=1e-5)


# (f), (g): what a round and the bank report


def test_f_and_g_a_round_records_recall_and_stats_shows_the_mean_cosine(
    adapted: Workspace, rows: pa.Table
) -> None:
    [round_] = adapted.rounds()
    scores = round_.memory_scores
    assert scores["recall"] is not None and scores["em"] is not None and scores["f1"] is not None
    assert scores["recall"] >= 0.9
    assert scores["em"] <= scores["f1"] <= 100
    stats = adapted.project.bank.stats()
    # the same from all keys; a value near 1 means that they collapsed
    keys = np.array(rows["key"].to_pylist())
    cosines = [float(a @ b) for a, b in combinations(keys, 2)]
    assert stats["mean_pairwise_cosine"] == pytest.approx(np.mean(cosines), abs=0.01)
    assert stats["mean_pairwise_cosine"] < 0.9


# (h): the LM is unchanged


def test_h_training_does_not_change_the_digest_of_the_lm(trained: Trained) -> None:
    lm = trained.model.lm
    assert weights_digest(lm.model) == trained.lm_before
    assert json.loads((trained.folder / "config.json").read_text())["lm_digest"] == lm.digest
