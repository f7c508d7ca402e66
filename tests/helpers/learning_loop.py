"""A training, its registration, promotion and recompression on a tiny project, as one process that can be killed."""

import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cmt
from cmt.evaluation.held_out import held_out_name
from cmt.rounds import promotion
from cmt.rounds.recompression import recompress
from cmt.tracking.promotion import Decision
from cmt.tracking.registry import Registry

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["cmt.lm.model", "cmt.modeling.model", "cmt.training.trainer", "mlflow"]
)  # not lancedb, which does not survive a fork
STEPS = ("train", "register", "promote", "recompress")


def write_lamps(project: Path, people: Sequence[str]) -> Mapping[str, Any]:
    """Install an article a person as training data; returns the section `train` for it."""
    articles = []
    for place, name in enumerate(people):
        context = f"The keeper of lamp {place} is {name}."
        answers = [{"text": name, "answer_start": context.index(name)}]
        question = {"id": name, "question": f"Who keeps lamp {place}?", "answers": answers}
        articles.append({"title": f"Lamp {place}", "paragraphs": [{"context": context, "qas": [question]}]})
    data = project / "data/train"
    data.mkdir(parents=True)
    (data / "lamps.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    sizes = {"questions": 8, "paragraphs": 2, "validation_articles": 2, "bf16": False, "save_steps": 1}
    return {"source": "path:lamps.json", **sizes}


def learn(params: Path, writer: Connection) -> None:
    """Train, register, promote and recompress, each as often as it takes; a step sends its name when it begins.

    The promotion is decided for the challenger: the answers of a random LM show nothing.
    """
    os.setsid()
    logging.basicConfig(stream=(params.parent / "log").open("a"), level=logging.INFO, force=True)
    promotion.decide = lambda *_: Decision(True, "the test says so")
    workspace = cmt.open(params=params)
    writer.send("train")
    folder, scores = workspace.train(questions=2)
    writer.send("register")
    registry = Registry(workspace.params.tracking, workspace.root)
    held_out = held_out_name(workspace.params, questions=2)
    f1 = {"f1": scores.scores.f1}
    registry.add(folder, project=params, params=workspace.params, scores=f1, held_out=held_out)
    writer.send("promote")
    promotion.promote_version(workspace)
    writer.send("recompress")
    recompress(workspace, sleep=lambda _: None)
    writer.send("end")


def run(params: Path, *, kill: tuple[str, float] | None = None) -> dict[str, float]:
    """`learn` in a process of its own, killed some seconds after the beginning of a step; seconds of each step."""
    reader, writer = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=learn, args=(params, writer))
    process.start()
    writer.close()
    began: dict[str, float] = {}
    while process.is_alive() or reader.poll():
        if kill and kill[0] in began and time.monotonic() - began[kill[0]] >= kill[1]:
            os.kill(process.pid or 0, signal.SIGKILL)
            break
        try:
            if reader.poll(0.005):
                began[reader.recv()] = time.monotonic()
        except EOFError:
            break
    process.join()
    if kill is None and process.exitcode:
        raise AssertionError(f"the loop failed: {(params.parent / 'log').read_text()[-4000:]}")
    times = [*began.values()]
    return {name: after - before for name, before, after in zip(began, times, times[1:], strict=False)}
