from email.message import EmailMessage
from pathlib import Path

from cmt.stream.readers import records


def message(text: str = "The bus is late.", subject: str = "Café") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Date"] = "a@b.example", subject, "Sun, 12 Apr 2026 00:50:00 +0000"
    mail["Message-ID"] = "<7@b.example>"
    mail.set_content(text)
    return mail


def test_a_message_gives_its_plain_text(tmp_path: Path) -> None:
    mail = message()
    mail.add_alternative("<p>HTML</p>", subtype="html")
    mail.add_attachment("attached", filename="a.txt")
    (tmp_path / "a").write_bytes(mail.as_bytes())
    [record] = records(tmp_path / "a")
    assert record.fields == {
        "doc_id": "7@b.example",
        "title": "Café",
        "text": "The bus is late.",
        "published_at": "Sun, 12 Apr 2026 00:50:00 +0000",
    }


def test_a_message_of_html_alone_is_read_and_one_without_text_is_an_error(tmp_path: Path) -> None:
    mail = message()
    mail.set_content("<p>The <b>bus</b></p><script>a()</script>", subtype="html")
    (tmp_path / "a").write_bytes(mail.as_bytes())
    (tmp_path / "b").write_bytes(message("").as_bytes())
    html, empty = records(tmp_path)
    assert html.fields["text"] == "The bus"
    assert empty.error == "b is a message without text"


def test_a_mailbox_gives_its_messages_also_of_an_unknown_charset(tmp_path: Path) -> None:
    odd = message("Käse").as_bytes().replace(b"utf-8", b"no-such-charset")
    start = b"From a@b.example Mon Jan  5 07:00:00 2026\n"
    quoted = message("a\n\n>From here on it is quiet.").as_bytes()
    (tmp_path / "a").write_bytes(b"\n".join(start + one for one in (odd, message("").as_bytes(), quoted)))
    first, empty, last = records(tmp_path / "a")
    assert first.fields["text"] == "Käse"
    assert empty.error == "a row 2 is a message without text"
    assert (last.fields["text"], last.where) == ("a\n\nFrom here on it is quiet.", "a row 3")


def test_a_message_of_very_deep_parts_is_an_error(tmp_path: Path) -> None:
    parts = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(2_000))
    (tmp_path / "a").write_text(f"Subject: a\nMIME-Version: 1.0\n{parts}\nText")
    [record] = records(tmp_path / "a")
    assert record.error and "deep" in record.error
