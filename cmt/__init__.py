"""Keep a frozen language model up to date with a stream of documents, each in a small memory.

Run in a project folder after `cmt model pull`:

    from pathlib import Path
    import cmt

    news = '{"doc_id": "mayor", "published_at": "2026-01-06", "text": "Moss is the mayor."}'
    Path("news.jsonl").write_text(news)
    workspace = cmt.open(params="params.yaml")
    workspace.ingest(source="news.jsonl")
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    answer = workspace.ask("Who is the mayor?")
    print(answer.text, [source.doc_id for source in answer.sources])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cmt.common.version import __version__

if TYPE_CHECKING:
    from cmt.answering.answer import Answer, Source
    from cmt.bank.rounds import Round
    from cmt.config import Params, load_params
    from cmt.errors import (
        BankError,
        CmtError,
        ConfigError,
        DamageError,
        ModelError,
        NotFoundError,
        RoundError,
        ServiceError,
        StreamError,
        UnknownDocumentError,
    )
    from cmt.workspace import Workspace, open

# Public name, if it is no error → its module, imported when the name is first used: torch and
# LanceDB take seconds.
_MODULES = {
    "Answer": "cmt.answering.answer",
    "Params": "cmt.config",
    "Round": "cmt.bank.rounds",
    "Source": "cmt.answering.answer",
    "Workspace": "cmt.workspace",
    "load_params": "cmt.config",
    "open": "cmt.workspace",
}

__all__ = [
    "Answer",
    "BankError",
    "CmtError",
    "ConfigError",
    "DamageError",
    "ModelError",
    "NotFoundError",
    "Params",
    "Round",
    "RoundError",
    "ServiceError",
    "Source",
    "StreamError",
    "UnknownDocumentError",
    "Workspace",
    "__version__",
    "load_params",
    "open",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES.get(name, "cmt.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
