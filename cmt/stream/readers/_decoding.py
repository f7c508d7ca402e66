"""The rows of Parquet and Arrow files, whose bytes are counted while they are decoded.

In both formats a few bytes can expand to gigabytes: a repeated value, a compressed buffer.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.stream.columns import Record
from cmt.stream.limits import VALUES_A_ROW, Limits

_BATCH_ROWS = 1_000
_ONCE = {
    "PLAIN",
    "RLE",
    "BIT_PACKED",
    "PLAIN_DICTIONARY",
    "RLE_DICTIONARY",
    "DELTA_LENGTH_BYTE_ARRAY",
}
"""Encodings of strings that Arrow decodes as dictionaries, each value once."""
_MAGIC = b"ARROW1\0\0"  # of a file; a stream follows it
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2  # kinds of a message in Arrow's format


class Unreadable:
    """A value that Arrow stores and Python cannot represent: bytes that are not UTF-8, the year
    290000.
    """

    def __repr__(self) -> str:
        return "an unreadable value"


def read_parquet(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of a Parquet file, whose repeated strings are decoded once. Raises
    StreamError, ArrowException.
    """
    # 1. what the file declares
    source = pa.py_buffer(data)
    metadata, schema = pq.read_metadata(source), pq.read_schema(source)
    limits.check_rows(name, metadata.num_rows, columns=len(schema.names))
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size, widest, dictionaries = 0, 1, list[str]()
    for number in range(metadata.num_columns):
        leaf, chunks = metadata.schema.column(number), [group.column(number) for group in groups]
        size += sum(chunk.total_uncompressed_size for chunk in chunks)
        limits.check_rows(name, sum(chunk.num_values for chunk in chunks) // VALUES_A_ROW)
        if leaf.physical_type == "BYTE_ARRAY" and all(
            set(chunk.encodings) <= _ONCE for chunk in chunks
        ):
            dictionaries.append(leaf.path)
        elif leaf.physical_type == "BYTE_ARRAY":  # each value may repeat the whole chunk
            widest += max((chunk.total_uncompressed_size for chunk in chunks), default=0)
        elif leaf.physical_type == "FIXED_LEN_BYTE_ARRAY":
            widest += leaf.length
    if size > limits.file_bytes:
        raise limits.too_large(name)
    # 2. its batches
    with pq.ParquetFile(source, read_dictionary=dictionaries) as file:
        batch_rows = max(1, min(_BATCH_ROWS, limits.file_bytes // widest))
        yield from _records(file.iter_batches(batch_size=batch_rows), name, limits)


def read_arrow(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of an Arrow file or stream, unless its buffers expand. Raises StreamError,
    ArrowException.
    """
    stream = pa.py_buffer(data)
    if data.startswith(_MAGIC):
        stream = stream.slice(len(_MAGIC))
    size = 0
    for message in pa.ipc.MessageReader.open_stream(stream):
        size += _expanded(message)
        if size > limits.file_bytes:
            raise limits.too_large(name)
    with pa.ipc.open_stream(stream) as reader:
        yield from _records(reader, name, limits)


def _records(batches: Iterable[pa.RecordBatch], name: str, limits: Limits) -> Iterator[Record]:
    """Yield the rows of `batches`, with `Unreadable` in place of some values. Raises StreamError
    above the limits.
    """
    decoder, number = _Decoder(name, limits), 0
    for batch in batches:
        limits.check_rows(name, number + batch.num_rows, columns=batch.num_columns)
        for values in zip(*map(decoder.column, batch.columns), strict=True):
            number += 1
            yield Record(dict(zip(batch.schema.names, values, strict=True)), f"{name} row {number}")


class _Decoder:
    def __init__(self, name: str, limits: Limits) -> None:
        self._name, self._limits, self._left = name, limits, limits.file_bytes

    def column(self, column: pa.Array, *, least: int = 1) -> Iterator[Any]:
        """The values of a column; each counts `least` bytes at least."""
        if pa.types.is_dictionary(column.type):
            for index in column.indices.to_pylist():
                yield None if index is None else self._value(column.dictionary[index])
        elif not _is_plain(column.type):
            yield from map(self._value, column)
        else:
            self._count(column.nbytes + least * len(column))
            if pa.types.is_timestamp(
                column.type
            ):  # a coarser unit that does not fit raises ArrowInvalid
                column = column.cast(
                    pa.timestamp("us", tz=column.type.tz and "UTC"), safe=column.type.unit != "ns"
                )
            try:
                yield from column.to_pylist()
            except (ValueError, OverflowError):
                yield from map(_python_value, column)

    def _value(self, scalar: pa.Scalar) -> Any:
        if not scalar.is_valid:
            return None
        if isinstance(scalar, pa.DictionaryScalar | pa.RunEndEncodedScalar | pa.ExtensionScalar):
            return self._value(scalar.value)
        if isinstance(scalar, pa.ListScalar):
            return list(self.column(scalar.values, least=8))
        if isinstance(scalar, pa.StructScalar):
            return {
                field.name: self._value(scalar[number]) for number, field in enumerate(scalar.type)
            }
        value = _python_value(scalar)
        self._count(len(value) if isinstance(value, str | bytes) else 1)
        return value

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._limits.too_large(self._name)


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return Unreadable()


def _is_plain(kind: pa.DataType) -> bool:
    """Whether the bytes of an array of this type bound the size of its values."""
    types = pa.types
    shared = (
        types.is_string_view(kind) or types.is_binary_view(kind) or types.is_run_end_encoded(kind)
    )
    return not (shared or types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType))


def _expanded(message: pa.Message) -> int:
    """Bytes that the compressed buffers of a message declare, by its flatbuffer (Arrow's format,
    Message.fbs).
    """
    data, body = memoryview(message.metadata), memoryview(message.body or b"")

    def number(form: str, position: int) -> int:
        return int(struct.unpack_from(form, data, position)[0])

    def field(table: int, index: int) -> int:
        fields, entry = table - number("<i", table), 4 + 2 * index
        offset = number("<H", fields + entry) if entry < number("<H", fields) else 0
        return table + offset if offset else 0

    def reference(position: int) -> int:
        return position + number("<I", position)

    root = reference(0)
    kind = data[field(root, 1)] if field(root, 1) else 0
    if kind not in (_RECORD_BATCH, _DICTIONARY_BATCH):
        return 0
    batch = reference(field(root, 2))
    if kind == _DICTIONARY_BATCH:
        batch = reference(field(batch, 1))
    if not field(batch, 3):  # not compressed
        return 0
    buffers, total = reference(field(batch, 2)), 0
    for offset, length in struct.iter_unpack(
        "<qq", data[buffers + 4 :][: 16 * number("<I", buffers)]
    ):
        if length >= 8:  # the length before compression, -1 for a buffer that is not compressed
            total += max(0, struct.unpack_from("<q", body, offset)[0])
    return total
