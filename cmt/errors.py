"""The errors that a user can act on. Each message says what is wrong, where, and what to do."""

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


class NotFoundError(CmtError):
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


class UnknownDocumentError(BankError):
    """No bank and no slice has the named document."""


class RoundError(CmtError):
    """A round cannot start, is already running in another process, or was refused by its gate."""


class ServiceError(CmtError):
    """A required service (MLflow, Prefect) cannot be reached."""
