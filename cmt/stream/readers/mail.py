"""E-mail: single messages (EML) and mailboxes (mbox), with the names of the schema."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage

from cmt.stream.limits import Limits
from cmt.stream.readers.files import Record
from cmt.stream.readers.text import decode, plain_text

FROM_LINE = re.compile(rb"^From \S+ .*\d\d:\d\d.*\d{4}.*\r?\n", re.MULTILINE)


def read_message(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield a message: its text, or that of its HTML; attachments and addresses are left out. Raises ValueError."""
    try:
        message = email.message_from_bytes(data, policy=email.policy.default)
        part = message.get_body(("plain", "html"))
        content = part.get_payload(decode=True) if part else b""
        headers = {key: _header(message, key) for key in ("subject", "date", "message-id")}
    except RecursionError:
        raise ValueError(f"{name} is a message of too deeply nested parts") from None
    content = content if isinstance(content, bytes) else b""
    try:
        text = content.decode((part and part.get_content_charset()) or "utf-8")
    except (LookupError, UnicodeDecodeError):
        text = decode(content)[0]
    if part and part.get_content_type() == "text/html":
        text = plain_text(text)
    if not text.strip():
        raise ValueError(f"{name} is a message without text")
    fields = {
        "doc_id": headers["message-id"].strip().strip("<>"),
        "title": headers["subject"],
        "text": text.replace("\r\n", "\n").strip(),
        "published_at": headers["date"],
    }
    yield Record({key: value for key, value in fields.items() if value}, name)


def _header(message: EmailMessage, key: str) -> str:
    try:
        return str(message[key] or "")
    except Exception:  # email raises many types for a malformed one
        return str(next((value for name, value in message.raw_items() if name.lower() == key), ""))


def read_mailbox(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the messages of a mailbox; one that cannot be read is a record with an error."""
    for number, message in enumerate(FROM_LINE.split(data)[1:], 1):
        where = f"{name} row {number}"
        try:
            yield from read_message(re.sub(rb"^>(>*From )", rb"\1", message, flags=re.MULTILINE), where, limits)
        except (ValueError, LookupError) as error:
            yield Record({}, where, str(error))
