"""SIGKILL at seeded moments of a training, its registration, its promotion and the recompression on a tiny project.

    python -m tests.integration.kill_loop PROJECT --kills 30

PROJECT is a project that has adapted its slices and has training data and an MLflow. Each kill hits a copy of it, in
which the loop is run again and has to end as an undisturbed one. The processes are forked from a server that has
imported torch and MLflow and has run nothing.
"""

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import cmt
from cmt.evaluation.challenger_decision import Decision
from cmt.evaluation.held_out import held_out_name
from cmt.modeling.champion import read_champion
from cmt.modeling.checkpoint import checkpoint_digest
from cmt.rounds import promotion
from cmt.rounds.recompression import recompress
from cmt.tracking.registry import CHAMPION, Registry
from tests.soak.project import content, opened, problems

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["cmt.lm.model", "cmt.modeling.model", "cmt.training.trainer", "mlflow"]
)  # not lancedb, which does not survive a fork
STEPS = ("train", "register", "promote", "recompress")


def learn(params: Path, writer: Connection) -> None:
    """Train, register, promote and recompress, each as often as it takes; a step sends its name when it begins.

    The promotion is decided for the challenger: the answers of a random LM show nothing.
    """
    os.setsid()
    logging.basicConfig(stream=(params.parent / "log").open("a"), level=logging.INFO, force=True)
    promotion.decide = lambda *_: Decision(True, "the test says so")  # type: ignore[attr-defined]
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


def check(original: Path, folder: Path, *, kills: int) -> None:
    """Kill the loop once in each of `kills` copies of the project `original`, run it again, and compare."""
    # 1. undisturbed
    whole = Path(shutil.copytree(original, folder / "whole"))
    seconds = run(whole / "params.yaml")
    assert list(seconds) == list(STEPS)
    expected, trained = content(whole), checkpoint_digest(opened(whole).params.train.output)
    assert expected.answering != content(original).answering
    # 2. killed once at each moment, and run again
    source = random.Random(0)
    for number in range(kills):
        project = Path(shutil.copytree(original, folder / f"killed-{number}"))
        step = STEPS[number % len(STEPS)]
        moment = source.random() * seconds[step]
        run(project / "params.yaml", kill=(step, moment))
        place = f"{moment:.2f} s into {step}"
        # a whole table answers: the one before, or the champion's
        assert content(project).answering in (content(original).answering, expected.answering), place
        # a table in the making may lack its index, which the next start makes
        assert [problem for problem in problems(project) if "cmt bank optimize" not in problem] == [], place
        checkpoints = list((project / "data/trained/checkpoints").glob("checkpoint-*/trainer_state.json"))
        run(project / "params.yaml")
        assert not checkpoints or "continuing the training from" in (project / "log").read_text(), place
        assert content(project) == expected, place
        assert problems(project) == [], place
        assert checkpoint_digest(opened(project).params.train.output) == trained, place
        workspace = opened(project)
        named = read_champion(workspace.state)
        assert named, place
        registry = Registry(workspace.params.tracking, workspace.root)
        assert [(version.digest, version.aliases) for version in registry.versions()] == [
            (named.champion.digest, (CHAMPION,))
        ], place
        shutil.rmtree(project)
        print(f"killed {place}: ends as undisturbed", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        check(options.project, Path(folder), kills=options.kills)


if __name__ == "__main__":
    main()
