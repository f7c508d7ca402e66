import io
import zipfile
from pathlib import Path

import pypdf
import pytest

from cmt.stream.readers import Record, records


def read(path: Path, text: str | bytes) -> list[Record]:
    """The records of a file with this content."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(records(path))


@pytest.mark.parametrize(
    "front", ["---\ntitle: Bus\ndate: 2026-04-02\n---\n", '+++\ntitle = "Bus"\ndate = 2026-04-02\n+++\n']
)
def test_front_matter_gives_its_keys(tmp_path: Path, front: str) -> None:
    [post] = read(tmp_path / "post.md", f"{front}\n# Heading\n\nText.\n")
    assert post == Record({"title": "Bus", "date": "2026-04-02", "text": "# Heading\n\nText."}, "post.md")


def test_the_first_heading_is_the_title_and_tables_are_lines(tmp_path: Path) -> None:
    [post] = read(tmp_path / "post.md", "# Bus #\n\n| Line | Delay |\n|---|---|\n| 7 | 9 min |\n\nEnd\n")
    assert post.fields == {"title": "Bus", "text": "# Bus #\n\n7: Delay 9 min\n\nEnd"}


@pytest.mark.parametrize(
    "front", ["a: &a [b]\nc: *a", "a: [open", "a: !!python/object/apply:os.system ['touch x']", "a: " + "[" * 20_000]
)
def test_broken_or_hostile_front_matter_is_an_error(tmp_path: Path, front: str) -> None:
    [post] = read(tmp_path / "post.md", f"---\n{front}\n---\nText.\n")
    assert post.error and post.error.startswith("post.md: its front matter cannot be read")


def test_an_error_of_front_matter_quotes_nothing_of_it(tmp_path: Path) -> None:
    [post] = read(tmp_path / "post.md", "---\ntitle: Vell: the mayor\n---\nText.\n")
    reason = "mapping values are not allowed here, line 1"
    assert post.error == f"post.md: its front matter cannot be read ({reason}); correct it"


def test_a_changelog_is_a_document_a_dated_release(tmp_path: Path) -> None:
    text = "# Changelog\n\n## [Unreleased]\n\n## [2.0] - 2026-04-10\n\n- b\n\n## [1.0] - 2026-01-02\n\n### C\n\n- a\n"
    second, first = read(tmp_path / "CHANGELOG.md", text)
    assert second.fields == {
        "title": "[2.0] - 2026-04-10",
        "text": "[2.0] - 2026-04-10\n\n- b",
        "published_at": "2026-04-10",
    }
    assert first.fields["text"].endswith("- a")


def test_pdf_without_text_or_cut_off_is_an_error(tmp_path: Path) -> None:
    buffer, writer = io.BytesIO(), pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.write(buffer)
    [scan] = read(tmp_path / "a.pdf", buffer.getvalue())
    assert scan.error and "OCR" in scan.error
    [torn] = read(tmp_path / "a.pdf", b"%PDF-1.4\n1 0 obj\n<<")
    assert torn.error and "a.pdf is a damaged PDF" in torn.error


def docx(body: str, prolog: str = "") -> bytes:
    """A Word file with this body."""
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        types = f'<Override PartName="/word/document.xml" ContentType="{kind}"/>'
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types">{types}</Types>')
        target = f'<Relationship Id="r" Type="{office}" Target="word/document.xml"/>'
        archive.writestr("_rels/.rels", f'<Relationships xmlns="{package}/relationships">{target}</Relationships>')
        archive.writestr(
            "word/document.xml", f'{prolog}<w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>'
        )
    return buffer.getvalue()


def test_word_files_are_read_with_their_tables(tmp_path: Path) -> None:
    def paragraph(text: str) -> str:
        return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"

    rows = "".join(
        f"<w:tr>{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in row)}</w:tr>"
        for row in (("Area", "Rain"), ("North", "11 litres"))
    )
    [file] = read(tmp_path / "a.docx", docx(f"{paragraph('The rain.')}<w:tbl>{rows}</w:tbl>"))
    assert file == Record({"text": "The rain.\n\nNorth: Rain 11 litres"}, "a.docx")
    [empty] = read(tmp_path / "a.docx", docx(""))
    assert empty.error == "a.docx is a Word file without text"
    [hostile] = read(tmp_path / "a.docx", docx(paragraph("&a;"), '<!DOCTYPE a [<!ENTITY a "b">]>'))
    assert hostile.error and "entities" in hostile.error
