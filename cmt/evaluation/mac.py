"""MAC (Tack et al. 2024, arXiv 2403.04317), the method's ancestor, over the same documents as the memory.

Its compressor is trained like any other, with `aggregator.kind: attention`, `alignment.kind: prefix`, α = 0 and β = 0.
Which memories it aggregates is decided by the same selection as for the memory, for all of them only add noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from cmt.answering import Answerer
from cmt.bank import Bank
from cmt.evaluation.ground import Ground
from cmt.memory.lm import FrozenLM
from cmt.memory.memories import compress, memory_schema
from cmt.memory.model import CONFIG, MemoryModel


def is_trained(ground: Ground) -> bool:
    """Whether `baselines.mac` names a compressor."""
    return (ground.material.answerer.params.baselines.mac / CONFIG).is_file()


@contextmanager
def adapted(ground: Ground, lm: FrozenLM) -> Iterator[Answerer]:
    """The documents of `ground` in a bank of MAC's own, answered from through `lm`; it never refuses.

    Raises ModelError when the compressor is damaged or of another LM.
    """
    params = ground.material.answerer.params
    how, model = params.bank, MemoryModel.load(params.baselines.mac, lm=lm)
    schema = memory_schema(model, keep_text=how.keep_text, number_format=how.codes)
    rows = compress(
        model,
        ground.documents,
        slice_id="mac",
        keep_text=how.keep_text,
        number_format=how.codes,
        batch_tokens=params.compressor.batch_tokens,
    )
    # the published ψ's confidence is a cosine, which says little about what is known
    selection = params.selection.model_copy(update={"threshold": -1.0})
    with TemporaryDirectory() as scratch:
        bank = Bank.open(uri=scratch, schema=schema, exact_below=how.exact_below)
        bank.upsert(rows)
        yield Answerer(model=model, lm=lm, bank=bank, params=params.model_copy(update={"selection": selection}))
