from email.message import EmailMessage
from pathlib import Path

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
