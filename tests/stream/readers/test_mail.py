import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from cmt.stream.readers._mail import without_quotes
from cmt.stream.readers.detection import records


def message(text: str = "The bus is late.", subject: str = "Café") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "a@b.example"
    mail["Subject"] = subject
    mail["Date"] = "Sun, 12 Apr 2026 00:50:00 +0000"
    mail["Message-ID"] = "<7@b.example>"
    mail.set_content(text)
    return mail


def test_a_mailbox_gives_its_messages_also_of_an_unknown_charset(tmp_path: Path) -> None:
    odd = message("Käse").as_bytes().replace(b"utf-8", b"no-such-charset")
    start = b"From a@b.example Mon Jan  5 07:00:00 2026\n"
    quoted = message("a\n\n>From here on it is quiet.").as_bytes()
    (tmp_path / "a").write_bytes(
        b"\n".join(start + one for one in (odd, message("").as_bytes(), quoted))
    )
    first, empty, last = records(tmp_path / "a")
    assert first.fields["text"] == "Käse"
    assert empty.error == "a row 2 is a message without text"
    assert (last.fields["text"], last.where) == ("a\n\nFrom here on it is quiet.", "a row 3")


def test_a_malformed_header_ends_no_mailbox(tmp_path: Path) -> None:
    start = b"From a@b.example Mon Jan  5 07:00:00 2026\n"
    odd = [message().as_bytes().replace(b"<7@b.example>", one) for one in (b"<a@[>", b"<>")]
    (tmp_path / "a").write_bytes(
        b"\n".join(start + one for one in (*odd, message("Late.").as_bytes()))
    )
    assert [(one.error, one.fields["text"]) for one in records(tmp_path / "a")][2] == (
        None,
        "Late.",
    )
    assert len([one for one in records(tmp_path / "a") if not one.error]) == 3


MAP = b"\nThe map:", b"Content-Type: image/png\nContent-Disposition: inline\n\nx"
HTML = b"Content-Type: text/html\n\n<p>4 euros.</p>"


@pytest.mark.parametrize(
    ("parts", "text", "left_out"),
    [
        ((*MAP, b"Content-Type: text/plain\n\n4 euros."), "The map:\n\n4 euros.", ()),
        ((*MAP, b"Content-Type: text/plain; name=log.txt\n\nLog"), "The map:", ()),
        (
            (*MAP, b"Content-Type: text/plain\nContent-Disposition: attachment\n\nLog"),
            "The map:",
            (),
        ),
        ((*MAP, HTML), "The map:", ()),
        (
            (*MAP, b"Content-Type: message/rfc822\n\nSubject: Old\n\n3."),
            "The map:",
            ("the attached message 'Old'",),
        ),
        ((HTML, b"Content-Type: text/plain\n\nUnsubscribe."), "4 euros.", ()),
    ],
)
def test_the_text_goes_on_after_a_picture_and_has_no_attachment_or_footer(
    tmp_path: Path, parts: tuple[bytes, ...], text: str, left_out: tuple[str, ...]
) -> None:
    head = b"Subject: Map\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"
    (tmp_path / "a.eml").write_bytes(b"\n--b\n".join((head, *parts)) + b"\n--b--\n")
    [mail] = records(tmp_path / "a.eml")
    assert (mail.fields["text"], mail.left_out) == (text, left_out)


QUOTED = "Hi all,\nthe offsite is on 12 December.\nNora"


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (
            "It is on 19 December.\n\nOn Mon, 2 Nov 2026 at 09:00, Nora <n@a.example>\nwrote:\n\n> "
            + QUOTED.replace("\n", "\n> "),
            "It is on 19 December.",
        ),
        ("> When?\n\nOn 19 December.\n\n> Where?\n\nHere.", "On 19 December.\n\n\nHere."),
        (
            "Great!\n\n________________\nVon: Nora\nGesendet: 2. November\nAn: team\n"
            f"Betreff: Offsite\n\n{QUOTED}",
            "Great!",
        ),
        (
            f"See.\n\n---Original Message---\nFrom: Nora\nSent: Monday\nSubject: Off\n\n{QUOTED}",
            "See.",
        ),
    ],
)
def test_an_earlier_message_below_a_message_is_left_out(text: str, own: str) -> None:
    assert without_quotes(text) == own


@pytest.mark.parametrize(
    "text",
    [
        f"Please read.\n\n---------- Forwarded message ---------\nFrom: Nora\nDate: Monday\n"
        f"Subject: Offsite\n\n{QUOTED}",
        "> All of it is quoted.",
        "From: the station to the hall.\nDate: Monday.",
        "On Monday Nora wrote:\nThe offsite is off.",
    ],
)
def test_a_forwarded_message_and_own_words_stay(text: str) -> None:
    assert without_quotes(text) == text


@pytest.mark.parametrize("part", ["On wrote:\n", "on ", "From: a\n", "_", "-- ", ">\n", "\n"])
def test_no_message_takes_more_than_linear_time(part: str) -> None:
    started = time.process_time()
    without_quotes(part * (100_000 // len(part)))
    assert time.process_time() - started < 1
