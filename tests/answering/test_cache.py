"""The prompt cache and its file: what is generated again, and what happens to a damaged file."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmt.answering.cache import ChecksummedAnswers, PromptCache
from cmt.lm.decoding import complete
from cmt.lm.model import FrozenLM

HEAD = "Question: who?\nAnswer: Vell\n"
PROMPTS = [
    f"\nQuestion: who built {place}?\nAnswer:"
    for place in ("the lighthouse", "it", "Port Ellery", "it", "żuk")
]
OPTIONS: dict[str, Any] = {"max_new_tokens": 6, "batch_size": 2, "shared": HEAD}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "answers.sqlite"


def cache_of(path: Path, lm: Any) -> PromptCache:
    """A cache in front of an LM, or in front of a scripted one."""
    return PromptCache(path, lm, getattr(lm, "complete", None))


def test_each_prompt_is_generated_once(script: Any, path: Path) -> None:
    cache_of(path, script).complete(PROMPTS, **OPTIONS)
    assert sorted(script.prompts) == sorted({HEAD + prompt for prompt in PROMPTS})
    cache_of(path, script).complete([*PROMPTS, "\nQuestion: new?\nAnswer:"], **OPTIONS)
    assert script.prompts[4:] == [HEAD + "\nQuestion: new?\nAnswer:"]
    # the key is the whole text of head and prompt
    whole = HEAD + PROMPTS[0]
    cache_of(path, script).complete([whole[9:]], **OPTIONS | {"shared": whole[:9]})
    assert len(script.prompts) == 5


def test_a_removed_answer_is_not_in_the_bytes_of_the_file(path: Path) -> None:
    answers = ChecksummedAnswers(path)
    assert answers.remove(bool) == 0
    answers.write({f"key {number}": f"answer {number} " * 50 for number in range(50)})
    assert answers.remove(lambda answer: answer.startswith("answer 7 ")) == 1
    assert b"answer 7 " not in path.read_bytes()
    assert answers.read(["key 7", "key 8"]) == {"key 8": "answer 8 " * 50}
    path.write_bytes(b"no database" * 99)
    assert (answers.remove(bool), path.exists()) == (0, False)


def test_another_lm_head_or_length_has_its_own_answer(
    lm: FrozenLM, other_lm: FrozenLM, path: Path
) -> None:
    cache_of(path, lm).complete(PROMPTS, **OPTIONS)
    longer = OPTIONS | {"max_new_tokens": 9}
    headless = OPTIONS | {"shared": ""}
    assert cache_of(path, other_lm).complete(PROMPTS, **OPTIONS) == complete(
        other_lm, PROMPTS, **OPTIONS
    )
    assert cache_of(path, lm).complete(PROMPTS, **longer) == complete(lm, PROMPTS, **longer)
    assert cache_of(path, lm).complete(PROMPTS, **headless) == complete(lm, PROMPTS, **headless)


def test_another_type_of_numbers_has_its_own_answer(script: Any, path: Path) -> None:
    for dtype in ("float32", "bfloat16", "float32"):
        script.model.dtype = dtype
        cache_of(path, script).complete(PROMPTS[:1], **OPTIONS)
    assert len(script.prompts) == 2


def test_answers_before_an_interruption_are_stored(script: Any, path: Path) -> None:
    prompts = [f"\nQuestion: {number}?\nAnswer:" for number in range(100)]
    calls = []

    def interrupt(advance: int) -> None:
        calls.append(advance)
        if len(calls) > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache_of(path, script).complete(prompts, on_progress=interrupt, **OPTIONS)
    script.prompts.clear()
    cache_of(path, script).complete(prompts, **OPTIONS)
    assert 0 < len(script.prompts) < 100


def change_type(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE answers SET answer = 'text'")
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database here" * 400),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(
            path.read_bytes()[:100] + b"\xff" * (path.stat().st_size - 100)
        ),
        lambda path: path.write_bytes(path.read_bytes().replace(b"nobody", b"nobo\xffy")),
        change_type,
    ],
    ids=["header", "half", "pages", "answer", "type"],
)
def test_a_damaged_file_is_deleted_with_a_warning(
    damage: Callable[[Path], object], script: Any, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = cache_of(path, script).complete(PROMPTS, **OPTIONS)
    before = path.read_bytes()
    damage(path)
    assert path.read_bytes() != before
    with caplog.at_level(logging.WARNING):
        assert cache_of(path, script).complete(PROMPTS, **OPTIONS) == answers
    assert "is damaged" in caplog.text
    caplog.clear()
    script.prompts.clear()
    assert cache_of(path, script).complete(PROMPTS, **OPTIONS) == answers
    assert not caplog.records
    assert not script.prompts


def test_an_unusable_path_is_reported_and_left_alone(
    script: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "answers.sqlite", tmp_path / "folder"):
        assert cache_of(path, script).complete(PROMPTS[:1], **OPTIONS) == ["nobody"]
    assert "cannot be used" in caplog.text
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder").is_dir()


def test_a_file_locked_by_another_process_is_left_alone(
    script: Any, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_of(path, script).complete(PROMPTS, **OPTIONS)
    before = path.read_bytes()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file: connect(file, timeout=0.01))
    holder = connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert cache_of(path, script).complete(PROMPTS[:1], **OPTIONS) == ["nobody"]
    holder.close()
    assert "locked" in caplog.text
    assert path.read_bytes() == before
