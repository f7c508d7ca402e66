"""The comparison with llama.cpp, which is no dependency: what it needs, and the prompts that it
gets.
"""

from pathlib import Path

import pytest

from cmt.evaluation.temporary_bank import TemporaryBank
from tests.helpers.projects import open_workspace
from tests.helpers.scripts import load_script, run_main


def test_without_llama_cpp_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    status, stdout, stderr = run_main("rag_llama_cpp", "model.gguf")
    assert (status, stdout) == (2, "")
    assert "pip install xllamacpp" in stderr


def test_the_prompts_are_those_of_our_rag(adapted_project: Path) -> None:
    script, opened = load_script("rag_llama_cpp"), open_workspace(adapted_project)
    sample = script.Sample.draw(adapted_project / "news", documents=10, questions=2, seed=0)
    bank = TemporaryBank.of(
        opened.params.compressor.path,
        lm=opened.project.lm,
        documents=sample.documents,
        params=opened.params,
    )
    with bank.answerer() as answerer:
        prompts = script.prompts_of(script.data_of(bank, answerer, sample), 1)
    for prompt, question in zip(prompts, sample.questions["question"].to_pylist(), strict=True):
        assert prompt.startswith("Text: Tarrock beetles") and prompt.endswith(
            f"Question: {question}\nAnswer:"
        )
