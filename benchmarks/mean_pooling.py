"""A baseline of soft compression: mean pooling with distillation (arXiv 2510.20797), read by the same frozen LM.

    python benchmarks/mean_pooling.py --data dev-v1.1.json --pairs 3500 --questions 300

The encoder is the whole LM with LoRA on every linear layer. A vector is the mean over a window of tokens, and one
encoder serves all of WINDOWS (multi-ratio training). The vectors stand where the text would: behind the prefix that was
trained to answer from whole texts (`--rag-trained`), which is the teacher. The loss is the likelihood of the answer
plus the divergence from the teacher's distribution over the answer's tokens.

It trains on the data that `cmt data pull` fetched, and keeps the encoder in `--output`; one that is there is asked and
not trained again. Every question is asked with the right document given, the teacher's row with its text.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from protocol import Sample
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import get_cosine_schedule_with_warmup

import cmt
from cmt.cli.context import run_script
from cmt.config import Params, load_params
from cmt.evaluation.metrics import mark, summarise
from cmt.lm.decoding import generate
from cmt.lm.model import FrozenLM
from cmt.lm.prompt import Prompt, pad
from cmt.modeling.alignment import TextAlignment
from cmt.modeling.compressor import window_means
from cmt.modeling.lora import layers_with_lora
from cmt.modeling.model import MemoryModel
from cmt.modeling.span_decoding import whole_memory_spans
from cmt.training.data import load_base_data
from cmt.training.dataset import Step, StepDataset, paragraphs
from cmt.training.step import answer_positions
from cmt.training.trainer import training_attention

ROOT = Path(__file__).resolve().parent.parent
WINDOWS = (4, 8, 16)  # tokens a vector
LORA_RANK = 32  # of the shipped compressor
STEP = {"train.paragraphs": 4, "train.questions_per_paragraph": 4}  # 16 questions, as the teacher was trained with
LEARNING_RATE, WARMUP_STEPS = 5e-4, 20
ASKED_AT_ONCE = 16  # questions


class MeanPooling(nn.Module):
    """Texts → vectors in the LM's input space, one for a window of tokens."""

    def __init__(self, lm: FrozenLM) -> None:
        super().__init__()
        self.lm = lm
        self.encoder = layers_with_lora(lm, 0, lm.layers, LORA_RANK)
        self.out = nn.Linear(lm.hidden_size, lm.hidden_size, bias=False)
        nn.init.zeros_(self.out.weight)  # at the start a vector is the mean of its tokens' embeddings

    def forward(self, texts: Sequence[Sequence[int]], window: int) -> list[Tensor]:
        """Vectors (⌈n/window⌉, D) of each text of n tokens."""
        lm = self.lm
        ids, mask = pad([[lm.bos, *text] for text in texts], left=False, device=lm.device)  # (N, 1 + T)
        embeds = lm.embed(ids)  # (N, 1 + T, D)
        states = self.encoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state
        pooled, pooled_mask = window_means(states[:, 1:].float(), mask[:, 1:], window)  # (N, k, D), (N, k)
        tokens, _ = window_means(embeds[:, 1:].float(), mask[:, 1:], window)
        vectors = tokens + self.out(pooled)
        return [row[: int(count)] for row, count in zip(vectors, pooled_mask.sum(1), strict=True)]

    def trained_tensors(self) -> dict[str, Tensor]:
        """The adapters and the output layer."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: tensor.contiguous() for name, tensor in self.state_dict().items() if name in trained}


class Reader:
    """The frozen LM behind the teacher's prefix; it reads texts, or vectors in their place."""

    def __init__(self, teacher: MemoryModel) -> None:
        self.teacher, self.lm = teacher, teacher.lm
        self.before = [self.lm.bos, *self.lm.tokenize("Text:")]
        self.after = self.lm.tokenize("\n")

    def of_texts(
        self,
        questions: Sequence[Sequence[int]],
        texts: Sequence[Sequence[int]],
        answers: Sequence[Sequence[int]] | None = None,
    ) -> Prompt:
        """The teacher's prompts: whole texts, one for each question; without `answers` for generation."""
        spans = [whole_memory_spans([len(text)]) for text in texts]
        tails = self._tails(questions, answers)
        encoding = self.teacher.encode(questions)
        rows = [[text] for text in texts]
        return self.teacher.prompts.text_prompt(encoding, spans, rows, None, tails, left=answers is None)

    def of_vectors(
        self,
        questions: Sequence[Sequence[int]],
        vectors: Sequence[Tensor],
        answers: Sequence[Sequence[int]] | None = None,
    ) -> Prompt:
        """The same prompts with `vectors` (k, D) in place of each text."""
        rows = [
            torch.cat([self._embed(self.before), part, self._embed([*self.after, *tail])])
            for part, tail in zip(vectors, self._tails(questions, answers), strict=True)
        ]
        side = "left" if answers is None else "right"
        embeds = pad_sequence(rows, batch_first=True, padding_side=side)  # (B, T, D)
        mask = pad_sequence([row.new_ones(len(row)).long() for row in rows], batch_first=True, padding_side=side)
        alignment = self.teacher.alignment
        assert isinstance(alignment, TextAlignment)  # noqa: S101 - narrows the type
        with torch.no_grad():
            prefix = alignment.prefix(self.teacher.encode(questions))
        return Prompt(embeds, mask, prefix)

    def answer_logits(self, prompt: Prompt, answers: Sequence[Sequence[int]]) -> Tensor:
        """Logits (A, V) at the positions that predict the tokens of `answers`, with which the prompts end."""
        positions = answer_positions(answers, prompt.mask.sum(1).tolist(), self.lm.device)
        return self.lm.logits(prompt, positions).float()

    def replies(self, prompt: Prompt, max_new_tokens: int) -> list[str]:
        """The text with which the LM continues each prompt."""
        return [self.lm.decode(ids) for ids in generate(self.lm, prompt, max_new_tokens=max_new_tokens).tokens]

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.lm.embed(torch.tensor(ids, device=self.lm.device)).float()

    def _tails(self, questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]] | None) -> list[list[int]]:
        asked = zip(questions, answers or [()] * len(questions), strict=True)
        return [[*self.teacher.prompts.question_tokens(question), *answer] for question, answer in asked]


def distil(reader: Reader, pooling: MeanPooling, steps: StepDataset) -> None:
    """Train `pooling`, a step at a time."""
    parameters = [parameter for parameter in pooling.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP_STEPS, len(steps))
    stderr = Console(stderr=True)
    with training_attention(reader.lm):
        for number in track(range(len(steps)), "steps", console=stderr):
            with reader.teacher.autocast():
                likelihood, divergence = losses(reader, pooling, steps[number])
            optimizer.zero_grad()
            torch.autograd.backward(likelihood + divergence)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            if (number + 1) % 10 == 0:
                stderr.print(f"step {number + 1}: answer {likelihood.item():.3f}, divergence {divergence.item():.3f}")


def losses(reader: Reader, pooling: MeanPooling, step: Step) -> tuple[Tensor, Tensor]:
    """Of one step: negative log-likelihood of the answers' tokens, and KL(teacher ‖ student) there, in nats a token."""
    asked = step["questions"]
    questions, answers = [question.question for question in asked], [question.answer for question in asked]
    # 1. the teacher, from the texts
    with torch.no_grad():
        texts = [step["documents"][question.document] for question in asked]
        teacher = reader.answer_logits(reader.of_texts(questions, texts, answers), answers)  # (A, V)
    # 2. the student, from the vectors
    vectors = pooling(step["documents"], step["window"])
    chosen = [vectors[question.document] for question in asked]
    student = reader.answer_logits(reader.of_vectors(questions, chosen, answers), answers)  # (A, V)
    # 3. compare
    target = torch.tensor([token for answer in answers for token in answer], device=student.device)  # (A,)
    log_student, log_teacher = student.log_softmax(1), teacher.log_softmax(1)
    return F.cross_entropy(student, target), F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


@torch.inference_mode()
def rows(reader: Reader, pooling: MeanPooling, sample: Sample, params: Params) -> Iterator[dict[str, Any]]:
    """Scores of the teacher, and of the vectors at each window, with the right document given."""
    lm, asked = reader.lm, sample.questions
    golds = asked["answers"].to_pylist()
    documents = zip(*(sample.documents[name].to_pylist() for name in ("doc_id", "text")), strict=True)
    tokens = {doc_id: lm.tokenize(text)[: params.compressor.chunk_tokens] for doc_id, text in documents}
    texts = [tokens[doc_id] for doc_id in asked["doc_id"].to_pylist()]
    questions = [lm.tokenize(" " + question) for question in asked["question"].to_pylist()]
    for window in (None, *WINDOWS):
        replies: list[str] = []
        for start in track(range(0, len(questions), ASKED_AT_ONCE), f"window {window}", console=Console(stderr=True)):
            part = slice(start, start + ASKED_AT_ONCE)
            with reader.teacher.autocast():
                if window is None:
                    prompt = reader.of_texts(questions[part], texts[part])
                else:
                    prompt = reader.of_vectors(questions[part], pooling(texts[part], window))
            replies += reader.replies(prompt, params.answering.max_new_tokens)
        scores = summarise(mark(replies, golds), recalled=None, seed=params.seed)
        name = "teacher: the text" if window is None else f"mean pooling, n/{window}"
        yield {"row": name, "em": scores.em, "em_prefix": scores.em_prefix, "f1": scores.f1, "ci": scores.ci}


def main(
    data: Annotated[Path, typer.Option(help="A file in SQuAD's layout, to ask.")],
    pairs: Annotated[int, typer.Option(min=1, help="Question-answer pairs to train on.")] = 3500,
    documents: Annotated[int, typer.Option(min=1)] = 1665,
    questions: Annotated[int, typer.Option(min=1)] = 300,
    seed: int = 0,
    params: Path = ROOT / "params.yaml",
    rag_trained: Annotated[Path, typer.Option(help="The teacher.")] = ROOT / "data/rag",
    output: Annotated[Path, typer.Option(help="File of the encoder.")] = ROOT / "data/trained/mean_pooling.safetensors",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train the encoder if it is not there, and print its scores at each window."""
    # 1. the teacher, and the questions to ask
    workspace = cmt.open(params=params)
    changed = load_params(
        params, STEP | {"train.questions": pairs, "train.window_frequencies": dict.fromkeys(WINDOWS, 1.0)}
    )
    reader = Reader(MemoryModel.load(rag_trained, lm=workspace.lm, merged=True))
    sample = Sample.draw(data, "squad", documents=documents, questions=questions, seed=seed)
    # 2. the encoder
    torch.manual_seed(changed.seed)
    pooling = MeanPooling(workspace.lm)
    if output.exists():
        pooling.load_state_dict(load_file(output), strict=False)
    else:
        split = load_base_data(changed)
        longest = changed.compressor.chunk_tokens
        pool = paragraphs(split.seen, split.questions, lm=workspace.lm, longest=longest)
        distil(reader, pooling, StepDataset(pool, changed))
        output.parent.mkdir(parents=True, exist_ok=True)
        save_file(pooling.trained_tensors(), output)
    # 3. ask
    measured = list(rows(reader, pooling.eval(), sample, changed))
    if as_json:
        typer.echo(json.dumps({"pairs": pairs, "questions": sample.questions.num_rows, "rows": measured}))
        return
    table = Table("row", "EM", "EM prefix", "F1", "95 %", title=f"{pairs:,} pairs, right document given")
    for row in measured:
        scores = (f"{row[key]:.1f}" for key in ("em", "em_prefix", "f1"))
        table.add_row(row["row"], *scores, "{:.1f} – {:.1f}".format(*row["ci"]))
    Console().print(table)


if __name__ == "__main__":
    run_script(main)
