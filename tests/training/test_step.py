"""One training step: which memories ψ sees, and what the prompts contain."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.config import Params
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.loading import new_memory_model
from cmt.training._step import TrainingStep
from cmt.training.dataset import StepDataset, TrainingQuestion
from cmt.training.published import new_step
from tests.helpers.training import FARES, PUBLISHED, paragraph_pool, training_params


def make_step(lm: Any, params: Params) -> tuple[TrainingStep, dict[str, Any]]:
    """A new model in training, and its first item."""
    torch.manual_seed(0)
    step = new_step(new_memory_model(lm, CompressorConfig.of(params)), params)
    return step, StepDataset(paragraph_pool(lm, FARES), params)[0]


def test_negatives_are_the_most_similar_other_documents(tiny_lm: Any, tmp_path: Path) -> None:
    step, _ = make_step(tiny_lm("llama"), training_params(tmp_path))
    similarity = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3]]).expand(200, -1)
    without_gold = torch.arange(200) >= 180
    candidates = step._candidates(similarity, torch.full((200,), 1), 0.5, without_gold)
    assert candidates[~without_gold, 0].eq(1).all()
    alone = candidates[:, 1].eq(-1)
    assert 60 < alone.sum() < 120  # half of the questions have no negatives
    assert candidates[~without_gold & ~alone].tolist() == [[1, 3]] * int(
        (~without_gold & ~alone).sum()
    )
    assert candidates[without_gold].tolist() == [[-1, 3]] * 20  # ψ has to find "nowhere"


def test_the_total_is_the_weighted_sum_of_its_parts(tiny_lm: Any, tmp_path: Path) -> None:
    params = training_params(tmp_path, objective={"alpha": 0.2, "beta": 0.3, "gamma": 0.7})
    step, item = make_step(tiny_lm("llama"), params)
    result = step(**item)
    logs = result["logs"]
    torch.testing.assert_close(
        result["loss"].detach(), 0.3 * logs["matching"] + 0.7 * logs["span"] + logs["answer"]
    )
    assert 0 <= logs["recall_at_1"] <= 1 and 0 <= logs["begin_found"] <= 1
    # the published form has no span loss
    step, item = make_step(tiny_lm("llama"), training_params(tmp_path, **PUBLISHED))
    assert step(**item)["logs"].keys() == {"matching", "recall_at_1", "answer"}


def test_with_teacher_forcing_the_gold_span_is_the_quote(tiny_lm: Any, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    step, item = make_step(lm, training_params(tmp_path))
    ends: list[list[int]] = []
    text_prompt = step.model.prompts.text_prompt

    def record(*args: Any, **options: Any) -> Any:
        ends.extend(args[4])
        return text_prompt(*args, **options)

    step.model.prompts.text_prompt = record  # type: ignore[method-assign]
    step(**item | {"teacher_forcing": 1.0})
    for question, end in zip(item["questions"], ends, strict=True):
        answer = lm.decode(question.answer).replace(
            " ", ""
        )  # a blank may belong to the token before the quote
        assert lm.decode(end).replace(" ", "").endswith(f"Quote:{answer}\nAnswer:{answer}")


@pytest.mark.parametrize("window", [1, 8])
def test_a_step_trains_at_its_window(tiny_lm: Any, tmp_path: Path, window: int) -> None:
    step, item = make_step(tiny_lm("llama"), training_params(tmp_path))
    step(**item | {"window": window})["loss"].backward()
    gradients = [
        parameter.grad for name, parameter in step.model.named_parameters() if "place" in name
    ]
    assert gradients and all(
        gradient is not None and gradient.isfinite().all() for gradient in gradients
    )


def test_an_unanswerable_question_trains_psi_to_find_nothing(tiny_lm: Any, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    step, plain = make_step(lm, training_params(tmp_path))
    extra = TrainingQuestion(lm.tokenize(" Why?"), [], 0, [])
    with_extra = step(**plain | {"questions": [*plain["questions"], extra]})["logs"]
    without = step(**plain)["logs"]
    torch.testing.assert_close(with_extra["matching"], without["matching"])
    torch.testing.assert_close(with_extra["answer"], without["answer"])
    assert with_extra["span"] != without["span"]
    assert with_extra["refused"] in (0.0, 1.0)
