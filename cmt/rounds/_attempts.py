"""Attempts at a round: a slice that cannot be adapted fails after MAX_ATTEMPTS of them, so that
later slices are adapted.
"""

from collections.abc import Sequence
from pathlib import Path

from cmt.common.digests import sha256_hex
from cmt.errors import CmtError

MAX_ATTEMPTS = 3
"""Attempts at a round that end with an error of its documents, or a kill."""
_KILLED = "killed"


class Attempts:
    """The attempts at a round since the last one that decided, each a file in its folder: a kill
    leaves it empty.
    """

    def __init__(self, folder: Path, identity: Sequence[str]) -> None:
        self._folder, self._identity, self._begun = folder, sha256_hex(*identity)[:12], False

    def begin(self) -> None:
        """Count an attempt, once until it ends. Raises OSError."""
        if not self._begun:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"try-{self._identity}-{len(self._files()) + 1}").touch()
        self._begun = True

    def fail(self, error: BaseException) -> bool:
        """Record how the attempt ended; returns whether to try again.

        Ctrl-C and errors of the machine (space, rights, services) do not count.
        """
        last, self._begun = max(self._files(), default=None), False
        if last and last.stat().st_size:  # it has ended; the error came before the next one began
            last = None
        if isinstance(error, CmtError | OSError) or not isinstance(error, Exception):
            if last:
                last.unlink()
            return False
        if last:
            last.write_text(type(error).__name__)  # a message may quote the document
        return last is not None

    def ends(self) -> list[str]:
        """How each earlier attempt ended, such as `MemoryError`, without the attempt at work."""
        files = sorted(self._files())
        return [file.read_text() or _KILLED for file in (files[:-1] if self._begun else files)]

    def clear(self) -> None:
        """Forget all attempts, also those with another slice digest or compressor."""
        self._begun = False
        for file in self._folder.glob("try-*"):
            file.unlink()

    def _files(self) -> list[Path]:
        return list(self._folder.glob(f"try-{self._identity}-*"))
