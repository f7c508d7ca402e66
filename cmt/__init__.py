"""Keep a frozen language model in step with a stream of documents: each becomes a small memory that it answers from.

import cmt

memory = cmt.open(params="params.yaml")
memory.ingest(source="news.jsonl", format="jsonl")
memory.update()
answer = memory.ask("Who is the mayor of Port Ellery?")
print(answer.text, [source.title for source in answer.sources])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source
    from cmt.bank.ledger import Round
    from cmt.config import Params, load_params
    from cmt.errors import BankError, CmtError, ConfigError, ModelError, RoundError, ServiceError, StreamError
    from cmt.workspace import Workspace, open

__version__ = "0.1.0"

# name → module that is imported when the name is first used: torch and LanceDB take seconds
_HOMES = {
    "Answer": "cmt.answering.answer",
    "BankError": "cmt.errors",
    "CmtError": "cmt.errors",
    "ConfigError": "cmt.errors",
    "ModelError": "cmt.errors",
    "Params": "cmt.config",
    "Round": "cmt.bank.ledger",
    "RoundError": "cmt.errors",
    "ServiceError": "cmt.errors",
    "Source": "cmt.answering.answer",
    "StreamError": "cmt.errors",
    "Workspace": "cmt.workspace",
    "load_params": "cmt.config",
    "open": "cmt.workspace",
}

__all__ = [
    "Answer",
    "BankError",
    "CmtError",
    "ConfigError",
    "ModelError",
    "Params",
    "Round",
    "RoundError",
    "ServiceError",
    "Source",
    "StreamError",
    "Workspace",
    "__version__",
    "load_params",
    "open",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
