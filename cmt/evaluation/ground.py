"""What the rows of a comparison share: a bank, its documents' texts, questions, and what the rounds took."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from cmt.evaluation.finetuning import Recipe
from cmt.evaluation.material import Material
from cmt.rounds import Watch

if TYPE_CHECKING:
    from cmt.workspace import Workspace


@dataclass(frozen=True)
class Ground:
    """The same for every row."""

    material: Material
    texts: Mapping[str, str]
    """doc_id → whole text of each banked document, by date of publication."""
    documents: pa.Table
    """DOCUMENT_SCHEMA; the banked documents."""
    asked: pa.Table
    """QUESTION_SCHEMA; questions on banked documents, each asked as of its own date."""
    absent: pa.Table
    """QUESTION_SCHEMA; questions on documents that the bank does not have, for abstention alone."""
    seconds: Mapping[str, float]
    """Stage of the rounds → what it took, over all committed rounds."""
    recipe: Recipe = Recipe()

    @classmethod
    def of(cls, workspace: "Workspace", *, limit: int, watch: Watch | None = None) -> "Ground":
        """The workspace's bank and at most `limit` of its questions. BankError or StreamError when there are none."""
        material = Material.of(workspace, watch=watch)
        banked = pa.array(list(material.documents), pa.string())
        documents = workspace.store.all_documents()
        documents = documents.filter(pc.is_in(documents["doc_id"], value_set=banked))
        texts = dict(zip(documents["doc_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
        here = pc.is_in(material.questions["doc_id"], value_set=banked)
        asked, absent = material.questions.filter(here), material.questions.filter(pc.invert(here))
        seconds: dict[str, float] = {}
        for round_ in workspace.rounds():
            if round_.state == "committed":
                for stage, took in round_.seconds.items():
                    seconds[stage] = seconds.get(stage, 0.0) + took
        refused = material.sample(absent, limit) if absent.num_rows else absent
        return cls(material, texts, documents, material.sample(asked, limit), refused, seconds)

    def spent(self, *stages: str) -> float | None:
        """Seconds of the rounds in `stages`; None where one of them was not noted."""
        return sum(self.seconds[stage] for stage in stages) if set(stages) <= self.seconds.keys() else None

    def bytes_to_search(self, *, keys: bool) -> int:
        """Bytes of the banked texts, and of their keys in float32."""
        memories = self.material.memories
        text = sum(len(text.encode()) for text in memories["text"].to_pylist() if text)
        return text + (4 * memories.num_rows * memories.schema.field("key").type.list_size if keys else 0)
