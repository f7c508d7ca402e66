"""The errors that a user can act on. Each message says what is wrong, where, and what to do.

CmtError
 ├─ ConfigError            a parameter or an argument; the CLI exits with 2
 ├─ NotFoundError          also a LookupError: no such slice, round, version or source
 ├─ StreamError            source files, slices, the slice store
 │   ├─ VanishedError      too many documents of a source vanished (cmt.sources.sync)
 │   └─ StatusError        the status of an HTTP response (cmt.sources.web)
 ├─ ModelError             the base LM, the compressor
 ├─ BankError              the memory bank
 │   ├─ DamageError        stored data changed after they were written
 │   ├─ UnknownDocumentError   also a LookupError: no bank and no slice has the document
 │   └─ WriteConflict      another process committed first (cmt.bank.tables)
 ├─ RoundError             a round that cannot start, is running already, or was refused
 └─ ServiceError           MLflow, Prefect
"""

from cmt.common.secrets import mask_secrets


class CmtError(Exception):
    """Base class of all errors that a user can act on; the CLI prints the message and exits with 1.

    Credentials in the message are masked here, so that no terminal, log, trace or HTTP response can
    show them.
    """

    def __init__(self, message: str) -> None:
        super().__init__(mask_secrets(message))


class ConfigError(CmtError):
    """A value in params.yaml or an argument is unknown or out of range; the CLI exits with 2."""


class NotFoundError(CmtError, LookupError):
    """An argument names a round, version, slice or source that the project does not have; the CLI
    exits with 1.
    """


class StreamError(CmtError):
    """A source file, a slice or the slice store cannot be read or written."""


class ModelError(CmtError):
    """The base LM or the compressor is missing, damaged, or belongs to another model."""


class BankError(CmtError):
    """The memory bank cannot be opened, read or written."""


class DamageError(BankError):
    """Stored data changed after they were written. The message says how to repair them; repeating
    does not help.
    """


class UnknownDocumentError(BankError, LookupError):
    """No bank and no slice has the named document."""


class RoundError(CmtError):
    """A round cannot start, is already running in another process, or was refused by its gate."""


class ServiceError(CmtError):
    """A required service (MLflow, Prefect) cannot be reached."""
