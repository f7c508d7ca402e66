"""Imports the modules of the commands for the fork server; runs none of them."""

import warnings

import lancedb  # noqa: F401 - its threads are started anew in each fork
import pyarrow.parquet  # noqa: F401

import cmt.answering.answerer
import cmt.bank.bank
import cmt.cli.main
import cmt.evaluation.evaluate
import cmt.lm.model
import cmt.modeling.model
import cmt.retrieval.indexer
import cmt.rounds.care.verification
import cmt.rounds.runner
import cmt.training.trainer
import cmt.workspace  # noqa: F401

warnings.filterwarnings(
    "ignore", message="lancedb fork support is experimental", category=RuntimeWarning
)
