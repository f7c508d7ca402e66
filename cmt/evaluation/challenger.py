"""A challenger compared with the compressor in use: the same questions, the same documents, each
with a bank of its own.

Two sets of questions decide (`cmt.evaluation.challenger_decision`). The questions of a slice that
neither compressor was trained on show what was learned, by the prequential protocol (Dawid 1984,
Statistical theory: the prequential approach). The questions on the held-out articles of the base
data show what was unlearned.
"""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.common.arrow import rows_without
from cmt.common.progress import NullProgress, Progress
from cmt.errors import NotFoundError
from cmt.evaluation.challenger_decision import Figures, Measured
from cmt.evaluation.evaluate import evaluate
from cmt.evaluation.held_out import held_out_scores
from cmt.evaluation.metrics import paired_bootstrap
from cmt.evaluation.sampling import sample_by_hash
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.modeling.checkpoint import seen_slices
from cmt.project import Project
from cmt.stream.schema import DOCUMENT_SCHEMA
from cmt.stream.store import SliceStore
from cmt.training.data import load_base_data

_TIMED = 12  # questions that are asked singly to time the first token


def compare_with_challenger(
    project: Project,
    challenger: Path,
    *,
    slice_id: str | None = None,
    progress: Progress | None = None,
) -> Figures:
    """Measure the compressor in the folder `challenger`, and the compressor in use.

    `slice_id`: the slice that decides; by default `deciding_slice`. Both answer at most
    `promotion.questions` of its questions from the newest `promotion.documents` documents up to it,
    and at most the same number on the held-out articles of the base data. Raises NotFoundError if
    no slice can decide, StreamError if the base data are not installed, and ModelError if a
    compressor cannot be loaded.
    """
    progress = progress or NullProgress()
    params, folders = project.params, (challenger, project.params.compressor.path)
    # 1. The questions and documents.
    chosen = deciding_slice(project.store, folders, wanted=slice_id)
    questions = questions_of(project, chosen)
    documents = _documents_up_to(project.store, chosen, limit=params.promotion.documents)
    base = load_base_data(params)
    # 2. Both compressors.
    measured, f1_of_slice, f1_of_base = [], [], []
    base_documents: list[str] = []  # of each held-out question
    for folder in folders:
        progress.stage("compress", documents.num_rows)
        bank = TemporaryBank.of(
            folder,
            lm=project.lm,
            documents=documents,
            params=params,
            state=project.state,
            as_in_use=True,
            on_progress=lambda n, _: progress.advance(n),
        )
        progress.stage("evaluate", len(questions))
        with bank.answerer() as answerer:
            evaluation = evaluate(answerer, questions, on_progress=progress.advance)
            f1_of_slice.append(100 * evaluation.records["cmt_f1"].to_numpy())
            seconds = _first_token(answerer, questions)
        progress.stage("held-out")
        limit = params.promotion.questions
        evaluation = held_out_scores(
            folder=folder,
            lm=project.lm,
            data=base,
            params=params,
            limit=limit,
            state=project.state,
            as_in_use=True,
        )
        f1_of_base.append(100 * evaluation.records["cmt_f1"].to_numpy())
        base_documents = evaluation.records["doc_id"].to_pylist()
        without_text = [name for name in bank.rows.column_names if name != "text"]
        bytes_ = float(bank.rows.select(without_text).nbytes / len(documents))
        measured.append(
            Measured(float(f1_of_slice[-1].mean()), float(f1_of_base[-1].mean()), seconds, bytes_)
        )
    # 3. The differences, with their intervals.
    challenger_f1, champion_f1 = f1_of_slice
    gain = paired_bootstrap(
        challenger_f1, champion_f1, questions["doc_id"].to_pylist(), seed=params.seed
    )
    challenger_f1, champion_f1 = f1_of_base
    base_gain = paired_bootstrap(challenger_f1, champion_f1, base_documents, seed=params.seed)
    return Figures(
        slice_id=chosen,
        questions=len(questions),
        base_questions=len(f1_of_base[0]),
        challenger=measured[0],
        champion=measured[1],
        gain=gain,
        base_gain=base_gain,
    )


def deciding_slice(
    store: SliceStore, folders: tuple[Path, ...], *, wanted: str | None = None
) -> str:
    """The newest slice with questions after the last training slice of the compressors in
    `folders`, or `wanted`.

    The compressors' cards name their training slices. Raises NotFoundError if no slice is left, or
    if `wanted` is unsuitable.
    """
    slices = store.slices()
    place = {slice_.slice_id: number for number, slice_ in enumerate(slices)}
    last_seen = max(
        (place.get(name, -1) for folder in folders for name in seen_slices(folder)), default=-1
    )
    unseen = [slice_.slice_id for slice_ in slices[last_seen + 1 :] if slice_.n_questions]
    after = (
        f" after {slices[last_seen].slice_id}, on which one of the compressors was trained"
        if last_seen >= 0
        else ""
    )
    if not unseen:
        raise NotFoundError(
            f"no slice with questions{after}: ingest documents with questions, then compare"
        )
    if wanted not in (None, *unseen):
        raise NotFoundError(
            f"slice {wanted!r} cannot decide: choose one with questions{after}: {', '.join(unseen)}"
        )
    return wanted or unseen[-1]


def questions_of(project: Project, slice_id: str) -> pa.Table:
    """At most `promotion.questions` questions of a slice, drawn by hash with the seed."""
    params, store = project.params, project.store
    columns = ("question_id", "question")
    questions = store.questions(store.slice(slice_id))
    return sample_by_hash(
        questions, limit=params.promotion.questions, seed=params.seed, columns=columns
    )


def _documents_up_to(store: SliceStore, slice_id: str, *, limit: int) -> pa.Table:
    """The newest `limit` documents (DOCUMENT_SCHEMA) up to a slice, of each its latest version;
    none forgotten.
    """
    slices, forgotten = store.slices(), store.forgotten()
    upto = [slice_.slice_id for slice_ in slices].index(slice_id)
    tables, ids = [DOCUMENT_SCHEMA.empty_table()], set[str]()
    for slice_ in reversed(slices[: upto + 1]):
        if len(ids) >= limit:
            break
        tables.insert(1, rows_without(store.documents(slice_), "doc_id", {*forgotten, *ids}))
        ids |= set(tables[1]["doc_id"].to_pylist())
    documents = pa.concat_tables(tables)
    return documents.slice(max(0, len(documents) - limit))


def _first_token(answerer: Answerer, questions: pa.Table) -> float:
    """Median seconds to the first token of an answer, over the first _TIMED questions, each asked
    singly.
    """
    one_token = replace(
        answerer,
        params=answerer.params.with_values(answering={"max_new_tokens": 1, "batch_size": 1}),
    )
    seconds = []
    for row in questions.slice(0, _TIMED).to_pylist():
        started = time.perf_counter()
        one_token.answer([row["question"]], as_of=[row["asked_at"]])
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:] or seconds)  # the first question warms up
