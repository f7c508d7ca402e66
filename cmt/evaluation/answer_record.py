"""What the memory answered already: an evaluation that was killed goes on where it was."""

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.answering.cache import BATCHES_PER_WRITE, ChecksummedAnswers
from cmt.answering.prompting import Prediction
from cmt.common.progress import OnProgress

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.answering.answerer import Answerer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedAnswer(Prediction):
    """What the memory said; `text` is empty for "not in memory"."""

    confidence: float

    @classmethod
    def of(cls, answer: "Answer") -> "RecordedAnswer":
        """The part of `answer` that is scored."""
        names = tuple(source.doc_id for source in answer.sources)
        return cls(answer.text if answer.known else "", names, answer.confidence)

    @classmethod
    def from_json(cls, text: str) -> "RecordedAnswer":
        """The inverse of json.dumps over its fields."""
        raw = json.loads(text)
        return cls(raw["text"], tuple(raw["doc_ids"]), raw["confidence"])


class AnswerRecord:
    """Answers in `folder`, a file for each state of a bank; the files of its earlier states are removed.

    An answer is found again only under all that determines it: the bank's version and content, LM, compressor,
    parameters (the batch size is none of them), the code of this package, the question and its date.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def answer(
        self,
        answerer: "Answerer",
        questions: Sequence[str],
        *,
        as_of: Sequence[datetime],
        on_progress: OnProgress | None = None,
    ) -> list[RecordedAnswer]:
        """As `answerer.answer`; what is recorded is looked up, the rest is recorded every few batches."""
        version = answerer.bank.version
        answers, setting = self._file(answerer.bank.name, version), _setting(answerer, version)
        asked = list(zip(questions, as_of, strict=True))
        keys = [_key(setting, *pair) for pair in asked]
        known = {key: RecordedAnswer.from_json(text) for key, text in answers.read(set(keys)).items()}
        missing = {key: pair for key, pair in zip(keys, asked, strict=True) if key not in known}
        if on_progress:
            on_progress(len(keys) - len(missing))
        order, step = list(missing), answerer.params.answering.batch_size * BATCHES_PER_WRITE
        for block in (order[start : start + step] for start in range(0, len(order), step)):
            texts, moments = zip(*(missing[key] for key in block), strict=True)
            made = map(RecordedAnswer.of, answerer.answer(texts, as_of=moments, on_progress=on_progress))
            fresh = dict(zip(block, made, strict=True))
            known |= fresh
            if answerer.bank.version == version:
                answers.write({key: json.dumps(asdict(reply)) for key, reply in fresh.items()})
            else:
                log.warning("the bank changed while it was asked: %d answers are not recorded", len(fresh))
        return [known[key] for key in keys]

    def _file(self, bank: str, version: int) -> ChecksummedAnswers:
        path = self.folder / f"answers-{bank}-{version}.sqlite"
        for other in self.folder.glob(f"answers-{bank}-*.sqlite"):
            if other != path:
                ChecksummedAnswers(other).discard()
        return ChecksummedAnswers(path)


def _setting(answerer: "Answerer", version: int) -> str:
    """Digest of all that determines answers, the questions apart."""
    params, bank, lm = answerer.params, answerer.bank, answerer.lm
    how = [
        params.selection.model_dump(mode="json"),
        params.answering.model_dump(mode="json", exclude={"batch_size"}),
        params.bank.model_dump(mode="json", exclude={"uri"}),
    ]
    parts = [version, bank.digest(), answerer.model.digest, lm.digest, str(lm.model.dtype), str(lm.device), _code()]
    return _sha256([json.dumps([*parts, how], sort_keys=True).encode()])


@cache
def _code() -> str:
    return _sha256(path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py")))


def _key(setting: str, question: str, moment: datetime) -> str:
    return _sha256(text.encode() for text in (setting, moment.astimezone(UTC).isoformat(), question))


def _sha256(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
