"""The columns of a source, matched with those of the schema by their names.

A row with a question is a question, any other a document. Each row is matched by the columns that
it fills. Between two columns that may both hold the text nothing is guessed: the row is rejected.
Columns without a role are read by `cmt.stream._unnamed_columns`.
"""

import difflib
import re
from collections import ChainMap, Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args
from unicodedata import combining, normalize

from cmt.config import Column
from cmt.stream._unnamed_columns import (
    MOST_LINES,
    Others,
    id_of,
    may_be_id,
    may_have_line,
    told,
)
from cmt.stream.schema import DOCUMENT_SCHEMA, QUESTION_SCHEMA, Notes, is_blank, joined, unwrap
from cmt.text.date_formats import WITHOUT_ZONE

Kind = Literal["document", "question"]

# the first line with a column of the row counts; the last two are the text of a row without a
# better one
_TEXT = (
    "text",
    "body content article maintext fulltext articlebody articletext bodytext contenttext "
    "textcontent story plaintext "
    "inhalt volltext texte contenu texto contenido cuerpo testo tekst",
    "contentencoded contenthtml bodyhtml html",
    "context message post leadparagraph paragraph transcript",
    "description summary abstract snippet excerpt standfirst teaser trailtext highlights",
    "comment",
)
MODIFIED_AT = "modified_at"
"""Key of the value, not a column of the schema, that says when the document of a row changed."""
_MODIFIED = "updatedat updated updatedate datemodified modified modifiedat lastmodified lastmod"
_NAMES = {  # in this order
    "document": {
        "published_at": "publishedat published datepublished publisheddate publicationdate "
        "publishdate publishedon "
        "pubdate webpublicationdate firstpublished articlepublishedtime date dcdate datetime "
        "timestamp createdat "
        "created creationdate createddate time ts postdate posted datum veroffentlicht "
        "veroeffentlicht "
        "veroffentlichungsdatum erschienen erscheinungsdatum datepublication publie fecha "
        "fechapublicacion publicado "
        "datapublicacao pubblicato datapubblicazione gepubliceerd publicerad "
        "datecreated createdtime createdon createdutc dateadded "
        f"{_MODIFIED}",
        "title": "title headline webtitle heading subject ogtitle dctitle titel titre titulo "
        "titolo uberschrift "
        "ueberschrift schlagzeile name",
        "url": (
            "url link weburl htmlurl permalink canonicalurl articleurl articlelink pageurl "
            "sourceurl href uri"
        ),
        "doc_id": "docid id documentid articleid guid uuid identifier dcidentifier externalid",
        "supersedes": "supersedes replaces supersedesid replacesid corrects correctionof",
        "source": "source publisher publication outlet sitename newspaper",
        MODIFIED_AT: _MODIFIED,
    },
    "question": {
        "question": "question",
        "answers": "answers answer",
        "asked_at": "askedat askedon date timestamp createdat time",
        "doc_id": "docid documentid articleid document",
        "question_id": "questionid id qid qaid",
    },
}
_COLUMNS = {
    name: column
    for column, names in (
        *reversed(_NAMES["document"].items()),
        ("summary", " ".join(_TEXT[-2:])),
        ("text", " ".join(_TEXT[:-2])),
    )
    for name in names.split()
}  # name → column
_CONTAINERS = {
    "fields",
    "attributes",
    "properties",
    "data",
    "_source",
    "article",
    "post",
    "item",
    "node",
    "record",
}
"""Keys of objects whose keys count as columns."""
_BEFORE_DATE = re.compile(r"(?<=[^\W_])[\s_-]+(?:am|vom|le|el|il|em|op|den)$")
_DRAFT = {
    **dict.fromkeys(("draft", "isdraft"), ("true", "1", "yes")),
    **dict.fromkeys(("published", "ispublished"), ("false", "0", "no")),
    **dict.fromkeys(("status", "poststatus"), ("draft", "auto-draft", "trash")),
}  # key → its values in a row that is not published
_OWN = frozenset({*DOCUMENT_SCHEMA.names, *QUESTION_SCHEMA.names} - {"sha256"})
_PLAIN_FORMS = {"ISO 8601", "plain date", "timestamp"}
_LISTED, _LONGEST = 8, 100  # names in a message, and characters of one


class Record(NamedTuple):
    """One record of a source as it is written there, before its fields are matched with the schema.

    A record without fields and error holds only `left_out`.
    """

    fields: dict[str, Any]
    """Raw keys and values; readers of pages, feeds and mail use the names of the schema."""
    where: str  # `feed.xml row 3`, or `pages.zip/news/a.html` inside a folder or archive
    error: str | None = None  # why the record could not be read, and what to do
    left_out: tuple[str, ...] = ()
    """Parts of the file that are not documents; one record of the file lists them all."""
    is_row: bool = True
    """Whether its fields are columns of a table, not the front matter of a text."""


class Match(NamedTuple):
    """A row, matched with the schema."""

    kind: Kind
    values: Mapping[str, Any]  # column of the schema → value
    others: Others = Others()


def column_of(key: str) -> str | None:
    """The document's column that a source calls `key`: `url` for `permalink`, `summary` for a text
    of last resort.
    """
    return _COLUMNS.get(_name(key))


def is_draft(fields: Mapping[Any, Any]) -> bool:
    """Whether a row or front matter says that it is not published: `draft: true`, `published: 0`,
    `status: draft`.
    """
    names = ((str(key).casefold().replace("_", ""), value) for key, value in fields.items())
    return any(name in _DRAFT and _word(value) in _DRAFT[name] for name, value in names)


def is_flag(key: str, value: Any) -> bool:
    """Whether a column of dates holds true or false instead; `published` may also hold 1, 0, yes or
    no.
    """
    word = _word(value)
    return word in ("true", "false") or (
        word in ("1", "0", "yes", "no") and _name(key) == "published"
    )


def _word(value: Any) -> str:
    return str(value).strip().casefold() if isinstance(value, str | int) else ""


class Columns:
    """Matches the rows of an ingest and counts what was matched."""

    def __init__(
        self, chosen: Mapping[Any, str] | None = None, *, used: Collection[str | None] = ()
    ) -> None:
        """`chosen`: column of the schema → column of the source, `fields.body` inside an object;
        blank: not read. Of the text, several columns with commas between them. `used`: columns that
        serve the source itself, such as its cursor; they become no lines of the text.
        """
        self._chosen: dict[str, str] = {**(chosen or {})}
        self._used = used
        self._found: set[str] = set()
        self._match = lru_cache(maxsize=1_000)(self._match_shape)
        self._matched: Counter[tuple[str, str]] = Counter()
        self._unread: Counter[str] = Counter()
        self._lines: Counter[str] = Counter()
        self._apart = 0

    def match(self, fields: Mapping[str, Any], *, is_row: bool = True) -> Match:
        """The kind of a row, its values by column of the schema, and its columns without a role, if
        it `is_row`. Raises ValueError if it has no text, or two.
        """
        if not self._chosen and fields.keys() <= _OWN | {MODIFIED_AT}:
            is_question = "question" in fields and not (
                "text" in fields and is_blank(fields["question"])
            )
            return Match("question" if is_question else "document", fields)
        filled = _flat(fields)
        kind, keys, unread, rivals, lines = self._match(tuple(filled))
        if len({str(filled[key]) for key in rivals}) > 1:
            raise ValueError(
                f"the text may be {_listed(rivals, ' or ')}: choose one with --map text="
                f"{_listed(rivals[:1])} or stream.columns"
            )
        if kind == "document" and "text" not in keys and "text" not in fields:
            names = _listed([repr(key) for key in fields if isinstance(key, str)])
            raise ValueError(
                f"no text in its columns, {names or 'which are empty'}: name one with --map "
                "text=COLUMN"
            )
        others = Others()
        if is_row and kind == "document":
            given = {key: text for key in lines if (text := told(filled[key]))}
            ids = {key: value for key in unread if may_be_id(key) and (value := id_of(filled[key]))}
            others = Others(given, {} if "doc_id" in self._chosen else ids)
        self._matched.update(keys.items())
        self._lines.update(others.lines.keys())
        self._unread.update(key for key in unread if key not in others.lines)
        values = {column: filled[key] for column, key in keys.items()}
        if "text" in values:
            values["text"] = joined(values["text"])
        return Match(kind, values, others)

    def note(self, rows: int, id_column: str | None, apart: int) -> None:
        """Count the rows of a file with ids from `id_column`, and the rows that differ only in
        their titles.
        """
        if id_column:
            self._matched["doc_id", id_column] += rows
        self._apart += apart

    def matched(self, notes: Notes) -> str:
        """What was read from which column, and in which form its dates were; blank for the columns
        of the schema.
        """
        parts = []
        for column in dict.fromkeys((*DOCUMENT_SCHEMA.names, *QUESTION_SCHEMA.names)):
            forms, keys = (
                [name for (of, name), _ in counts.most_common() if of == column]
                for counts in (notes.forms, self._matched)
            )
            if set(keys) - {column} or set(forms) - _PLAIN_FORMS:
                form = f" ({', '.join(forms)})" if forms else ""
                parts.append(f"{column} ← {_listed(keys or [column], ' or ')}{form}")
        return ", ".join(parts)

    def chosen(self) -> dict[Column, str]:
        """Column of the schema → the column of another name that most rows have for it, for
        `stream.columns`.
        """
        commonest = dict(reversed([pair for pair, _ in self._matched.most_common()]))
        if self._lines and "text" in commonest:
            lines = [key for key in sorted(self._lines) if "," not in key]
            commonest["text"] = ",".join([commonest["text"], *lines])
        return {
            column: commonest[column]
            for column in get_args(Column)
            if commonest.get(column, column) != column
        }

    def notices(self, notes: Notes) -> list[str]:
        """One line each: the columns that are not read, values that were changed or left out, dates
        without a zone.
        """
        lines = []
        if self._unread:
            unread = [key for key, _ in self._unread.most_common()]
            for number, key in enumerate(unread[:_LISTED]):
                if meant := _meant(key):
                    unread[number] = f"{key} (did you mean {meant}?)"
            lines.append(f"not read: {_listed(unread)}")
        if self._lines:
            told_columns = [key for key, _ in self._lines.most_common()]
            lines.append(f"read as lines of the text: {_listed(told_columns)}")
        if self._apart:
            lines.append(
                f"{self._apart:,} × a row without an id has the text of another row with another "
                "title, and is a document of its own; name a column of ids with --map "
                "doc_id=COLUMN"
            )
        lines += [
            f"{count:,} × {change}, such as {notes.examples[change]}"
            for change, count in notes.changes.items()
        ]
        wanted = {key for key in self._chosen.values() if key}
        texts = self._chosen.get("text", "")
        if texts not in self._found and self._found.intersection(map(str.strip, texts.split(","))):
            wanted = wanted - {texts} | {name.strip() for name in texts.split(",")}
        if missing := sorted(wanted - self._found):
            lines.append(
                f"no row has the column {_listed(missing)}, which --map or stream.columns names"
            )
        if zoneless := sum(
            count for (_, form), count in notes.forms.items() if form.endswith(WITHOUT_ZONE)
        ):
            lines.append(f"{zoneless:,} × a date has no time zone and is read in stream.timezone")
        return lines

    def _match_shape(
        self, shape: tuple[str, ...]
    ) -> tuple[Kind, dict[str, str], list[str], list[str], list[str]]:
        """The kind of the rows with these columns, column of the schema → column, unread columns,
        rival texts, and the columns that become lines of the text.
        """
        # 1. the columns that the user chose, which serve no other purpose
        chosen = {column: key for column, key in self._chosen.items() if key in shape}
        named = [] if "text" in chosen else self._chosen.get("text", "").split(",")
        texts = [name for name in map(str.strip, named) if name in shape]
        if texts and texts[0] == named[0].strip():
            chosen["text"] = texts[0]
        self._found.update(chosen.values(), texts)
        rest = [key for key in shape if key not in chosen.values()]
        by_name = {_name(key): key for key in reversed(rest)}
        is_question = "question" in by_name or "question" in chosen
        kind: Kind = "question" if is_question else "document"
        read = {*_NAMES[kind], "text"}
        keys = {column: key for column, key in chosen.items() if column in read}
        # 2. the text
        unwanted = {column for column, key in self._chosen.items() if key == ""}
        rivals: list[str] = []
        if kind == "document" and "text" not in {*keys, *unwanted}:
            title, rivals = _text_columns(rest)
            keys = {**title, **keys}
            if rivals or texts:
                keys["text"] = (rivals or texts)[0]
        # 3. the other columns by their names
        _add_by_name(keys, by_name, _NAMES[kind], unwanted)
        # 4. columns that become lines of the text: the user's choice, or else all without a role
        unread = _unread(shape, (*keys.values(), *rivals))
        if self._chosen.get("text"):
            return kind, keys, unread, rivals, [key for key in texts if key != keys.get("text")]
        others = [key for key in shape if key not in (*keys.values(), *rivals)]
        if self._chosen.get("doc_id") in shape:
            others.append(self._chosen["doc_id"])
        lines = [key for key in others if _has_no_role(key) and key not in self._used]
        return kind, keys, unread, rivals, lines[:MOST_LINES]


def _unread(shape: Sequence[str], keys: Collection[str]) -> list[str]:
    """The columns of `shape` of which nothing is in `keys`."""
    used = {*keys, *(key.partition(".")[0] for key in keys)}
    return [key for key in shape if not key.partition(".")[2] and key not in used]


def _has_no_role(key: str) -> bool:
    """Whether a column, by its name, may be read as a line of the text."""
    outer, _, inner = key.partition(".")
    if inner and outer.casefold() not in _CONTAINERS:
        return False
    return column_of(key) is None and may_have_line(key) and not _meant(key)


def _meant(key: str) -> str | None:
    """The column of the schema of which `key` is a misspelling."""
    close = difflib.get_close_matches(key[:_LONGEST].casefold(), sorted(_OWN), n=1, cutoff=0.8)
    return close[0] if close and _name(close[0]) != _name(key) else None


def _add_by_name(
    keys: dict[str, str],
    by_name: Mapping[str, str],
    names_of: Mapping[str, str],
    unwanted: Collection[str],
) -> None:
    """Add column → key to `keys` for each column that it lacks and one of whose names occurs."""
    for column, names in names_of.items():
        if column in keys or column in unwanted:
            continue
        for name in names.split():
            if name in by_name:
                keys[column] = by_name[name]
                break


def _text_columns(keys: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The column of the title of a ticket, which is its summary; and the columns that may hold the
    text, of the first rank in `_TEXT` that has one.
    """
    names = {key: _name(key) for key in keys}
    rivals = list[str]()
    for rank in _TEXT:
        rivals = [key for key in keys if names[key] in rank.split()]
        if rivals:
            break
    by_name = {names[key]: key for key in rivals}
    has_title = not set(names.values()).isdisjoint(_NAMES["document"]["title"].split())
    if by_name.keys() == {"summary", "description"} and not has_title:
        return {"title": by_name["summary"]}, [by_name["description"]]
    return {}, rivals


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not blank, those of an object by `object.key` too. A date of true or
    false is blank.
    """
    own = {
        key: unwrap(value)
        for key, value in fields.items()
        if isinstance(key, str)
        and not is_blank(value)
        and not (isinstance(value, Mapping) and key.casefold() in _CONTAINERS)
        and not (column_of(key) == "published_at" and is_flag(key, value))
    }
    inner = [
        {f"{key}.{name}": unwrap(one) for name, one in value.items() if not is_blank(one)}
        for key, value in fields.items()
        if isinstance(value, Mapping)
    ]
    return dict(ChainMap(own, *inner))


def _name(key: str) -> str:
    """`dcdate` of `dc:date` and `Dc Date`, `bodytext` of `fields.bodyText`, `veroffentlicht` of
    `Veröffentlicht am`.
    """
    outer, _, inner = key.partition(".")
    known = inner if inner and outer.casefold() in _CONTAINERS else key
    if known == "@context":  # of JSON-LD: the address of its vocabulary
        return ""
    plain = "".join(filter(lambda one: not combining(one), normalize("NFKD", known.casefold())))
    return re.sub(r"[^\w.]|_", "", _BEFORE_DATE.sub("", plain))


def _listed(names: list[str], separator: str = ", ") -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return separator.join(name[:_LONGEST] for name in names[:_LISTED]) + more
