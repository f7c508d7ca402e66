"""Search keys of fewer numbers, on a tiny LM: what stays, and how near searches come."""

from pathlib import Path

import numpy as np

from cmt.modeling.checkpoint import TO_KEY, load_checkpoint
from cmt.modeling.loading import load_memory_model
from cmt.retrieval.indexer import encode_batch
from tests.helpers.projects import open_workspace
from tests.helpers.scripts import run_main


def test_short_keys_are_the_long_ones_in_their_principal_directions(
    training_project: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    arguments = ("--numbers", "4", "--params", str(training_project / "params.yaml"))
    status, stdout, stderr = run_main("shorten_keys", str(folder), *arguments)
    assert (status, stderr) == (0, "")
    workspace = open_workspace(training_project)
    model, short = (
        workspace.project.model,
        load_memory_model(folder, lm=workspace.project.lm, merged=True),
    )
    assert f"compressor {short.digest[:12]} is in {folder}" in stdout
    # 1. keys
    rows = [
        workspace.project.lm.tokenize(text)
        for text in ("The ferry costs six crowns.", "Who is the mayor?")
    ]
    long_keys, short_keys = (
        np.stack([key for key, _ in encode_batch(of, rows, with_content=False)])
        for of in (model, short)
    )
    assert (short.key_dim, short_keys.shape, model.key_dim) == (4, (2, 4), long_keys.shape[1])
    np.testing.assert_allclose(np.linalg.norm(short_keys, axis=1), 1.0, atol=1e-5)
    # 2. everything else
    source = workspace.params.compressor.path
    before, after = load_checkpoint(source).weights, load_checkpoint(folder).weights
    assert [name for name in before if not before[name].equal(after[name])] == [TO_KEY]
    # 3. a folder in use, and a length that does not fit
    assert run_main("shorten_keys", str(folder), *arguments)[0] == 2
    assert (
        run_main("shorten_keys", str(tmp_path / "new"), "--numbers", "9999", *arguments[2:])[0] == 2
    )
