"""Shorten the search keys of a compressor to the first principal directions of the keys of training
texts.

    python benchmarks/shorten_keys.py data/trained/short-keys --numbers 128

The shipped compressor was made with it. A key becomes its coordinates in the principal directions
of the keys of 2,000 documents of `train.source` and of as many questions on them, not centred,
since a search compares cosines. The memories stay as they are. A training that starts from the new
compressor keeps the length of its keys.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import cmt
from cmt.cli.context import run_script
from cmt.errors import ConfigError
from cmt.evaluation.sampling import sample_by_position, sample_on_documents
from cmt.modeling.checkpoint import TO_KEY, load_checkpoint, save_checkpoint
from cmt.retrieval.indexer import encode_batch
from cmt.training.data import load_base_data

TEXTS = 2_000  # documents, and questions on them
BATCH = 32  # texts


def main(
    folder: Annotated[Path, typer.Argument(help="New folder of the compressor with short keys.")],
    numbers: Annotated[int, typer.Option(min=1, help="Numbers of a search key.")] = 128,
    params: Path = Path("params.yaml"),
) -> None:
    """Write the compressor in use with shorter search keys to FOLDER."""
    # 1. the keys of the texts
    workspace = cmt.open(params=params)
    source, seed, model = (
        workspace.params.compressor.path,
        workspace.params.seed,
        workspace.project.model,
    )
    data = load_base_data(workspace.params)
    documents = sample_by_position(data.seen, limit=TEXTS, seed=seed)
    questions = sample_on_documents(data.questions, documents, limit=TEXTS, seed=seed)
    texts = [*documents["text"].to_pylist(), *questions["question"].to_pylist()]
    if folder.exists() or numbers >= model.key_dim or numbers > len(texts):
        raise ConfigError(
            f"name a new folder, and fewer numbers than {model.key_dim} and than {len(texts):,} texts, not {numbers}"
        )
    rows = sorted(
        (model.lm.tokenize(text)[: model.config.compressor.chunk_tokens] for text in texts), key=len
    )
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    keys = np.stack(
        [key for batch in batches for key, _ in encode_batch(model, batch, with_content=False)]
    )  # (n, p)
    # 2. their principal directions
    directions = np.linalg.svd(keys.astype(np.float64), full_matrices=False)[2][
        :numbers
    ]  # (numbers, p)
    # 3. the compressor whose map to keys ends in them, and its card, which names the slices that it
    #    was trained on
    checkpoint = load_checkpoint(source)
    to_key = checkpoint.weights[TO_KEY]  # (p, D)
    short = (torch.from_numpy(directions) @ to_key.double()).to(to_key.dtype)  # (numbers, D)
    shutil.copytree(source, folder)
    config = replace(checkpoint.config, key_dim=numbers)
    weights = checkpoint.weights | {TO_KEY: short}
    name = save_checkpoint(folder, checkpoint._replace(config=config, weights=weights))[:12]
    if (source / "card.md").exists():
        _, _, rest = (source / "card.md").read_text(encoding="utf-8").partition("\n")
        note = f"Its search keys have {numbers} of {model.key_dim} numbers; the scores below are with all."
        (folder / "card.md").write_text(f"# Compressor {name}\n\n{note}\n{rest}", encoding="utf-8")
    typer.echo(f"compressor {name} is in {folder}; set compressor.path to use it")


if __name__ == "__main__":
    run_script(main)
