"""Answers on disk: a checksummed key-value file, and a cache of the LM's answers to prompts."""

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

from cmt.common.digests import sha256_hex
from cmt.common.progress import OnProgress

log = logging.getLogger(__name__)

BATCHES_PER_WRITE = 4  # an interrupted evaluation resumes from the last write
_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer BLOB, seal BLOB) WITHOUT "
    "ROWID"
)


class ChecksummedAnswers:
    """Answers by key in one SQLite file, each with a checksum.

    A failure never stops the caller: a damaged file is deleted and an unusable one is ignored, each
    with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, keys: Iterable[str]) -> dict[str, str]:
        """The stored answers to `keys`, by key; empty if the file cannot be read."""
        answers: dict[str, str] = {}

        def read(database: sqlite3.Connection) -> None:
            for key in keys:
                for answer, checksum in database.execute(
                    "SELECT answer, seal FROM answers WHERE key = ?", (key,)
                ):
                    if not isinstance(answer, bytes) or checksum != _checksum(key, answer):
                        raise sqlite3.DatabaseError("an answer does not match its checksum")
                    answers[key] = answer.decode()

        return answers if self._transaction(read) else {}

    def write(self, answers: dict[str, str]) -> None:
        """Add `answers`, by key."""
        rows = [
            (key, answer.encode(), _checksum(key, answer.encode()))
            for key, answer in answers.items()
        ]
        self._transaction(
            lambda database: database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows
            )
        )

    def remove(self, matches: Callable[[str], bool]) -> int:
        """Remove the answers that `matches` accepts, also from the bytes of the file; returns their
        number.

        Raises sqlite3.Error if the file cannot be written, for example because another process uses
        it.
        """
        if not self.path.exists():
            return 0
        try:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as database:
                database.execute("PRAGMA secure_delete = ON")
                database.execute(_TABLE)
                rows = database.execute("SELECT key, answer FROM answers").fetchall()
                keys = [
                    (key,)
                    for key, answer in rows
                    if matches(bytes(answer).decode(errors="replace"))
                ]
                database.execute("BEGIN")
                database.executemany("DELETE FROM answers WHERE key = ?", keys)
                database.execute("COMMIT")
                database.execute("VACUUM")
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, TypeError) as error:
            log.warning("answer cache %s is damaged (%s): deleting it", self.path, error)
            self.discard()
            return 0
        return len(keys)

    def discard(self) -> None:
        """Delete the file and its journal."""
        try:
            # SQLite would replay a remaining journal into the next file of that name
            for file in (self.path, self.path.with_name(f"{self.path.name}-journal")):
                file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("answer cache %s cannot be deleted: %s", self.path, error)

    def _transaction(self, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Run `work` in one transaction and return whether it succeeded; the reason of a failure is
        logged.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path)) as database, database:
                database.execute(_TABLE)
                work(database)
            return True
        except (
            OSError,
            sqlite3.OperationalError,
        ) as error:  # locked, read-only, full: the file itself may be sound
            log.warning(
                "answer cache %s cannot be used (%s): generating the answers again",
                self.path,
                error,
            )
        except sqlite3.DatabaseError as error:
            log.warning(
                "answer cache %s is damaged (%s): deleting it, generating the answers again",
                self.path,
                error,
            )
            self.discard()
        return False


def _checksum(key: str, answer: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + answer).digest()[:16]


class PromptCache:
    """A cache in front of `decoding.complete`: one file.

    The key is the SHA-256 of (digest of the LM's files, its type of numbers, prompt,
    `max_new_tokens`).
    """

    def __init__(self, path: Path, lm: "FrozenLM", complete: "Complete | None" = None) -> None:
        from cmt.lm import decoding

        self._answers = ChecksummedAnswers(path)
        self._lm_key = lm.files_digest, str(lm.model.dtype)
        self._complete = complete or partial(decoding.complete, lm)

    def complete(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        batch_size: int,
        shared: str = "",
        on_progress: OnProgress | None = None,
    ) -> list[str]:
        """Same as `decoding.complete`, but generates only answers that this LM has not given
        before.
        """
        # 1. look up the answers
        keys = [
            sha256_hex(*self._lm_key, str(max_new_tokens), shared + prompt) for prompt in prompts
        ]
        answers = self._answers.read(set(keys))
        missing = {
            key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in answers
        }
        if on_progress:
            on_progress(len(prompts) - len(missing))
        # 2. generate the missing ones, prompts of similar length together
        by_length = sorted(missing, key=lambda key: (len(missing[key]), key))
        block_size = batch_size * BATCHES_PER_WRITE
        for start in range(0, len(by_length), block_size):
            block = by_length[start : start + block_size]
            generated = self._complete(
                [missing[key] for key in block],
                max_new_tokens=max_new_tokens,
                batch_size=batch_size,
                shared=shared,
                on_progress=on_progress,
            )
            # 3. store each block at once
            new_answers = dict(zip(block, generated, strict=True))
            self._answers.write(new_answers)
            answers |= new_answers
        return [answers[key] for key in keys]
