"""The eight checks that catch a wrong implementation, on the real LM and thirty-two made-up documents.

One training for the whole file: a shallow Θ and short prompts make it learn them by heart in about a minute.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

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
from cmt.bank.bank import Bank
from cmt.config import Params
from cmt.evaluation.metrics import exact_match
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents
from cmt.training.step import TrainingStep
from cmt.training.trainer import train
from tests.helpers.facts import FACTS, documents, questions

pytestmark = pytest.mark.timeout(900)  # the one training, wherever it falls

ROOT = Path(__file__).parents[2]
TinyLm = Callable[[str], FrozenLM]
SETTINGS: dict[str, dict[str, Any]] = {
    "compressor": {"layers": 6},
    "aggregator": {"blocks": 6},
    "objective": {"alpha": 0.0},
    "selection": {"windows": 2, "neighbours": 1},
    "train": {"questions": 576, "questions_per_paragraph": 1, "answered": 1.0, "warmup_steps": 4, "save_steps": 1000},
}


@dataclass(frozen=True)
class Taught:
    """What the one training left."""

    model: MemoryModel
    folder: Path
    params: Params
    lm_before: str


@pytest.fixture(scope="session")
def taught(real_lm: FrozenLM, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    folder, before = tmp_path_factory.mktemp("taught"), real_lm.weights_digest()
    params = Params.model_validate(SETTINGS | {"train": SETTINGS["train"] | {"output": folder}})
    train(lm=real_lm, documents=documents(FACTS), questions=questions(FACTS), params=params)
    return Taught(MemoryModel.load(folder, lm=real_lm), folder, params, before)


@pytest.fixture(scope="session")
def vectors(taught: Taught) -> pa.Table:
    """The documents as rows of a bank that keeps no text."""
    return rows_of(taught.model, FACTS, keep_text=False, number_format="int8")


def rows_of(model: MemoryModel, facts: list[dict[str, Any]], *, keep_text: bool, number_format: str) -> pa.Table:
    return compress_documents(
        model,
        documents(facts),
        slice_id="2030-03/0001",
        keep_text=keep_text,
        number_format=number_format,
        batch_tokens=2048,
    )


def ask(
    taught: Taught,
    bank: Path,
    parts: Sequence[pa.Table],
    facts: Sequence[dict[str, Any]],
    **how: float,
) -> list[Answer]:
    """The questions on `facts`, through a new bank into which `parts` are put one after the other."""
    stored = Bank.open(uri=str(bank), schema=parts[0].schema)
    for part in parts:
        stored.upsert(part)
    selection = taught.params.selection.model_copy(update=how)
    kept = taught.params.bank.model_copy(update={"keep_text": parts[0]["text"].null_count == 0})
    params = taught.params.model_copy(update={"selection": selection, "bank": kept})
    answerer = Answerer(model=taught.model, lm=taught.model.lm, bank=stored, params=params)
    return answerer.answer([fact["question"] for fact in facts], as_of=[None] * len(facts))


def right(answers: Sequence[Answer]) -> float:
    """Exact match in per cent."""
    golds = {fact["question"]: [fact["answer"]] for fact in FACTS}
    return 100 * float(np.mean([exact_match(answer.text, golds[answer.question]) for answer in answers]))


# (a) and (b): what is in the memories is what is answered


def test_a_32_documents_are_learned_by_heart(taught: Taught, tmp_path: Path) -> None:
    rows = rows_of(taught.model, FACTS, keep_text=True, number_format="int8")
    assert right(ask(taught, tmp_path / "bank", [rows], FACTS)) >= 90


def test_a_32_documents_are_answered_from_vectors_alone(taught: Taught, vectors: pa.Table, tmp_path: Path) -> None:
    answers = ask(taught, tmp_path / "bank", [vectors], FACTS, top_k=1)
    assert right(answers) >= 90
    assert all(source.text is None for answer in answers for source in answer.sources)


def test_b_without_memories_the_lm_does_not_know(real_lm: FrozenLM) -> None:
    alone = closed_book(real_lm, [fact["question"] for fact in FACTS], max_new_tokens=8, batch_size=32)
    known = [exact_match(said.text, [fact["answer"]]) for said, fact in zip(alone, FACTS, strict=True)]
    assert np.mean(known) <= 0.1


@pytest.mark.parametrize("how", ["zeroed", "shuffled between documents"])
def test_b_wrong_memories_are_no_better_than_none(taught: Taught, vectors: pa.Table, tmp_path: Path, how: str) -> None:
    held = vectors.select(["memory", "n_vectors", "n_tokens"]).to_pylist()
    moved = held[1:] + held[:1] if how != "zeroed" else [row | {"memory": bytes(len(row["memory"]))} for row in held]
    wrong = vectors
    for name in held[0]:
        place = wrong.schema.get_field_index(name)
        column = pa.array([row[name] for row in moved], wrong.schema.field(name).type)
        wrong = wrong.set_column(place, wrong.schema.field(name), column)
    # keys as they were: the right row is found, and holds nothing or something else
    asked = ask(taught, tmp_path / "bank", [wrong], FACTS, top_k=1, full_text_weight=0.0)
    assert right(asked) <= 10


# (c), (d), (e): what must not matter, and what the method is when its own parts are off


def test_c_the_order_of_the_bank_does_not_change_an_answer(taught: Taught, tmp_path: Path) -> None:
    rows = rows_of(taught.model, FACTS, keep_text=True, number_format="int8")
    parts = [rows.slice(start, 11) for start in (0, 11, 22)]
    forwards = ask(taught, tmp_path / "a", parts, FACTS[:12])
    assert ask(taught, tmp_path / "b", parts[::-1], FACTS[:12]) == forwards


def plain_likelihood(lesson: TrainingStep, texts: list[list[int]], asked: list[Any]) -> torch.Tensor:
    """MAC, one question at a time with transformers alone: mean NLL of the answers behind π(ψ(C, all memories))."""
    model, losses = lesson.model, []
    memories = model.encode(texts)
    for ids, answer, *_ in asked:
        every = memories.vectors[None], memories.vector_mask[None]
        question = model.encode([ids])
        aggregated = model.aggregator(question, *every)[:, question.vector_mask[0].bool()]
        keys, values = model.alignment(aggregated)
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(keys, values, strict=True)):
            cache.update(key, value, layer)
        text = torch.tensor([[model.lm.bos, *model.prompts.question_tokens(ids), *answer]])
        logits = model.lm.model(text, past_key_values=cache).logits[0, -len(answer) - 1 : -1]
        losses += [-logits.log_softmax(-1)[place, token] for place, token in enumerate(answer)]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", ["windows", "tokens"])
@pytest.mark.parametrize("lm_kind", ["llama", "gpt2", "qwen2"])
def test_d_without_its_own_terms_the_objective_is_that_of_mac(tiny_lm: TinyLm, kind: str, lm_kind: str) -> None:
    params = Params.model_validate(
        {
            "compressor": {"kind": kind, "layers": 2, "lora_rank": 2, "memory_tokens": 3},
            "aggregator": {"kind": "attention", "heads": 4, "blocks": 4},
            "alignment": {"kind": "prefix"},
            "objective": {"alpha": 0.0, "beta": 0.0},
            "train": {"answered": 1.0},
        }
    )
    lm = tiny_lm(lm_kind)
    torch.manual_seed(0)
    lesson = TrainingStep(MemoryModel(lm, CompressorConfig.of(params)), params).eval()
    torch.nn.init.normal_(lesson.model.get_parameter("alignment.to_prefix.out.weight"), std=0.2)
    texts = [lm.tokenize(fact["text"][:60]) for fact in FACTS[:3]]
    asked = [
        (lm.tokenize(" " + fact["question"]), [*lm.tokenize(" " + fact["answer"]), lm.eos], row, 0)
        for row, fact in enumerate(FACTS[:3])
    ]
    loss = lesson(texts, asked, forced=1.0, draw=0.5)["loss"]
    torch.testing.assert_close(loss, plain_likelihood(lesson, texts, asked), rtol=1e-4, atol=1e-4)
    for term in ("alpha", "beta"):
        objective = params.objective.model_copy(update={term: 0.5})
        other = TrainingStep(lesson.model, params.model_copy(update={"objective": objective})).eval()
        assert (other(texts, asked, forced=1.0, draw=0.5)["loss"] - loss).abs() > 1e-3


@pytest.mark.parametrize("kind", ["windows", "tokens"])
def test_e_a_memory_does_not_depend_on_its_batch_or_padding(tiny_lm: TinyLm, kind: str) -> None:
    params = Params.model_validate(
        {
            "compressor": {"kind": kind, "layers": 2, "lora_rank": 2, "memory_tokens": 3, "chunk_tokens": 64},
            "aggregator": {"kind": "attention", "heads": 4},
            "alignment": {"kind": "prefix"},
        }
    )
    model = MemoryModel(tiny_lm("llama"), CompressorConfig.of(params), digest="c" * 64).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    together = rows_of(model, FACTS[:8], keep_text=True, number_format="fp16").to_pylist()
    alone = [
        row for fact in FACTS[:8] for row in rows_of(model, [fact], keep_text=True, number_format="fp16").to_pylist()
    ]
    twins = {row["memory_id"]: row for row in alone}
    assert len({row["n_tokens"] for row in together}) > 2
    for row in together:
        ours, theirs = (np.frombuffer(one["memory"], "<f2").astype(float) for one in (row, twins[row["memory_id"]]))
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3)  # fp16 may round either way
        np.testing.assert_allclose(row["key"], twins[row["memory_id"]]["key"], atol=1e-5)


# (f), (g): what a round writes down


def test_f_and_g_a_round_writes_down_recall_beside_em_and_f1_and_the_cosine_of_its_memories(
    taught: Taught, tmp_path: Path
) -> None:
    shown = [fact | {"title": None} for fact in FACTS]
    (tmp_path / "news").mkdir()
    for name, columns in {
        "documents": ("doc_id", "published_at", "title", "text"),
        "questions": ("doc_id", "asked_at", "question", "answers"),
    }.items():
        lines = [fact | {"asked_at": fact["published_at"], "answers": [fact["answer"]]} for fact in shown]
        text = "".join(json.dumps({column: line[column] for column in columns}) + "\n" for line in lines)
        (tmp_path / f"news/{name}.jsonl").write_text(text)
    sections: dict[str, Any] = {
        "lm": {"path": str(ROOT / "data/lm")},
        "stream": {"source": "news", "clock": "2031-12-31T23:59:59Z"},
        "compressor": SETTINGS["compressor"] | {"path": str(taught.folder)},
        "selection": SETTINGS["selection"],
        "evaluation": {"baselines": False},
        "tracking": {"enabled": False},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    memory = cmt.open(params=tmp_path / "params.yaml")
    assert memory.ingest().accepted == 32
    round_ = memory.update()
    assert round_.state == "committed"
    scores = round_.scores
    assert scores["recall"] is not None and scores["em"] is not None and scores["f1"] is not None
    assert scores["recall"] >= 0.9
    assert 90 <= scores["em"] <= scores["f1"] <= 100
    stats = memory.bank.stats()
    # of a table of all keys by hand; near 1 the memories would have collapsed
    keys = np.array(rows_of(taught.model, FACTS, keep_text=True, number_format="int8")["key"].to_pylist())
    cosines = [float(a @ b) for a, b in combinations(keys, 2)]
    assert stats["mean_pairwise_cosine"] == pytest.approx(np.mean(cosines), abs=0.01)
    assert stats["mean_pairwise_cosine"] < 0.9


# (h): the LM is what it was


def test_h_the_frozen_lm_hashes_the_same_before_and_after_training(taught: Taught) -> None:
    lm = taught.model.lm
    assert lm.weights_digest() == taught.lm_before
    assert json.loads((taught.folder / "config.json").read_text())["lm_digest"] == lm.digest
