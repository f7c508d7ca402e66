"""The compressor of a project: which one is in use, and what is opened with it."""

import logging
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.bank.location import BankLocation
from cmt.config import Params, state_folder
from cmt.errors import BankError, ModelError

if TYPE_CHECKING:
    from cmt.bank.bank import Bank
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel

log = logging.getLogger(__name__)


class CompressorInUse:
    """The compressor that `params` name, with its LM and its bank, each opened on first use.

    `opened`: the compressor itself. With `follow` it is the one of `with_active_compressor`, and
    `reload_if_promoted` replaces it after a promotion. `root`: folder of params.yaml. `lm` and
    `model`: the frozen LM and the compressor, if they are loaded already.
    """

    def __init__(
        self,
        params: Params,
        root: Path,
        location: BankLocation,
        *,
        follow: bool = False,
        lm: "FrozenLM | None" = None,
        model: "MemoryModel | None" = None,
    ) -> None:
        self.declared, self.root, self.location = params, root, location
        self._follow, self._given_lm = follow, lm
        self.opened = OpenedCompressor(
            with_active_compressor(params, root) if follow else params, self, model
        )

    @cached_property
    def lm(self) -> "FrozenLM":
        """The frozen LM. Raises ModelError if it was not pulled."""
        if self._given_lm is not None:
            return self._given_lm
        from cmt.lm.installed import installed
        from cmt.lm.model import FrozenLM

        lm = self.declared.lm
        return FrozenLM.load(installed(source=lm.source, path=lm.path), dtype=lm.dtype)

    def reload_if_promoted(self) -> bool:
        """Use another compressor after its promotion; return whether the compressor changed."""
        if not self._follow:
            return False
        params = with_active_compressor(self.declared, self.root)
        if params.compressor.path == self.opened.params.compressor.path:
            return False
        self.opened = OpenedCompressor(params, self)
        return True


class OpenedCompressor:
    """One compressor, which never changes: its parameters, model, digest and bank.

    `params`: the parameters, with its path.
    """

    def __init__(
        self, params: Params, owner: CompressorInUse, model: "MemoryModel | None" = None
    ) -> None:
        self.params, self._owner, self._given = params, owner, model

    @cached_property
    def model(self) -> "MemoryModel":
        """The compressor, with its LoRA adapters merged. Raises ModelError if it does not belong to
        the LM.
        """
        if self._given is not None:
            return self._given
        from cmt.modeling.loading import load_memory_model

        compressor = self.params.compressor
        return load_memory_model(
            compressor.path, lm=self._owner.lm, window=compressor.window, merged=True
        )

    @cached_property
    def digest(self) -> str:
        """Digest of the compressor, from its files: neither LM nor compressor is loaded. Raises
        ModelError.
        """
        if self._given is None and "model" in vars(self):
            return self.model.digest  # of the same files: they are not hashed again
        from cmt.modeling.checkpoint import digest_in_use

        compressor = self.params.compressor
        return digest_in_use(compressor.path, window=compressor.window)

    @cached_property
    def bank(self) -> "Bank":
        """Its bank, created if missing. Raises BankError if it cannot be opened."""
        from cmt.bank.bank import open_bank
        from cmt.retrieval.indexer import memory_schema

        bank = self.params.bank
        schema = memory_schema(self.model, keep_text=bank.keep_text, number_format=bank.codes)
        return open_bank(self._owner.location, schema=schema)

    @property
    def row_format(self) -> str:
        """The format of the bank's rows, such as "int8-text". Raises ModelError for a damaged or
        missing codebook.
        """
        from cmt.modeling.codebook import Codebook, stored_codes

        compressor, bank = self.params.compressor, self.params.bank
        codebook = None
        if "model" in vars(self):
            codebook = self.model.codebook
        elif bank.codes in ("auto", "pq"):
            codebook = Codebook.load(compressor.path, compressor.window)
        codes = stored_codes(bank.codes, codebook, keep_text=bank.keep_text)
        return f"{codes}-{'text' if bank.keep_text else 'vectors'}"


def with_active_compressor(params: Params, root: Path) -> Params:
    """`params` with the path of the compressor that answers, if one was promoted; `root` is the
    folder of params.yaml.

    The bank's pointer selects the champion or the compressor before it; the champion if it names
    neither. A damaged or missing one is left out with a warning, and `cmt verify` reports it.
    """
    from cmt.modeling.champion import champion_folder, read_champion

    # 1. The promoted compressors whose files exist.
    state = state_folder(params, root)
    try:
        named = read_champion(state)
    except ModelError as error:
        log.warning("%s", error)
        return params
    if named is None:
        return params
    promoted = [
        each
        for each in (named.champion, named.previous)
        if champion_folder(state, each.digest).exists()
    ]
    if named.champion not in promoted:
        log.warning(
            "the champion is missing in %s: restore it",
            champion_folder(state, named.champion.digest),
        )
    if not promoted:
        return params
    # 2. The one that the pointer names.
    from cmt.bank.tables import active_compressor, connect

    active = None
    with suppress(BankError):
        active = active_compressor(connect(params.bank.uri))
    chosen = next((each for each in promoted if each.bank == active), promoted[0])
    return params.with_values(compressor={"path": champion_folder(state, chosen.digest)})
