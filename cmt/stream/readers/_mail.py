"""E-mail: single messages (EML) and mailboxes (mbox), with the names of the schema."""

import email
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage, MIMEPart

from cmt.stream.columns import Record
from cmt.stream.limits import Limits
from cmt.stream.readers._text import decode, plain_text

_ATTRIBUTION = re.compile(
    r"^(?:on|am|le|el|il|op|em)\b[^\n]{0,300}(?:\n[^\n>]{0,100})?"
    r"\b(?:wrote|schrieb|écrit|escribió|scritto|schreef|escreveu)\b[^\n]{0,100}:[ \t]*\n\s*(?=>)",
    re.IGNORECASE | re.MULTILINE,
)
"""The line before a quoted message: `On Mon, 2 Nov 2026 at 09:00, Nora <n@example.org> wrote:`."""
_HEADER = re.compile(
    r"\*?(from|von|de|da|van|sent|gesendet|date|datum|envoyé|enviado|inviato|"
    r"verzonden|subject|betreff|objet|asunto|oggetto|onderwerp|assunto)\b ?:",
    re.IGNORECASE,
)
_SENDERS = {"from", "von", "de", "da", "van"}
_DIVIDER = re.compile(r"(?:[-_*]{2,}.{0,60}[-_*]{2,}|_{10,})[ \t]*")
_FORWARDED = re.compile(r"forwarded message|weitergeleitete nachricht|message transféré", re.I)

FROM_LINE = re.compile(
    rb"^From \S++ (?>.*?\d\d:\d\d)(?>.*?\d{4}).*+\n", re.MULTILINE
)  # the first time and the first year after it; no other ones are tried


def read_message(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield a message: its text, or its HTML as text, without attachments and addresses. Raises
    ValueError.
    """
    try:
        message = email.message_from_bytes(data, policy=email.policy.default)
        parts, attached = _parts(message)
        text = "\n\n".join(filter(None, map(_text, parts)))
        headers = {key: _header(message, key) for key in ("subject", "date", "message-id")}
    except RecursionError:
        raise ValueError(f"{name} is a message of too deeply nested parts") from None
    if not text:
        raise ValueError(f"{name} is a message without text")
    own = without_quotes(text)
    if own != text:
        text, attached = own, (*attached, f"the quoted text in {headers['subject'][:100]!r}")
    fields = {
        "doc_id": headers["message-id"].strip().strip("<>"),
        "title": headers["subject"],
        "text": text,
        "published_at": headers["date"],
    }
    yield Record({key: value for key, value in fields.items() if value}, name, left_out=attached)


def without_quotes(text: str) -> str:
    """What a message adds to the earlier messages that it quotes; a message that adds nothing, and
    one that forwards another, as it is.
    """
    # 1. lines with `>`, and the line before them that says who wrote them
    lines = _ATTRIBUTION.sub("", text).split("\n")
    lines = [line for line in lines if not line.startswith(">")]
    # 2. an earlier message below its headers, at the end
    for number, line in enumerate(lines):
        header = _HEADER.match(line)
        if not header or header[1].lower() not in _SENDERS:
            continue
        headers = {
            found[1].lower()
            for below in lines[number : number + 6]
            if (found := _HEADER.match(below))
        }
        before = [one for one in lines[max(0, number - 4) : number] if one.strip()]
        if len(headers) >= 3 and before and not any(map(_FORWARDED.search, before[-2:])):
            lines = lines[:number]
            break
    while lines and (not lines[-1].strip() or _DIVIDER.fullmatch(lines[-1])):
        lines.pop()
    return "\n".join(lines).strip() or text


def _parts(message: EmailMessage) -> tuple[list[MIMEPart], tuple[str, ...]]:
    """Return the body and the texts after it, such as one below a picture, and the names of
    attached messages.
    """
    # the later one of both kinds may be a footer
    bodies = [message.get_body((kind,)) for kind in ("plain", "html")]
    body = next((part for part in message.walk() if any(part is one for one in bodies)), None)
    parts, attached = list[MIMEPart](), list[str]()
    if body is not None:  # a part without headers is false
        parts.append(body)
    for part in message.walk():
        inner = list(part.iter_parts())
        if part.get_content_type() == "message/rfc822":
            for forwarded in inner:
                attached.append(f"the attached message {_header(forwarded, 'subject')[:100]!r}")
        elif body is not None and body in inner and part.get_content_type() == "multipart/mixed":
            parts += _shown_after(body, inner)
    return parts, tuple(attached)


def _shown_after(body: MIMEPart, parts: list[MIMEPart]) -> list[MIMEPart]:
    """The parts after `body` that a reader sees as text of the same kind."""
    shown = list[MIMEPart]()
    for part in parts[parts.index(body) + 1 :]:
        is_file = part.is_attachment() or part.get_filename()
        if not is_file and part.get_content_type() == body.get_content_type():
            shown.append(part)
    return shown


def _text(part: MIMEPart) -> str:
    content = part.get_payload(decode=True)
    content = content if isinstance(content, bytes) else b""
    try:
        text = content.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        text = decode(content)[0]
    text = plain_text(text) if part.get_content_type() == "text/html" else text
    return text.replace("\r\n", "\n").strip()


def _header(message: MIMEPart, key: str) -> str:
    try:
        return str(message[key] or "")
    except Exception:  # email raises many types for a malformed one
        return str(next((value for name, value in message.raw_items() if name.lower() == key), ""))


def read_mailbox(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the messages of a mailbox; a message that cannot be read becomes a record with an
    error.
    """
    for number, message in enumerate(FROM_LINE.split(data)[1:], 1):
        where = f"{name} row {number}"
        try:
            yield from read_message(
                re.sub(rb"^>(>*From )", rb"\1", message, flags=re.MULTILINE), where, limits
            )
        except (ValueError, LookupError) as error:
            yield Record({}, where, str(error))
