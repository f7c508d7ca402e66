"""Documents in a temporary bank, to measure a compressor next to the project's bank."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cmt.answering.answerer import Answerer
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.common.arrow import rows_with
from cmt.common.scratch import scratch_folder
from cmt.config import Params, state_folder
from cmt.lm.model import FrozenLM
from cmt.modeling.loading import load_memory_model
from cmt.modeling.model import MemoryModel
from cmt.retrieval.indexer import compress_documents


@dataclass(frozen=True)
class TemporaryBank:
    """Documents that are compressed once and banked together or in part."""

    model: MemoryModel
    rows: pa.Table  # the memories, in the bank's schema
    params: Params
    state: Path  # the state folder, in which the bank lies

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        lm: FrozenLM,
        documents: pa.Table,
        params: Params,
        state: Path | None = None,
        as_in_use: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> "TemporaryBank":
        """Compress `documents` (DOCUMENT_SCHEMA) with the compressor in `folder`.

        The window is `compressor.window` for the project's compressor and with `as_in_use`,
        otherwise the window of the training. `state`: the project's state folder; by default the
        one of `params` in the current folder. `on_progress`: see `compress_documents`. Raises
        ModelError if the compressor cannot be loaded.
        """
        as_in_use = as_in_use or folder.resolve() == params.compressor.path.resolve()
        window = params.compressor.window if as_in_use else None
        model = load_memory_model(folder, lm=lm, window=window, merged=True)
        rows = compress_documents(
            model,
            documents,
            slice_id="scratch",
            params=params,
            on_progress=on_progress,
        )
        return cls(model, rows, params, state or state_folder(params, Path.cwd()))

    @contextmanager
    def answerer(self, doc_ids: Collection[str] | None = None) -> Iterator[Answerer]:
        """An answerer over a bank of the documents `doc_ids`, or of all; the bank is deleted at the
        end.
        """
        rows = self.rows if doc_ids is None else rows_with(self.rows, "doc_id", doc_ids)
        with scratch_folder(self.state) as folder:
            bank = open_bank(
                BankLocation(str(folder), self.params.bank.exact_below), schema=rows.schema
            )
            bank.upsert(rows)
            yield Answerer(model=self.model, lm=self.model.lm, bank=bank, params=self.params)
