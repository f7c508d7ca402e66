"""The workspace: the facade of a project for the CLI, the flows, the server and Python callers."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.bank.rounds import Round
from cmt.common.dates import parse_end
from cmt.common.progress import NullProgress, OnProgress, Progress
from cmt.common.scratch import remove_dead
from cmt.config import Column, Params, SourceParams, load_params
from cmt.errors import ConfigError, NotFoundError, RoundError, StreamError
from cmt.project import Project
from cmt.stream.admission.ingest import Options, ingest, source_paths
from cmt.stream.admission.report import IngestReport

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from cmt.answering.answer import Answer
    from cmt.answering.dated_values import FactHistory
    from cmt.evaluation.evaluate import Evaluation, SystemScores
    from cmt.modeling.codebook import Codebook
    from cmt.questions.follow_up import Turn
    from cmt.rounds.care.forgetting import Candidate, ForgottenDocument
    from cmt.rounds.care.verification import PartReport
    from cmt.rounds.erasure import ForgetReport
    from cmt.sources.connector import Connector, Response, Setting
    from cmt.sources.sync import SyncReport
    from cmt.training.plan import TrainingPlan

HELD_OUT_QUESTIONS = 500  # held-out questions that a trained compressor is scored on


def open(
    *, params: Path | str = "params.yaml", overrides: dict[str, Any] | None = None
) -> "Workspace":
    """Open the workspace of a project.

    `params`: path of params.yaml; relative paths in it start from its folder. `overrides`: values
    by dotted key (`{"selection.top_k": 4}`). After a promotion the compressor that answers replaces
    `compressor.path`, unless that key is overridden. Raises ConfigError if the file or a value is
    invalid.
    """
    follow = "compressor.path" not in (overrides or {})
    project = Project(load_params(params, overrides), Path(params).resolve().parent, follow=follow)
    with suppress(OSError):  # leftovers of a killed command must not stop this one
        remove_dead(project.state)
    return Workspace(project)


class Workspace:
    """The operations on a project. Open it with `cmt.open`; models and banks are loaded on first
    use.

    `project`: its parts, which may change between versions.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    @property
    def params(self) -> Params:
        """The parameters, with the path of the compressor in use."""
        return self.project.params

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, sorted by number; empty before the first."""
        return self.project.history.rounds()

    def pending(self) -> list[str]:
        """The slice_ids without a round of this compressor: the oldest first, refused ones last."""
        return self.project.history.pending()

    def pull(self, *, on_progress: Any = None) -> Path:
        """Fetch and convert the base LM; returns its folder. Raises ModelError if it cannot be
        fetched.
        """
        from cmt.lm.weights import pull

        lm = self.params.lm
        return pull(source=lm.source, sha256=lm.sha256, path=lm.path, on_progress=on_progress)

    def ingest(  # noqa: PLR0913 - the public facade
        self,
        *,
        source: Path | str | Sequence[Path | str] | None = None,
        file_format: str | None = None,
        period: str | int | None = None,
        publisher: str | None = None,
        columns: Mapping[Column, str] | None = None,
        published_at: str | None = None,
        dry_run: bool = False,
        newest: bool = False,
    ) -> IngestReport:
        """Validate source files and folders and add their new documents and questions to the stream
        as slices.

        `source`: paths or patterns such as `news/*.csv`. `columns`: column of the schema → column
        of the source, added to `stream.columns`. `published_at`: the date of rows without one.
        `newest`: the newest documents become a slice of their own, if the last one is large.
        `publisher`: decides what the documents may supersede (`stream.authority`); by default the
        column `source` with `stream.trust_source`, else the name of the file or folder. Other
        arguments default to the section `stream`. Invalid and refused rows go to the quarantine.
        Raises ConfigError for a bad `publisher`; StreamError if source or store cannot be read or
        written, or a file is above the limits.
        """
        stream = self.params.stream
        named = (
            [source]
            if isinstance(source, Path | str)
            else [stream.source]
            if source is None
            else source
        )
        if not named:
            raise StreamError("source names no file; leave it out for stream.source")
        wanted = file_format or stream.format
        return ingest(
            self.project.store,
            source_paths(named),
            file_format=None if wanted == "auto" else wanted,
            columns=columns,
            published_at=published_at,
            options=Options(
                stream.model_copy(update={"period": stream.period if period is None else period}),
                publisher=publisher,
                dry_run=dry_run,
                newest=newest,
            ),
        )

    def sync(  # noqa: PLR0913 - the public facade
        self,
        name: str,
        *,
        dry_run: bool = False,
        everything: bool = False,
        accept_vanished: bool = False,
        newest: bool = False,
        settled: Callable[[str, str | None], bool] | None = None,
        secrets: Mapping[str, str] | None = None,
        fetched: "Mapping[str, Response] | None" = None,
        progress: Progress | None = None,
    ) -> "SyncReport":
        """Bring the stream in step with the source `name` of params.yaml; see `cmt.sources.sync`.

        `dry_run`: only compare. `everything`: fetch all items, also unchanged ones.
        `accept_vanished`: go on however much vanished. `newest`: see `ingest`. `settled`: see
        `Sync`. `secrets`, `fetched`: see `open_source`. Raises what `open_source` raises;
        VanishedError if too much vanished; StreamError if the source cannot be listed.
        """
        from cmt.sources.sync import Sync

        source, connector, setting = self.open_source(name, secrets=secrets, fetched=fetched)
        return Sync(
            source,
            connector,
            store=self.project.store,
            folder=self.project.state / "sources",
            stream=self.params.stream,
            forget=self.forget_all,
            conceal=setting.conceal,
            settled=settled,
            newest=newest,
            siblings=[
                other.name
                for other in self.params.sources
                if other.name != name
                and (other.publisher or other.name) == (source.publisher or source.name)
            ],
            progress=progress or NullProgress(),
        ).run(dry_run=dry_run, everything=everything, accept_vanished=accept_vanished)

    def open_source(
        self,
        name: str,
        *,
        secrets: Mapping[str, str] | None = None,
        fetched: "Mapping[str, Response] | None" = None,
    ) -> "tuple[SourceParams, Connector, Setting]":
        """A source and its connector. `secrets`: values of `${NAME}` in addition to the
        environment. `fetched`: responses that are at hand, see `Setting`.

        Raises NotFoundError if no source has that name, and ConfigError if it cannot be opened as
        configured.
        """
        from cmt.sources.connector import Setting
        from cmt.sources.kinds import open_connector
        from cmt.stream.limits import Limits

        sources = {source.name: source for source in self.params.sources}
        if name not in sources:
            known = ", ".join(sources) or "none: add one to `sources` in params.yaml"
            raise NotFoundError(f"no source {name!r}; there are: {known}")
        columns = {**self.params.stream.columns, **sources[name].columns}
        setting = Setting(
            Limits(self.params.stream.model_copy(update={"columns": columns})),
            {**os.environ, **(secrets or {})},
            sources[name].secret_names,
            fetched or {},
        )
        return sources[name], open_connector(sources[name], setting), setting

    def train(self, *, questions: int = HELD_OUT_QUESTIONS) -> "tuple[Path, SystemScores]":
        """Train a compressor, or resume from the last checkpoint; returns its folder and its
        held-out scores.

        `questions`: number of held-out questions to score. The folder also gets a model card.
        Raises ModelError or StreamError if LM or training data are missing.
        """
        from cmt.evaluation.held_out import held_out_scores
        from cmt.modeling.checkpoint import checkpoint_digest
        from cmt.retrieval.codebook_fitting import fit_codebook, renew_codebook
        from cmt.training.data import load_training_data
        from cmt.training.model_card import write_card
        from cmt.training.processes import train_on_devices

        params, lm, folder = self.params, self.project.lm, self.params.train.output
        # 1. Load the data and hold out some articles.
        data = load_training_data(params, store=self.project.store, lm=lm)
        # 2. Train.
        train_on_devices(
            lm=lm,
            documents=data.seen,
            questions=data.all_questions,
            params=params,
            callbacks=partial(_training_callbacks, params, self.project.root),
        )
        # 3. Fit the codebook of its memories.
        if params.bank.codes == "pq":
            fit_codebook(folder, data.seen, lm=lm, params=params)
        elif params.train.start:
            renew_codebook(params.train.start, folder, data.seen, lm=lm, params=params)
        # 4. Score the compressor and write its card.
        evaluation = held_out_scores(
            folder=folder,
            lm=lm,
            data=data,
            params=params,
            limit=questions,
            state=self.project.state,
        )
        scores = evaluation.systems[0]
        write_card(
            folder,
            params=params,
            digest=checkpoint_digest(folder),
            documents=len(data.seen),
            scores=scores.to_json(),
            slices=data.slices,
        )
        return folder, scores

    def plan_training(self) -> "TrainingPlan":
        """Run a few steps of the training and measure what the whole run takes; writes nothing.
        Raises as `train`.
        """
        from cmt.training.data import load_training_data
        from cmt.training.processes import plan_on_devices

        data = load_training_data(self.params, store=self.project.store, lm=self.project.lm)
        return plan_on_devices(
            lm=self.project.lm,
            documents=data.seen,
            questions=data.all_questions,
            params=self.params,
        )

    def fit_codebook(
        self, *, parts: int | None = None, progress: Progress | None = None
    ) -> "Codebook":
        """Fit a codebook for the compressor in use at `compressor.window` to training documents,
        and write it.

        `parts`: bytes of a vector, see `cmt.retrieval.codebook_fitting`. A bank keeps needing the
        codebook that it was filled with. Raises ConfigError if a vector cannot be cut into `parts`,
        ModelError or StreamError if compressor or training data are missing.
        """
        from cmt.retrieval.codebook_fitting import fit_codebook
        from cmt.training.data import load_training_data

        return fit_codebook(
            self.params.compressor.path,
            load_training_data(self.params, store=self.project.store, lm=self.project.lm).seen,
            lm=self.project.lm,
            params=self.params,
            parts=parts,
            on_progress=None if progress is None else progress.advance,
        )

    def update(
        self,
        *,
        slice_id: str | None = None,
        progress: Progress | None = None,
        prefect_run: str = "",
    ) -> Round:
        """Run one round, for the slice `slice_id` or the oldest pending one; returns its row of the
        ledger.

        A round that the gate refuses has the state `refused`, and the bank is restored. After
        MAX_ATTEMPTS errors that the documents may cause, such as MemoryError, it is `failed`, and
        the slice no longer pending. `already`: it was committed earlier. Raises RoundError if no
        slice is pending, and StreamError if `slice_id` is unknown.
        """
        from cmt.rounds import recovery
        from cmt.rounds.runner import RoundRunner

        with recovery.updating(self.project):
            pending = self.pending()
            if not (slice_id or pending):
                recovery.activate_if_complete(self.project)
                raise RoundError(
                    f"no slice is pending in {self.params.stream.path}: "
                    "`cmt ingest` new documents first"
                )
            return RoundRunner(
                self.project, slice_id or pending[0], progress=progress, prefect_run=prefect_run
            ).repeat()

    def activate_if_complete(self) -> bool:
        """Let the bank of the compressor in use answer if its rounds cover the stream; returns
        whether the pointer moved.

        Rounds do so themselves. Call this after switching back to an earlier compressor, because
        then no slice is pending.
        """
        from cmt.rounds import recovery

        with recovery.updating(self.project):
            return recovery.activate_if_complete(self.project)

    def verify(self, *, progress: Progress | None = None) -> "list[PartReport]":
        """Read LM, compressor, slices, ledger and banks completely, and report what has changed."""
        from cmt.rounds.care.verification import verify

        return verify(self.project, progress=progress or NullProgress())

    def rollback(self, round_id: str) -> Round:
        """Restore the bank to the version before a committed round; its slice and all later slices
        are pending again.

        Raises RoundError if no committed round has this id, and BankError if the version was
        dropped.
        """
        from cmt.rounds.recovery import rollback

        return rollback(self.project, round_id)

    def forget(self, doc_id: str) -> int:
        """Delete the memories of a document from all banks for good; returns their number. Raises
        as `forget_all`.
        """
        return self.forget_all([doc_id]).rows

    def forget_all(
        self,
        doc_ids: Collection[str],
        *,
        purge: bool = False,
        everywhere: bool = False,
        undo: bool = False,
    ) -> "ForgetReport":
        """Forget documents: no rollback, later round or ingest restores them or near-copies of
        them.

        Near-copies are refused of the documents' own sources, `everywhere` of every source. `undo`
        purges forgotten documents and then lets them come back: ingest their texts again.

        With `purge` their texts, questions and answers are also removed from everything that the
        project wrote, and all earlier versions of the banks are dropped, so no rollback reaches
        past it. If it is interrupted, the next command that changes the bank finishes it. Raises
        BankError if neither a bank nor the stream has one of the documents, and StreamError or
        RoundError if a slice is damaged or a file cannot be written.
        """
        from cmt.rounds import recovery
        from cmt.rounds.care import forgetting

        with recovery.updating(self.project):
            recovery.recover(self.project)
            return forgetting.forget(
                self.project, doc_ids, purge=purge or undo, everywhere=everywhere, undo=undo
            )

    def forgotten_documents(self) -> "list[ForgottenDocument]":
        """The forgotten documents, by doc_id. Raises StreamError or DamageError if a list of them
        is damaged.
        """
        from cmt.rounds.care import forgetting

        return forgetting.forgotten_documents(self.project)

    def forgettable(
        self, *, source: str | None = None, matching: str | None = None, purge: bool = False
    ) -> "list[Candidate]":
        """Documents of a source, or with every word of `matching`; `purge`: also forgotten ones.
        Raises BankError.
        """
        from cmt.rounds.care import forgetting

        found = forgetting.candidates(self.project, source=source, matching=matching)
        left_out = set() if purge else set(self.project.history.forgotten())
        return [document for doc_id, document in found.items() if doc_id not in left_out]

    def ask(
        self,
        question: str,
        *,
        as_of: datetime | str | None = None,
        closed_book: bool = False,
        previous: "Sequence[Turn]" = (),
    ) -> "Answer":
        """Answer a question as of a date (None: now), with the sources of the answer. A string is
        read as `cmt ask --as-of` reads it: a plain date is the end of that day in UTC.

        `previous`: the questions before this one and their answers, which complete a follow-up; the
        answer's `question` is the completed one. With `closed_book` the answer of the LM without
        memory is added. Raises BankError if there is no bank of the compressor in use, and
        ConfigError if `as_of` is no date-time with a zone, or `question` is empty, too long, or
        incomplete.
        """
        from cmt.answering.by_form import answer_by_form

        question, instant = self._checked(question, as_of, previous)
        answerer = self.project.active.answerer()
        of_form = answer_by_form(answerer, question, as_of=instant)
        if of_form and not closed_book:
            return of_form
        [answer] = answerer.answer([question], as_of=[instant], closed_book=closed_book)
        return replace(of_form, closed_book=answer.closed_book) if of_form else answer

    def history(self, question: str, *, as_of: datetime | str | None = None) -> "FactHistory":
        """The values of the fact that a question asks for, each with the dates between which it
        holds and its documents, as of a date (None: now); superseded documents are read, too.

        Raises as `ask`.
        """
        from cmt.answering.fact_history import fact_history

        question, instant = self._checked(question, as_of)
        return fact_history(self.project.active.answerer(), question, as_of=instant)

    def _checked(
        self, question: str, as_of: datetime | str | None, previous: "Sequence[Turn]" = ()
    ) -> tuple[str, datetime | None]:
        """A question, completed, and its date, as the answerer takes them. Raises ConfigError."""
        from cmt.answering.answer import check_length, clean_question
        from cmt.questions.follow_up import complete

        if as_of is not None and not isinstance(as_of, datetime | str):
            raise ConfigError(f"as_of must be a date-time with a time zone, not {as_of!r}")
        try:
            instant = parse_end(as_of) if isinstance(as_of, str) else as_of
            question = clean_question(question)
            check_length(question, longest=self.project.declared.serving.question_characters)
            question = complete(question, previous)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return question, instant

    def evaluate(
        self, *, limit: int | None = None, on_progress: OnProgress | None = None
    ) -> "Evaluation":
        """Evaluate all questions of the stream, or a seeded sample of `limit`, each as of its own
        date.

        `on_progress` is called with the number of further answers. Answers are recorded as they
        come, so an interrupted evaluation of the same bank resumes. Raises BankError if there is no
        bank of the compressor in use.
        """
        from cmt.evaluation.evaluate import evaluate
        from cmt.evaluation.sampling import sample_by_position

        self.project.active.bank()
        questions = self.project.store.all_questions()
        if limit is not None:
            questions = sample_by_position(questions, limit=limit, seed=self.params.seed)
        return evaluate(
            replace(
                self.project.answerer,
                params=self.params,
                calibration=self.project.active.calibration(),
            ),
            questions,
            baselines=self.params.evaluation.baselines,
            complete=self.project.prompt_cache.complete,
            record=self.project.state,
            on_progress=on_progress,
        )


def _training_callbacks(params: Params, root: Path) -> "list[TrainerCallback]":
    """Log the training in MLflow, unless `tracking.enabled` is off."""
    from cmt.tracking.runs import Tracker

    return [Tracker(params.tracking, root).log_training(params)] if params.tracking.enabled else []
