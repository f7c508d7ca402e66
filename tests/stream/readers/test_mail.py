from email.message import EmailMessage
from pathlib import Path

import pytest

from cmt.stream.readers import records


def message(text: str = "The bus is late.", subject: str = "Café") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Date"] = "a@b.example", subject, "Sun, 12 Apr 2026 00:50:00 +0000"
    mail["Message-ID"] = "<7@b.example>"
    mail.set_content(text)
    return mail


def test_a_mailbox_gives_its_messages_also_of_an_unknown_charset(tmp_path: Path) -> None:
    odd = message("Käse").as_bytes().replace(b"utf-8", b"no-such-charset")
    start = b"From a@b.example Mon Jan  5 07:00:00 2026\n"
    quoted = message("a\n\n>From here on it is quiet.").as_bytes()
    (tmp_path / "a").write_bytes(b"\n".join(start + one for one in (odd, message("").as_bytes(), quoted)))
    first, empty, last = records(tmp_path / "a")
    assert first.fields["text"] == "Käse"
    assert empty.error == "a row 2 is a message without text"
    assert (last.fields["text"], last.where) == ("a\n\nFrom here on it is quiet.", "a row 3")


def test_a_malformed_header_ends_no_mailbox(tmp_path: Path) -> None:
    start = b"From a@b.example Mon Jan  5 07:00:00 2026\n"
    odd = [message().as_bytes().replace(b"<7@b.example>", one) for one in (b"<a@[>", b"<>")]
    (tmp_path / "a").write_bytes(b"\n".join(start + one for one in (*odd, message("Late.").as_bytes())))
    assert [(one.error, one.fields["text"]) for one in records(tmp_path / "a")][2] == (None, "Late.")
    assert len([one for one in records(tmp_path / "a") if not one.error]) == 3


@pytest.mark.parametrize(
    ("part", "text", "left_out"),
    [
        (b"Content-Type: text/plain\n\nThe rent is 4 euros.", "The map:\n\nThe rent is 4 euros.", ()),
        (b"Content-Type: text/plain; name=log.txt\n\nLog", "The map:", ()),
        (b"Content-Type: text/plain\nContent-Disposition: attachment\n\nLog", "The map:", ()),
        (b"Content-Type: text/html\n\n<p>The map:</p>", "The map:", ()),
        (b"Content-Type: message/rfc822\n\nSubject: Price\n\nOld.", "The map:", ("the attached message 'Price'",)),
    ],
)
def test_the_text_after_a_picture_is_taken(tmp_path: Path, part: bytes, text: str, left_out: tuple[str, ...]) -> None:
    head = b"Subject: Map\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"
    parts = (head, b"\nThe map:", b"Content-Type: image/png\nContent-Disposition: inline\n\nx", part)
    (tmp_path / "a.eml").write_bytes(b"\n--b\n".join(parts) + b"\n--b--\n")
    [mail] = records(tmp_path / "a.eml")
    assert (mail.fields["text"], mail.left_out) == (text, left_out)


def test_a_footer_below_html_is_not_the_text(tmp_path: Path) -> None:
    head = b"Subject: Rent\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"
    parts = (head, b"Content-Type: text/html\n\n<p>4 euros.</p>", b"Content-Type: text/plain\n\nUnsubscribe.")
    (tmp_path / "a.eml").write_bytes(b"\n--b\n".join(parts) + b"\n--b--\n")
    assert [mail.fields["text"] for mail in records(tmp_path / "a.eml")] == ["4 euros."]
