"""The examples that continue the training of ψ."""

import json
import lzma
import random
from pathlib import Path
from types import ModuleType

import pytest

from tests.helpers.lms import TinyLm
from tests.helpers.scripts import load_script


@pytest.fixture
def script() -> ModuleType:
    return load_script("continue_reader")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.jsonl.xz"
    with lzma.open(path, "wt") as lines:
        for number in range(3):
            text = f"The harbour of Saltby had {number} ships on Monday. More came later."
            lines.write(json.dumps({"text": text}) + "\n")
    return path


def test_made_sentences_state_the_answer_or_are_asides(script: ModuleType, plain: Path) -> None:
    examples = list(script.told(plain, 600, random.Random(3)))
    answered = [example for example in examples if example.answer]
    assert 0.7 < len(answered) / len(examples) < 0.95
    for example in examples:
        assert not example.answer or example.answer in example.texts[0]
        assert "{" not in "".join([example.question, *example.texts])


def test_an_item_has_the_tokens_of_its_answer(script: ModuleType, tiny_lm: TinyLm) -> None:
    lm = tiny_lm("llama")
    example = script.Example("Where is it?", ["It is in Saltby.", "It was in Tarn."], "Saltby")
    item = script.item_of(example, lm)
    ((first, last),) = item.spans
    assert lm.decode(item.texts[0][first : last + 1]).strip() == "Saltby"
    assert script.item_of(example._replace(answer="Ellery"), lm) is None
    assert script.item_of(example._replace(answer=None), lm).spans == []


def test_batches_have_at_most_so_many_tokens(script: ModuleType) -> None:
    items = [script.Item([1] * 5, [[2] * length], []) for length in range(10, 190)]
    batches = script.costwise(items, random.Random(1))
    assert sorted(map(id, items)) == sorted(id(item) for batch in batches for item in batch)
    assert max(sum(item.cost for item in batch) for batch in batches) <= script.TOKENS
