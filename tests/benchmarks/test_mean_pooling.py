"""The baseline of mean pooling with distillation as a command, on a tiny LM and a few steps of training."""

import json
from pathlib import Path

import torch

import cmt
from cmt.modeling.model import MemoryModel
from tests.helpers.scripts import load_script, run_main


def test_the_encoder_is_trained_once_and_asked_at_each_window(training_project: Path, tmp_path: Path) -> None:
    params, output = training_project / "params.yaml", tmp_path / "encoder.safetensors"
    teacher = cmt.open(params=params).params.compressor.path
    command = ["mean_pooling", "--json", "--pairs", "8", "--questions", "3", "--output", str(output)]
    command += ["--data", str(training_project / "pairs.json"), "--params", str(params), "--rag-trained", str(teacher)]
    status, stdout, stderr = run_main(*command)
    assert status == 0, stderr
    result = json.loads(stdout)
    names = ["teacher: the text", "mean pooling, n/4", "mean pooling, n/8", "mean pooling, n/16"]
    assert (result["pairs"], result["questions"], [row["row"] for row in result["rows"]]) == (8, 3, names)
    # the encoder that is there is asked again, with the same answers
    written = output.stat().st_mtime_ns
    status, stdout, _ = run_main(*command)
    assert (status, json.loads(stdout)) == (0, result)
    assert output.stat().st_mtime_ns == written


def test_untrained_vectors_of_one_token_each_are_read_as_the_text_is(training_project: Path) -> None:
    script, workspace = load_script("mean_pooling"), cmt.open(params=training_project / "params.yaml")
    lm = workspace.lm
    reader = script.Reader(MemoryModel.load(workspace.params.compressor.path, lm=lm, merged=True))
    pooling = script.MeanPooling(lm)
    questions = [lm.tokenize(" Who sells the tickets?"), lm.tokenize(" When?")]
    texts = [lm.tokenize("The harbour office sells them."), lm.tokenize("The ferry leaves at seven in the morning.")]
    answers = [[*lm.tokenize(" the harbour office"), lm.eos], [*lm.tokenize(" at seven"), lm.eos]]
    with torch.no_grad(), reader.teacher.autocast():
        of_texts = reader.answer_logits(reader.of_texts(questions, texts, answers), answers)
        of_vectors = reader.answer_logits(reader.of_vectors(questions, pooling(texts, 1), answers), answers)
        windows = pooling(texts, 4)
        wide = reader.answer_logits(reader.of_vectors(questions, windows, answers), answers)
    torch.testing.assert_close(of_vectors, of_texts, atol=0.01, rtol=0)  # bfloat16, other padding
    assert (wide - of_texts).abs().max() > 0.03
    assert [len(part) for part in windows] == [-(-len(text) // 4) for text in texts]
