"""MAC (Tack et al. 2024, arXiv 2403.04317), the method's ancestor, over the same documents as the memory.

Its compressor is trained like any other, with `aggregator.kind: attention`, `alignment.kind: prefix`, α = 0 and β = 0.
Which memories it aggregates is decided by the same selection as for the memory, for all of them only add noise.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cmt.answering.answerer import Answerer
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.evaluation.testbed import ComparisonData
from cmt.lm.model import FrozenLM


@contextmanager
def mac_answerer(ground: ComparisonData, lm: FrozenLM) -> Iterator[Answerer]:
    """The documents of `ground` in a bank of MAC's own, answered from through `lm`; it never refuses.

    Raises ModelError when the compressor is damaged or of another LM.
    """
    params = ground.material.answerer.params
    # the published ψ's confidence is a cosine, which says little about what is known
    open_ = params.selection.model_copy(update={"threshold": -1.0})
    params = params.model_copy(update={"selection": open_})
    with TemporaryBank.of(
        params.baselines.mac, lm=lm, documents=ground.documents, params=params
    ).answerer() as answerer:
        yield answerer
