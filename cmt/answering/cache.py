"""Answers on disk: a checksummed key-value file, and the cache of the LM's answers to prompts."""

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmt.lm.decoding import Complete
    from cmt.lm.model import FrozenLM

from cmt.common.progress import OnProgress

log = logging.getLogger(__name__)

BATCHES_PER_WRITE = 4  # an evaluation that is killed goes on from the last write
_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer BLOB, seal BLOB) WITHOUT ROWID"


class ChecksummedAnswers:
    """One SQLite file of answers.

    It is never worth a failed round: a damaged file is thrown away and an unusable one ignored, each with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, keys: Iterable[str]) -> dict[str, str]:
        """The answers that are there, by key."""
        found: dict[str, str] = {}

        def read(database: sqlite3.Connection) -> None:
            for key in keys:
                for answer, seal in database.execute("SELECT answer, seal FROM answers WHERE key = ?", (key,)):
                    if not isinstance(answer, bytes) or seal != _seal(key, answer):
                        raise sqlite3.DatabaseError("an answer does not match its seal")
                    found[key] = answer.decode()

        return found if self._safely(read) else {}

    def write(self, answers: dict[str, str]) -> None:
        """Add `answers`, by key."""
        encoded = [(key, answer.encode(), _seal(key, answer.encode())) for key, answer in answers.items()]
        self._safely(lambda database: database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", encoded))

    def discard(self) -> None:
        """Remove the file."""
        try:
            # the journal as well: it would be played back into the next file of that name
            for file in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("answer cache %s cannot be removed: %s", self.path, error)

    def _safely(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Whether `work` could be done, in one transaction; a reason why not is logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path)) as database, database:
                database.execute(_TABLE)
                work(database)
            return True
        except (OSError, sqlite3.OperationalError) as error:  # locked, read-only, full: the file itself may be sound
            log.warning("answer cache %s cannot be used (%s): answers are generated again", self.path, error)
        except sqlite3.DatabaseError as error:
            log.warning("answer cache %s is damaged (%s): thrown away, answers are generated again", self.path, error)
            self.discard()
        return False


def _seal(key: str, answer: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + answer).digest()[:16]


class PromptCache:
    """A cache in front of `decoding.complete`: one file, keyed by sha256 of (LM digest, prompt, longest answer)."""

    def __init__(self, path: Path, lm: "FrozenLM", complete: "Complete | None" = None) -> None:
        from cmt.lm import decoding

        self.path, self._answers = path, ChecksummedAnswers(path)
        self._lm_digest, self._complete = lm.digest, complete or partial(decoding.complete, lm)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        shared: str = "",
        on_progress: OnProgress | None = None,
    ) -> list[str]:
        """As `decoding.complete`; what an LM of the same digest answered before is looked up."""
        keys = [_key(self._lm_digest, shared + prompt, max_new_tokens) for prompt in prompts]
        known = self._answers.read(set(keys))
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in known}
        if on_progress:
            on_progress(len(prompts) - len(missing))
        order = sorted(missing, key=lambda key: (len(missing[key]), key))
        step = batch_size * BATCHES_PER_WRITE
        for block in (order[start : start + step] for start in range(0, len(order), step)):
            answers = self._complete(
                [missing[key] for key in block],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                shared=shared,
                on_progress=on_progress,
            )
            fresh = dict(zip(block, answers, strict=True))
            self._answers.write(fresh)
            known |= fresh
        return [known[key] for key in keys]


def _key(digest: str, prompt: str, max_new_tokens: int) -> str:
    return hashlib.sha256(f"{digest}\0{max_new_tokens}\0{prompt}".encode()).hexdigest()
