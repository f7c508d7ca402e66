"""How often a document on the same attribute of a subject counts as harm to a canary, and one on another attribute.

    python benchmarks/contradictions.py
    python benchmarks/contradictions.py --subjects 12 --seed 1

Pairs of documents about a subject of the synthetic chronicle, in its own words each: a canary's document, and a new one
that states another value of the same attribute (harm), or a value of another attribute (no harm). Only those pairs
count whose new document, read alone, answers the canary's question otherwise and likely: in the others it would not
have turned. Writes metrics/contradictions.json = {"same", "same_harm", "other", "other_harm"}, numbers of pairs.
"""

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from chronicle import ASIDES, KINDS, Attribute, name
from protocol import memories_of

import cmt
from cmt.cli.context import run_script
from cmt.common.digests import sha256_hex
from cmt.evaluation.canary import Canary, Outcome, contradicts
from cmt.evaluation.contradiction import SURE, contradicted
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.stream.schema import DOCUMENT_SCHEMA

ROOT = Path(__file__).parents[1]


def main(
    subjects: Annotated[int, typer.Option(min=1, help="Subjects of each kind.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of names, values and words.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the counts are written.")] = ROOT / "metrics/contradictions.json",
) -> None:
    """Count the pairs that are recognised as harm."""
    workspace, source = cmt.open(params=ROOT / "params.yaml"), random.Random(seed)
    documents: list[dict[str, object]] = []
    canaries: dict[bool, list[Canary]] = {True: [], False: []}

    def write(attribute: Attribute, subject: str) -> tuple[str, str]:
        """Add a document that states a value; returns its doc_id and the value."""
        value, doc_id = attribute.draw(source, seed), f"d{len(documents)}"
        asides = " ".join(aside.format(n=source.randint(10, 900), who="Someone") for aside in source.sample(ASIDES, 2))
        text = f"{source.choice(attribute.statements).format(name=subject, value=value)} {asides}"
        row = {"doc_id": doc_id, "title": attribute.title.format(name=subject), "text": text, "source": "chronicle"}
        documents.append(row | {"published_at": datetime(2031, 1, 1, tzinfo=UTC), "sha256": sha256_hex(text)})
        return doc_id, value

    # 1. The pairs: each attribute of a subject with a second value of its own, and with one of each other attribute.
    for kind in KINDS:
        for _ in range(subjects):
            subject = name(kind.forms, source.randrange(100_000), seed)
            for attribute in kind.attributes:
                own, value = write(attribute, subject)
                question = source.choice(attribute.questions).format(name=subject)
                for other in kind.attributes:
                    new, _ = write(other, subject)
                    right = Outcome(value, 1.0, right=True, doc_id=own)
                    turned = Outcome("", 0.0, right=False, doc_id=new)
                    canary = Canary(f"{own} {new}", own, question, (value,), best=right, now=turned, without=right)
                    canaries[other is attribute].append(canary)
    # 2. Keep the ones that could have turned, and of these the harmful ones.
    table = pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA)
    texts = dict(zip(table["doc_id"].to_pylist(), table["text"].to_pylist(), strict=True))
    bank = TemporaryBank.of(workspace.params.compressor.path, lm=workspace.lm, documents=table, params=workspace.params)
    counts: dict[str, int] = {}
    with bank.answerer() as answerer:
        for same, pairs in canaries.items():
            memories = memories_of(bank.rows, [pair.source for pair in pairs])
            answers = answerer.answer_from([pair.question for pair in pairs], memories)
            turned_ = [
                pair
                for pair, answer in zip(pairs, answers, strict=True)
                if answer.known and answer.uncalibrated >= SURE and contradicts(answer.text, pair.references)
            ]
            group = "same" if same else "other"
            counts |= {group: len(turned_), f"{group}_harm": len(contradicted(answerer, turned_, bank.rows, texts))}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(counts, indent=2) + "\n")
    print(json.dumps(counts))


if __name__ == "__main__":
    run_script(main)
