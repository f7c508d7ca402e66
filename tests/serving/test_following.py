"""A server follows the bank's pointer to another compressor: without a restart, a failure, or
answers of both.
"""

from pathlib import Path
from threading import Thread

import httpx

from cmt.rounds.recompression import recompress
from tests.helpers.http import MAYOR
from tests.helpers.projects import name_champion, open_workspace
from tests.helpers.servers import serving

QUESTIONS = 20


def test_answers_come_from_one_compressor_and_then_from_the_other(adapted_workspace: Path) -> None:
    name_champion(adapted_workspace)
    workspace = open_workspace(adapted_workspace)
    old, answers = workspace.project.compressor_digest[:12], list[str]()

    def ask(address: str) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            for number in range(10_000):
                response = client.post("/ask", json={"question": f"{MAYOR} {number}"})
                answers.append(response.raise_for_status().json()["compressor"])
                if len(answers) >= QUESTIONS and answers[-1] != old:
                    return

    with serving(adapted_workspace) as address:
        asking = Thread(target=ask, args=(address,))
        asking.start()
        recompress(workspace.project, sleep=lambda _: None)
        asking.join(120)
        health = httpx.get(f"{address}/health", timeout=60).json()
    new = open_workspace(adapted_workspace).project.compressor_digest
    index = answers.index(new[:12])
    assert set(answers[:index]) == {old}
    assert set(answers[index:]) == {new[:12]}
    assert health["compressor"] == new
