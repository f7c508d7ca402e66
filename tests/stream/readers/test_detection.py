import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cmt.config import StreamParams
from cmt.errors import ConfigError, StreamError
from cmt.stream.columns import Record
from cmt.stream.limits import Limits
from cmt.stream.readers.detection import detect, records, records_of
from cmt.stream.schema import Notes
from tests.helpers.permissions import deny_listing
from tests.helpers.rows import write_lines

ROW = {"headline": "Bus", "body": "The bus is late."}
LINES = "".join(json.dumps(ROW) + "\n" for _ in range(2))


def read_only(path: Path, **options: Any) -> Record:
    """The only record of `path`."""
    [record] = records(path, **options)
    return record


def pack(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"a": 1}', "jsonl"),
        ("a.md", "title, text\nBus, late\n", "text"),
        ("a.ndjson", '{"a": "b\u2028c"}\n' * 3, "jsonl"),
        ("a.txt", "title;text\n" + "Bus;The bus\u2028is late.\n" * 3, "csv"),
        ("a", '<?xml version="1.0"?><!-- a --><rss version="2.0">', "feed"),
        ("a", '<?xml version="1.0"?><!DOCTYPE html PUBLIC "a"><html>', "html"),
        ("a", "<div><p>Bus</p></div>", "html"),
        ("a", "Subject: a\n\nText, as one writes it.", "text"),
        ("a", "[A link](b) and, after it, text.", "text"),
        ("a.txt", "[1] The toll is three marks.", "text"),
        ("a.md", "[[A link]] and text.", "text"),
        ("a.md", "<!-- a note -->\n# Title\n\nText.", "text"),
        ("a.md", '<p align="center"><img src="a.png"></p>\n\n# Title', "text"),
        ("a.md", "<!doctype html><p>Bus</p>", "html"),
        ("a.txt", '<?xml version="1.0"?><note>Text.</note>', None),
        ("a.txt", '[{"text": "a"}]', "json"),
        ("a.txt", "Notes, 5 March\n\nThe toll rises to three euros.\n", "text"),
        ("a.txt", "Toll raised to three euros, effective Monday\n", "text"),
        (
            "a.txt",
            "Saltby Ferry, 5 March 2026\n\nThe toll rises, the mayor said.\n\nNot, however, today.",
            "text",
        ),
        ("a.txt", "Rota, May\nAda, Monday\nBo, Tuesday, Friday\n", "text"),
        ("a.txt", "Dear Ann,\nThe bus is late,\nas it always is,\n", "text"),
        ("a.txt", "No. We do not, today.\nNo, not ever.\nNever, at least.\n", "text"),
        ("a.txt", "title,text\nBus,late\nTram,late\n\n", "csv"),
        ("a.txt", "title,text\n" + "Bus,late\n" * 18 + f"Tram,{'late ' * 50_000}\n", "csv"),
        ("a.txt", "{\\rtf1\\ansi The bus is late.}", "rtf"),
        ("a.txt", "a.txt".ljust(257, "\0") + "ustar\0" + "The bus is late. " * 500, "tar"),
        ("a", "Dear Sir, the bus is late.\nIt is, as ever, late.\n", "text"),
    ],
)
def test_the_format_is_found_in_the_content(name: str, text: str, expected: str | None) -> None:
    assert detect(text.encode(), name) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[Content_Types].xml word/document.xml word/embeddings/a.xlsx", "docx"),
        ("[Content_Types].xml xl/workbook.xml", "xlsx"),
        ("[Content_Types].xml ppt/presentation.xml", "pptx"),
        ("[Content_Types].xml a.txt", "zip"),
        ("mimetype content.xml", "odf"),
        ("mimetype META-INF/container.xml", "zip"),
        ("word/a.txt xl/content.xml", "zip"),
    ],
)
def test_the_names_of_its_members_tell_what_a_zip_file_is(
    tmp_path: Path, names: str, expected: str
) -> None:
    data = pack(tmp_path / "a", dict.fromkeys(names.split(), "Late.")).read_bytes()
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        archive.writestr("report", data)
    assert (detect(data, "a"), detect((tmp_path / "stored.zip").read_bytes(), "a")) == (
        expected,
        "zip",
    )


def test_files_of_office_programs_are_refused_by_name_and_of_a_book_only_its_pages_are_read(
    tmp_path: Path,
) -> None:
    path = pack(tmp_path / "a.xlsx", {"[Content_Types].xml": "", "xl/workbook.xml": ""})
    assert read_only(path, format="csv").error == "a.xlsx is a spreadsheet, XLSX: save it as CSV"
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": "<?xml version='1.0'?><container/>",
    }
    parts |= {
        "content.opf": "<?xml version='1.0'?><package/>",
        "a.css": "p {}",
        "a.html": "<p>The bus is late.</p>",
    }
    book = pack(tmp_path / "a.epub", parts)
    assert read_only(book).where == "a.epub/a.html"


def test_a_missing_path_an_unknown_format_and_a_folder_of_hidden_files_are_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / ".hidden").write_text("a")
    for path, message in ((tmp_path / "none", "not found"), (tmp_path, "no files")):
        with pytest.raises(StreamError, match=message):
            list(records(path))
    with pytest.raises(ConfigError, match="unknown format 'xml': use jsonl, json"):
        list(records(tmp_path / ".hidden", format="xml"))


def test_a_folder_that_cannot_be_listed_is_an_error_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.md").write_text("The bus is late.")

    deny_listing(monkeypatch, "closed")
    refused, read = records(tmp_path)
    assert (refused.where, read.where) == ("closed", "open/a.md")
    assert (
        refused.error == f"cannot list {tmp_path}/closed: Permission denied; its files are left out"
    )


def test_of_a_folder_in_the_own_layout_only_these_files_are_read(tmp_path: Path) -> None:
    for name, text in {
        "documents.jsonl": LINES,
        "questions.jsonl": "",
        "notes.md": "Not read.",
        ".git": "",
    }.items():
        (tmp_path / name).write_text(text)
    notes = Notes()
    read = [record.where for record in records(tmp_path, notes=notes)]
    assert read == ["documents.jsonl row 1", "documents.jsonl row 2"]
    assert notes.changes == {"a file is left out, because the folder has documents.jsonl": 1}
    (tmp_path / "documents.jsonl").write_text("")
    assert [record.error for record in records(tmp_path)] == [
        "documents.jsonl is empty",
        "questions.jsonl is empty",
    ]


def test_a_tar_archive_is_read_like_a_zip_file_and_its_links_are_not_followed(
    tmp_path: Path,
) -> None:
    for name in ("a.md", "2026-03-04/b.md", ".hidden", "c.md"):
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / name).write_text("The bus is late.")
    (tmp_path / "notes/link.md").symlink_to("/etc/hostname")
    for form in ("tar", "gztar", "bztar"):
        path = Path(
            shutil.make_archive(str(tmp_path / "news-2026-11-20"), form, tmp_path / "notes")
        )
        found = {
            record.where.partition("/")[2]: record.fields.get("published_at")
            for record in records(path)
        }
        assert found == {"a.md": None, "2026-03-04/b.md": "2026-03-04", "c.md": None}
    # what leads out is refused, and what is cut off loses no other file
    with tarfile.open(tmp_path / "out.tar", "w") as archive:
        for name in ("../b.md", "/b.md", "b.md"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"Late"))
    *refused, read = records(tmp_path / "out.tar")
    assert (
        all("leads out of the archive" in str(record.error) for record in refused)
        and len(refused) == 2
    )
    assert read.fields["text"] == "Late"
    (tmp_path / "cut.tar").write_bytes((tmp_path / "out.tar").read_bytes()[: 5 * 512 + 2])
    assert "cut.tar cannot be read as tar (ReadError" in str(
        [*records(tmp_path / "cut.tar")][-1].error
    )


def test_bombs_and_deep_archives_are_refused(tmp_path: Path) -> None:
    limits = Limits(StreamParams(file_megabytes=1))
    path = pack(tmp_path / "a.zip", {f"{number}.txt": "a" * 300_000 for number in range(4)})
    *read, refused = records(path, limits=limits)
    assert len(read) == 3
    assert "more than 1 MB" in str(refused.error)
    data = LINES.encode()
    for _ in range(5):
        data = gzip.compress(data)
    (tmp_path / "deep").write_bytes(data)
    assert "deep" in str(read_only(tmp_path / "deep").error)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_that_declares_less_than_it_holds_is_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.txt", "a" * 5_000_000)
        archive.writestr("b.jsonl", LINES, zipfile.ZIP_DEFLATED)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(
        data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    )
    error, *read = records(tmp_path / "a.zip")
    assert "cannot be unpacked" in str(error.error)
    assert len(read) == 2


def test_a_pipe_is_refused_and_the_files_beside_it_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "news.jsonl").write_text(LINES)
    assert "a pipe, a socket or a device" in str(read_only(tmp_path / "pipe.jsonl").error)
    assert [bool(one.error) for one in records(tmp_path)] == [False, False, True]


def test_a_file_dates_its_records_by_its_name_unless_they_have_a_date(tmp_path: Path) -> None:
    (tmp_path / "2026-04-04-bus.md").write_text("The bus is late.")
    rows: list[dict[str, str | None]] = [
        {"body": "a"},
        {"body": "a", "publisher": "x", "sentiment": "x"},
        {"body": "a", "pubDate": "2026-01-01"},
    ]
    rows += [
        {"body": "a", "created_by": "anna", "publication": "x"},
        {"body": "a", "date": "", "published_at": None},
    ]
    write_lines(tmp_path / "news_20260405.jsonl", rows)
    (tmp_path / "2026-02-30-tram.md").write_text("The tram is late.")
    impossible, post, first, second, dated, *others = records(tmp_path)
    assert post.fields == {"text": "The bus is late.", "published_at": "2026-04-04"}
    assert {row.fields["published_at"] for row in (first, second, *others)} == {"2026-04-05"}
    assert len(others) == 2 and "published_at" not in dated.fields | impossible.fields


@pytest.mark.parametrize(
    ("name", "day_first", "day"),
    [
        ("07 Nov 2026", None, "2026-11-07"),
        ("boat-25.11.2026", None, "2026-11-25"),
        ("05-11-2026", None, None),
        ("05-11-2026", True, "2026-11-05"),
        ("05-11-2026", False, "2026-05-11"),
        ("1.2.5-2026", None, None),
        ("7 boats 2026", None, None),
    ],
)
def test_the_day_may_come_first_in_the_name_of_a_file(
    name: str, day_first: bool | None, day: str | None
) -> None:
    limits = Limits(StreamParams(day_first=day_first))
    (record,) = records_of(b"The boat needs oil.", f"{name}.md", limits=limits)
    assert record.fields.get("published_at") == day


@pytest.mark.parametrize(
    ("outranks", "fields"),
    [
        (
            False,
            (
                "published: true; Validated: 'FALSE'; reading_time: 4.5; readtime: 3-5 min;"
                " update_interval: 3600"
            ),
        ),
        (False, "published: 1; published: 'yes'"),
        (True, "published: 1772697600; created: 1"),
        (False, "updated_by: ana; timezone: +02:00; candidate: Bo"),
        (True, "date: soon; Datum: 5 March; created: [2026-01-02]; post_datum: 05.03.31"),
        (True, "posted_utc: 1772697600; publication_day: March 2026"),
        (True, "_source: {date: 2026-01-02}; data: {created_at: soon}; date: {$date: 2026-01-02}"),
        (False, "_source: {date: null}; image: {date: 2026-01-02}"),
    ],
)
def test_only_a_field_that_may_be_a_date_outranks_the_name_of_the_file(
    tmp_path: Path, outranks: bool, fields: str
) -> None:
    for field in fields.split("; "):
        (tmp_path / "2026-04-04-bus.md").write_text(f"---\n{field}\n---\nThe bus is late.")
        read = read_only(tmp_path / "2026-04-04-bus.md").fields
        assert (read.get("published_at") != "2026-04-04") is outranks, field


def test_folders_date_their_texts_and_the_name_of_an_archive_does_not(tmp_path: Path) -> None:
    written = {
        "2026/05/07/note.txt": "2026-05-07",
        "2026-05-08/a/note.txt": "2026-05-08",
        "2026/05/09/2025-01-02.txt": "2025-01-02",
        "2026/05-11.txt": "2026-05-11",
        "2026-05/12.txt": "2026-05-12",
        "2026/note.txt": None,
        "CVE-2021-0304.txt": None,
        "INC_2026_0412.txt": None,
    }
    for name in written:
        (tmp_path / "notes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "notes" / name).write_text("The bus is late.")
    with zipfile.ZipFile(tmp_path / "notes/export-2026-11-20.zip", "w") as archive:
        archive.writestr("note.txt", "The tram is late.")
        archive.writestr("2026-05-10/note.txt", "The ferry is late.")
    dates = {
        record.where: record.fields.get("published_at") for record in records(tmp_path / "notes")
    }
    assert dates == written | {
        "export-2026-11-20.zip/note.txt": None,
        "export-2026-11-20.zip/2026-05-10/note.txt": "2026-05-10",
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text,date\n{},2031\n{}¤,2031\n"),
        ("a.json", '[{{"text": "{}"}}, {{"text": "Short.", "answers": ["{}¤"]}}]'),
    ],
)
def test_a_record_with_bytes_that_are_not_utf8_is_an_error_at_any_length(
    tmp_path: Path, name: str, content: str
) -> None:
    text = "Café à Noël. " * 300 + "\\n" * name.endswith("json")
    (tmp_path / name).write_bytes(
        content.format(text, text).encode().replace("¤".encode(), b"\xa3")
    )
    good, bad = records(tmp_path / name)
    where = f"line {1 + name.endswith('json')} of a text"
    assert (good.error, bad.error) == (
        None,
        f"not UTF-8: it has the byte 0xa3 in {where}; save the file in one encoding",
    )
    assert len(bad.fields["raw"]) == 2000


def test_a_long_text_is_cut_at_its_chapters_and_markup_in_fields_is_removed(tmp_path: Path) -> None:
    text = f"{'One. ' * 15}\n\n# Two\n\n{'Two. ' * 10}"
    rows = [{"id": 7, "body": text, "title": "Tea &amp; <em>cake</em>"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    read = list(records(tmp_path / "a.json", limits=Limits(StreamParams(document_characters=100))))
    assert [one.fields["id"] for one in read] == [7, "7#2"]
    assert "".join(one.fields["body"] for one in read) == text
    assert read[1].fields["body"].startswith("# Two")
    assert {one.fields["title"] for one in read} == {"Tea & cake"}


def test_the_parts_of_a_long_text_without_an_id_are_named_by_its_address(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "a.jsonl", [{"link": "https://a.example/bus/", "text": "The bus is late. " * 10}]
    )
    first, second = records(
        tmp_path / "a.jsonl", limits=Limits(StreamParams(document_characters=100))
    )
    assert ("doc_id" in first.fields, second.fields["doc_id"]) == (False, "https://a.example/bus#2")


def test_a_row_that_is_a_draft_is_left_out(tmp_path: Path) -> None:
    states: list[dict[str, Any]] = [
        {"status": "Draft"},
        {"post_status": "trash"},
        {"isDraft": True},
        {"published": 0},
    ]
    states += [
        {"status": "publish", "draft": False, "published": 1},
        {"status": 7, "draft": "horse"},
    ]
    write_lines(tmp_path / "2026-04-04.jsonl", [ROW | state for state in states])
    notes = Notes()
    *drafts, first, second = records(tmp_path / "2026-04-04.jsonl", notes=notes)
    assert [one.left_out for one in drafts] == [
        (f"the draft 2026-04-04.jsonl row {n}",) for n in (1, 2, 3, 4)
    ]
    assert not any(one.fields or one.error for one in drafts)
    assert (first.fields["published_at"], second.fields["published_at"]) == (
        "2026-04-04",
        "2026-04-04",
    )
    assert notes.changes == {"part of a file is not a document and is left out": 4}
