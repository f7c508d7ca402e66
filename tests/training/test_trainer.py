"""Training: it learns, goes on after a kill as if nothing had happened, and leaves the LM as it was."""

import os
import shutil
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from cmt.config import Params
from cmt.errors import ModelError, StreamError
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import WEIGHTS, CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.training.checkpoints import last_checkpoint
from cmt.training.data import hold_out
from cmt.training.dataset import Paragraph, StepDataset, paragraphs
from cmt.training.step import TrainingStep
from cmt.training.trainer import train
from tests.helpers.facts import documents, questions
from tests.helpers.lms import build

ROOT = Path(__file__).parents[2]
PLACES = ["Saltby", "Port Ellery", "the harbour", "Lindow", "the mere", "Dunmarrow", "the pier", "Corvale"]
PRICES = ["six crowns", "two crowns", "a crown", "ten crowns", "nothing", "a fish", "one song", "five crowns"]
FARES = [
    {
        "doc_id": f"fare-{number}",
        "title": "Fares in the east" if number < 5 else "Fares in the west",
        "text": f"Ask the mayor. The ferry to {place} costs {price} a trip.",
        "question": f"What does the ferry to {place} cost?",
        "answer": price,
    }
    for number, (place, price) in enumerate(zip(PLACES, PRICES, strict=True))
]
SMALL: dict[str, dict[str, Any]] = {
    "lm": {"dtype": "float32"},
    "compressor": {"layers": 2, "lora_rank": 2, "memory_tokens": 3},
    "aggregator": {"blocks": 2, "lora_rank": 2, "heads": 2},
    "alignment": {"slots": 3},
    "train": {
        "questions": 16,
        "paragraphs": 4,
        "questions_per_paragraph": 1,
        "answered": 1.0,
        "learning_rate": 0.01,
        "warmup_steps": 0,
        "save_steps": 2,
    },
}
PUBLISHED: dict[str, dict[str, Any]] = {"aggregator": {"kind": "attention"}, "alignment": {"kind": "prefix"}}


class Recorder(TrainerCallback):
    """Hears every loss, counts the passes through Θ's first attention, and may end it all at a step."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.losses, self.passes = kill_at, list[float](), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: TrainingStep, **_: Any) -> None:
        model.register_forward_hook(lambda *call: self.losses.append(call[2]["loss"].item()))
        encoder: Any = model.model.compressor.encoder
        encoder.layers[0].self_attn.register_forward_pre_hook(lambda *_: self.count())

    def count(self) -> None:
        self.passes += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def params(folder: Path, *, seed: int = 0, **sections: dict[str, Any]) -> Params:
    merged = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL.keys() | sections.keys()}
    merged["train"] = merged["train"] | {"output": folder}
    return Params.model_validate(merged | {"seed": seed})


def run(folder: Path, *, lm: FrozenLM | None = None, kill_at: int | None = None, **sections: Any) -> Recorder:
    recorder = Recorder(kill_at)
    train(
        lm=lm or build("llama"),
        documents=documents(FARES),
        questions=questions(FARES),
        params=params(folder, **sections),
        callbacks=[recorder],
    )
    return recorder


def weights(folder: Path, step: int = 4) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(folder / "checkpoints" / f"checkpoint-{step}" / WEIGHTS)
    return loaded


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A training of four steps with two checkpoints, and its losses."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder).losses


@pytest.fixture
def own(whole: tuple[Path, list[float]], tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(whole[0], tmp_path / "own"))


@pytest.mark.parametrize(
    "sections",
    [{}, PUBLISHED, PUBLISHED | {"compressor": {"kind": "tokens"}}],
    ids=["windows", "published", "published tokens"],
)
def test_a_few_steps_learn_something_and_leave_the_lm_as_it_was(tmp_path: Path, sections: dict[str, Any]) -> None:
    lm = build("llama")
    losses = run(tmp_path, lm=lm, train={"questions": 160, "save_steps": 1000}, **sections).losses
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert lm.weights_digest() == lm.digest
    made = MemoryModel.load(tmp_path, lm=lm)
    untrained = MemoryModel(lm, made.config).trained_tensors()
    assert all(torch.isfinite(tensor).all() for tensor in made.trained_tensors().values())
    assert [name for name, tensor in made.trained_tensors().items() if torch.equal(tensor, untrained[name])] == []


def test_a_killed_training_goes_on_as_if_nothing_had_happened(whole: tuple[Path, list[float]], tmp_path: Path) -> None:
    code = "import sys, pathlib, tests.test_training as t; t.run(pathlib.Path(sys.argv[1]), kill_at=3)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in tmp_path.glob("**/checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / WEIGHTS).exists()
    rest = run(tmp_path).losses
    assert rest == pytest.approx(whole[1][2:], rel=1e-5)
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-7)
    assert not torch.equal(ours["log_temperature"], weights(tmp_path, 2)["log_temperature"])


def test_the_same_run_gives_the_same_weights(whole: tuple[Path, list[float]], tmp_path: Path) -> None:
    assert run(tmp_path).losses == whole[1]
    assert (tmp_path / WEIGHTS).read_bytes() == (whole[0] / WEIGHTS).read_bytes()


def test_a_finished_training_has_nothing_left_to_do(own: Path) -> None:
    before = (own / WEIGHTS).read_bytes()
    assert run(own).losses == []
    assert (own / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize(
    "sections", [{"seed": 1}, {"train": {"learning_rate": 0.02}}, {"compressor": {"lora_rank": 3}}], ids=str
)
def test_checkpoints_of_another_run_are_not_gone_on_from(
    own: Path, caplog: pytest.LogCaptureFixture, sections: dict[str, Any]
) -> None:
    assert len(run(own, **sections).losses) == 4
    assert "are of another run (data or parameters changed): starting anew" in caplog.text


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", [WEIGHTS, "optimizer.pt", "scheduler.pt", "trainer_state.json"])
@pytest.mark.parametrize("damage", [Path.unlink, cut], ids=["missing", "cut in half"])
def test_an_incomplete_checkpoint_is_passed_over(
    own: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Any
) -> None:
    checkpoints = own / "checkpoints"
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-4")
    damage(checkpoints / "checkpoint-4" / name)
    assert last_checkpoint(checkpoints) == str(checkpoints / "checkpoint-2")
    assert "checkpoint-4 is incomplete: going on from the one before" in caplog.text
    damage(checkpoints / "checkpoint-2" / name)
    assert last_checkpoint(checkpoints) is None
    assert last_checkpoint(own / "nowhere") is None


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    whole: tuple[Path, list[float]], own: Path
) -> None:
    cut(own / "checkpoints/checkpoint-4" / WEIGHTS)
    assert run(own).losses == pytest.approx(whole[1][2:], rel=1e-5)
    torch.testing.assert_close(weights(own), weights(whole[0]), rtol=1e-5, atol=1e-7)


def test_gradient_checkpointing_trades_time_and_changes_nothing(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    thrifty = run(tmp_path / "thrifty", train={"gradient_checkpointing": True})
    assert thrifty.losses == pytest.approx(plain.losses, rel=1e-4)
    assert thrifty.passes == 2 * plain.passes


def test_the_log_has_every_part_of_the_loss(tmp_path: Path) -> None:
    run(tmp_path, train={"questions": 24})
    logged = (tmp_path / "log.json").read_text()
    assert all(f'"{name}"' in logged for name in ("loss", "matching", "span", "answer", "recall_at_1", "matmul_share"))


def test_training_goes_on_from_a_compressor(tmp_path: Path) -> None:
    run(tmp_path / "first")
    still = {"learning_rate": 1e-9}
    run(tmp_path / "second", train=still | {"start": tmp_path / "first"})
    first, second = (load_file(tmp_path / name / WEIGHTS) for name in ("first", "second"))
    torch.testing.assert_close(second, first, rtol=1e-2, atol=1e-6)
    with pytest.raises(ModelError, match="no compressor"):
        run(tmp_path / "third", train={"start": tmp_path / "nowhere"})


def test_what_goes_on_from_a_compressor_ends_as_the_mean_of_both(tmp_path: Path) -> None:
    run(tmp_path / "first")
    made = {}
    for kept in (0.0, 0.5, 1.0):
        run(tmp_path / "second", train={"start": tmp_path / "first", "kept": kept})  # trained once
        made[kept] = load_file(tmp_path / "second" / WEIGHTS)
    first = load_file(tmp_path / "first" / WEIGHTS)
    assert all(torch.equal(made[1.0][name], tensor) for name, tensor in first.items())
    assert any(not torch.equal(made[0.0][name], tensor) for name, tensor in first.items())
    for name, tensor in made[0.5].items():
        torch.testing.assert_close(tensor.float(), (made[0.0][name] + first[name].float()) / 2, rtol=1e-2, atol=1e-3)


def test_a_memory_without_its_objective_still_trains(tmp_path: Path) -> None:
    nothing = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "spread": 0.0}
    losses = run(tmp_path, objective=nothing).losses
    assert len(losses) == 4
    assert all(0 < loss < 20 for loss in losses)


# what is trained on


def pool(lm: FrozenLM, rows: list[dict[str, Any]], *, longest: int = 256) -> list[Paragraph]:
    return paragraphs(documents(rows), questions(rows), lm=lm, longest=longest)


def test_a_paragraph_knows_where_its_answers_stand(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    made = pool(lm, FARES)
    assert [paragraph.article for paragraph in made] == [row["title"] for row in FARES]
    for paragraph, row in zip(made, FARES, strict=True):
        ((question, answer, ((first, last),)),) = paragraph.questions
        assert lm.decode(question) == row["question"]
        assert answer[-1] == lm.eos
        assert lm.decode(answer) == row["answer"]
        assert lm.decode(paragraph.text[first:]).startswith(row["answer"])
        assert lm.decode(paragraph.text[: last + 1]).endswith(row["answer"])
        assert lm.decode(paragraph.title) == row["title"]


def test_an_answer_stands_wherever_it_is_a_word_of_its_own(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    row = FARES[0] | {"text": "Crowns and crown and crown, not crownless.", "answer": "crown"}
    ((_, _, places),) = pool(lm, [row])[0].questions
    text = lm.tokenize(row["text"])
    assert [lm.decode(text[:first]) for first, _ in places] == ["Crowns and", "Crowns and crown and"]
    ((_, _, places),) = pool(lm, [row | {"answer": "rownless"}])[0].questions  # no word anywhere: part of one
    assert len(places) == 1


def test_what_cannot_be_learned_is_left_out(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    long = "one song and another and a third and a fourth"
    rows = [
        FARES[0],
        FARES[1] | {"answer": "free of charge"},  # not in the text
        FARES[2] | {"text": "Ask the mayor. " * 40 + FARES[2]["text"]},  # beyond the tokens that are read
        FARES[3] | {"text": f"It costs {long}.", "answer": long},  # longer than an answer may be
    ]
    assert [paragraph.text for paragraph in pool(lm, rows)] == [lm.tokenize(FARES[0]["text"])]
    unasked = paragraphs(documents(FARES), questions(FARES[:2]), lm=lm, longest=256)
    assert len(unasked) == 2


def test_without_anything_to_learn_there_is_no_training(tmp_path: Path) -> None:
    rows = [row | {"answer": "free of charge"} for row in FARES]
    with pytest.raises(StreamError, match="no question has its answer verbatim in its document: nothing to train on"):
        train(
            lm=build("llama"), documents=documents(rows), questions=questions(rows), params=params(tmp_path / "trained")
        )
    assert not (tmp_path / "trained").exists()


def test_the_gold_tokens_are_the_answer_s(tiny_lm: Any, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    steps, titled = StepDataset(pool(lm, FARES), params(tmp_path)), []
    assert len(steps) == 4
    for step, members in ((steps[index], steps.steps[index]) for index in range(4)):
        texts = [steps.pool[member] for member in members]
        titled += [ids == item.title + item.text for ids, item in zip(step["documents"], texts, strict=True)]
        assert sorted(row for _, _, row, _ in step["asked"]) == [0, 1, 2, 3]
        for _, answer, row, ((first, last),) in step["asked"]:
            tokens, said = step["documents"][row], lm.decode(answer)
            assert lm.decode(tokens[first:]).startswith(said)
            assert lm.decode(tokens[: last + 1]).endswith(said)
    assert set(titled) == {True, False}  # half of them without their title


def test_steps_are_the_same_whenever_they_are_asked_for(tiny_lm: Any, tmp_path: Path) -> None:
    lm, how = tiny_lm("llama"), params(tmp_path)
    steps, twin = (StepDataset(pool(lm, FARES), how) for _ in range(2))
    assert [twin[index] for index in (3, 1, 0, 2)] == [steps[index] for index in (3, 1, 0, 2)]
    other = StepDataset(pool(lm, FARES), how.model_copy(update={"seed": 1}))
    assert [other[index] for index in range(4)] != [steps[index] for index in range(4)]


def test_every_paragraph_is_seen_before_one_is_seen_again(tiny_lm: Any, tmp_path: Path) -> None:
    steps = StepDataset(pool(tiny_lm("llama"), FARES), params(tmp_path, train={"questions": 24}))
    assert [sorted(a + b) for a, b in zip(steps.steps[::2], steps.steps[1::2], strict=True)] == [list(range(8))] * 3


def test_paragraphs_of_an_article_go_together(tiny_lm: Any, tmp_path: Path) -> None:
    steps = StepDataset(pool(tiny_lm("llama"), FARES[:4] + FARES[5:]), params(tmp_path))
    articles = [steps.pool[member].article for member in steps.steps[0] + steps.steps[1]]
    assert len(list(groupby(articles))) == 2  # as each other's hard negatives


def test_the_right_window_is_forced_less_and_less(tiny_lm: Any, tmp_path: Path) -> None:
    steps = StepDataset(pool(tiny_lm("llama"), FARES), params(tmp_path))
    forced = [steps[index]["forced"] for index in range(4)]
    assert forced[0] == 1.0
    assert forced == sorted(forced, reverse=True)
    assert forced[-1] == pytest.approx(0.4)


def test_negatives_are_the_most_similar_others(tiny_lm: Any, tmp_path: Path) -> None:
    how = params(tmp_path)
    lesson = TrainingStep(MemoryModel(tiny_lm("llama"), CompressorConfig.of(how)), how)
    similarity, absent = torch.tensor([[0.1, 0.9, 0.5, 0.7, 0.3]]).expand(200, -1), torch.arange(200) >= 180
    chosen = lesson._candidates(similarity, torch.full((200,), 1), 0.5, absent)
    assert chosen[~absent, 0].eq(1).all()
    alone = chosen[:, 1].eq(-1)
    assert 60 < alone.sum() < 120  # every second one
    assert chosen[~absent & ~alone].tolist() == [[1, 3]] * int((~absent & ~alone).sum())
    assert chosen[absent].tolist() == [[-1, 3]] * 20  # the right one is not there, so the reader has to find nothing


def test_a_prefix_alone_learns_from_whole_texts(tmp_path: Path) -> None:
    how: dict[str, Any] = {"aggregator": {"kind": "none"}, "objective": {"alpha": 0.0}}
    losses = run(tmp_path, **how, train={"questions": 160, "learning_rate": 0.05}).losses
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    saved = load_file(tmp_path / WEIGHTS)
    assert not any(name.startswith("aggregator") for name in saved)
    assert saved["alignment.slots"].any()


def test_the_right_text_stands_at_any_place(tiny_lm: Any, tmp_path: Path) -> None:
    how = params(tmp_path, aggregator={"kind": "none"})
    lesson, prompts = TrainingStep(MemoryModel(tiny_lm("llama"), CompressorConfig.of(how)), how), []
    lesson.model.prompts.text_prompt = lambda question, runs, texts, *rest, **how: prompts.append(texts)  # type: ignore[assignment]
    asked = [([5], [6], 0, (0, 0))] * 20
    for draw in range(5):
        chosen = torch.tensor([[0, 1]] * 20).roll(draw, 0)
        lesson._whole(None, asked, [[7, draw], [8]], chosen)  # type: ignore[arg-type]
    assert {text[0][0] for row in prompts for text in row} == {7, 8}
    assert all(sorted(map(len, text)) == [1, 2] for row in prompts for text in row)


def with_titles(titles: list[str | None]) -> pa.Table:
    return documents([{"doc_id": f"d{n}", "title": title, "text": "Text."} for n, title in enumerate(titles)])


def test_whole_articles_are_held_out() -> None:
    table = with_titles(["a", "a", "b", "c", "c", None, None, "d"])
    rest, held = hold_out(table, articles=2)
    assert sorted(rest["doc_id"].to_pylist() + held["doc_id"].to_pylist()) == table["doc_id"].to_pylist()
    names = [{row["title"] or row["doc_id"] for row in part.to_pylist()} for part in (rest, held)]
    assert not names[0] & names[1]
    assert len(names[1]) == 2
    assert hold_out(table, articles=2) == (rest, held)


def test_at_most_half_is_held_out() -> None:
    rest, held = hold_out(with_titles(["a", "b", "c"]), articles=20)
    assert (rest.num_rows, held.num_rows) == (2, 1)
