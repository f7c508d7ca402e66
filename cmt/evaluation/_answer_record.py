"""A record of the memory's answers on disk, so that an interrupted evaluation resumes."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.cache import BATCHES_PER_WRITE, ChecksummedAnswers
from cmt.answering.prompting import Prediction
from cmt.common.digests import sha256_hex
from cmt.common.progress import OnProgress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedAnswer(Prediction):
    """The part of an answer that is scored; `text` is empty for "not in memory"."""

    confidence: float
    uncalibrated: float

    @classmethod
    def of(cls, answer: Answer) -> "RecordedAnswer":
        """The scored part of an answer of the memory."""
        scored = Prediction.of(answer)
        return cls(scored.text, scored.doc_ids, answer.confidence, answer.uncalibrated)


def recorded_answers(
    folder: Path,
    answerer: Answerer,
    questions: Sequence[str],
    *,
    as_of: Sequence[datetime],
    on_progress: OnProgress | None = None,
) -> list[RecordedAnswer]:
    """Like `answerer.answer`; recorded answers are read, the others are computed and recorded every
    few batches.

    `folder` has one file a bank; a new version of the bank replaces the file. The key of an answer
    is a digest of everything that determines it: the bank's version and content, the recorded
    changes, LM, compressor, calibration, parameters except the batch size, the code of this
    package, the question and its date.
    """
    # 1. the file of this version of the bank
    name, version = answerer.bank.name, answerer.bank.version
    path = folder / f"answers-{name}-{version}.sqlite"
    for stale in folder.glob(f"answers-{name}-*.sqlite"):
        if stale != path:
            ChecksummedAnswers(stale).discard()
    file, setting = ChecksummedAnswers(path), _setting_digest(answerer, version)
    # 2. read the recorded answers
    dated_questions = list(zip(questions, as_of, strict=True))
    keys = [
        sha256_hex(setting, date.astimezone(UTC).isoformat(), question)
        for question, date in dated_questions
    ]
    stored = {key: json.loads(text) for key, text in file.read(set(keys)).items()}
    answers = {
        key: RecordedAnswer(**raw | {"doc_ids": tuple(raw["doc_ids"])})
        for key, raw in stored.items()
    }
    missing = {
        key: pair for key, pair in zip(keys, dated_questions, strict=True) if key not in answers
    }
    if on_progress:
        on_progress(len(keys) - len(missing))
    # 3. compute and record the rest
    missing_keys, step = list(missing), answerer.params.answering.batch_size * BATCHES_PER_WRITE
    for start in range(0, len(missing_keys), step):
        block = missing_keys[start : start + step]
        block_questions, block_dates = zip(*(missing[key] for key in block), strict=True)
        computed = answerer.answer(block_questions, as_of=block_dates, on_progress=on_progress)
        new = dict(zip(block, map(RecordedAnswer.of, computed), strict=True))
        answers |= new
        if answerer.bank.version == version:
            file.write({key: json.dumps(asdict(answer)) for key, answer in new.items()})
        else:
            log.warning(
                "the bank changed during the evaluation: %d answers are not recorded", len(new)
            )
    return [answers[key] for key in keys]


def _setting_digest(answerer: Answerer, version: int) -> str:
    """Digest of everything that determines answers except question and date."""
    params, bank, lm = answerer.params, answerer.bank, answerer.lm
    sections = [
        params.selection.model_dump(mode="json"),
        params.answering.model_dump(mode="json", exclude={"batch_size"}),
        params.bank.model_dump(mode="json", exclude={"uri"}),
        params.stream.model_dump(mode="json", include={"authority", "peers"}),
    ]
    parts = [
        version,
        bank.digest(),
        sorted(bank.excluded_doc_ids),
        sorted(f"{change.id} {change.state}" for change in answerer.changes_of(None)),
        answerer.model.digest,
        answerer.calibration,
        lm.files_digest,
        str(lm.model.dtype),
        str(lm.device),
        _code_digest(),
    ]
    return sha256_hex(json.dumps([*parts, sections], sort_keys=True))


@cache
def _code_digest() -> str:
    """Digest of all modules of this package."""
    return sha256_hex(
        *(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))
    )
