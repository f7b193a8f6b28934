"""Pictures in a column of Parquet files: encoded bytes, or the struct of bytes and path that Hugging Face writes."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.described import Unchanged
from vae_serve.sources.files import Stamp
from vae_serve.sources.labels import label_text
from vae_serve.sources.names import Labels, Names, Numbers
from vae_serve.sources.parquet import ARROW_ERRORS
from vae_serve.sources.regular import file_stamp, regular_file

if TYPE_CHECKING:
    from vae_serve.sources.objects.stored import Stored

_COLUMNS = ("image", "img", "bytes", "png", "jpg", "jpeg")
_LABELS = ("label", "labels", "class", "fine_label")

_BATCH = 256  # rows read at a time: a row group may hold gigabytes
_BUFFER = 1 << 20  # bytes of a column that are read at a time
_MOST_ROWS = 10_000  # for each byte of the file, so that a damaged number makes no endless job


@dataclass(frozen=True)
class TableSource:
    """One Parquet file, or several that are read as one table, in this order."""

    paths: tuple[Path, ...]

    def open(self) -> "LocalTable":
        """Raises SourceError where one is damaged, has no column of pictures, or their columns differ."""
        return LocalTable(self.paths)


@contextmanager
def _refusing(path: object) -> Iterator[None]:
    try:
        yield
    except ARROW_ERRORS as error:
        raise SourceError(f"{path} cannot be read as Parquet: {error}") from error


class Table:
    """The rows of Parquet files, in their own order; their names are their numbers."""

    kind = "parquet"

    def __init__(self, files: "Sequence[TableFile]", first_row: int = 0, count: int | None = None) -> None:
        """The files from row `first_row` on of a table of `count` rows, unless they are all of it.

        Raises:
            SourceError: they are not alike, or have no rows.
        """
        self._files = files
        first = files[0]
        self.where = str(first.path)
        for other in self._files[1:]:
            if other.columns != first.columns:
                raise SourceError(
                    f"{first.path} has {first.columns}, {other.path} {other.columns}; to be read as one table they "
                    "must be alike: give one of them"
                )
        sizes = [(file, group, rows) for file in self._files for group, rows in enumerate(file.group_rows)]
        self._groups = [(file, group) for file, group, _ in sizes]
        self._starts = np.cumsum([first_row, *(rows for *_, rows in sizes)])  # of each row group, and the end
        if self._starts[-1] == first_row:
            raise SourceError(f"{first.path} has no rows")
        self.names: Names = Numbers(int(self._starts[-1]) if count is None else count)
        self.skipped: Counter[str] = Counter()

    def labels(self, rows: range) -> Labels:
        """The label column as text, or the names that Hugging Face keeps for its numbers."""
        texts: list[bytes | None] = []
        for _, file, group, part in self._parts(rows):
            values = file.labels.read(group, part)[0] if file.labels else []
            texts += [file.label_text(value) for value in values] + [None] * (len(part) - len(values))
        return Labels.of(texts)

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each row's bytes, or why there are none: `empty`, `unreadable`."""
        for start, file, group, part in self._parts(rows):
            values, why = file.images.read(group, part)
            if file.labels:
                labels, no_label = file.labels.read(group, part)
                self.keep_labels(start, map(file.label_text, labels))
                values, why = values[: len(labels)], why or no_label
            for value in values:
                data = value.get("bytes") if isinstance(value, dict) else value
                yield bytes(data) if data else ImageError("empty", "the row holds no bytes")
            for _ in range(len(values), len(part)):
                yield ImageError("unreadable", f"its row group cannot be read: {why}")

    def keep_labels(self, start: int, labels: Iterable[bytes | None]) -> None:
        """Told the labels of rows from `start` on, when their pictures are read."""

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """None: the fingerprint covers the files."""
        return None

    def mean_length(self, rows: range) -> float:
        """Of the row groups that they lie in, as those state their bytes, the labels' included."""
        parts = list(self._parts(rows))
        total = sum(max(0, file.metadata.row_group(group).total_byte_size) for _, file, group, _ in parts)
        return total / sum(file.group_rows[group] for _, file, group, _ in parts)

    def _parts(self, rows: range) -> Iterator[tuple[int, "TableFile", int, range]]:
        """The first row in each row group that some rows lie in, the group, and which of its rows they are."""
        at = rows.start
        while at < rows.stop:
            number = int(np.searchsorted(self._starts, at, side="right")) - 1
            first, stop = int(self._starts[number]), min(rows.stop, int(self._starts[number + 1]))
            yield at, *self._groups[number], range(at - first, stop - first)
            at = stop


class LocalTable(Table):
    """The rows of files on a disk."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths, self._stamps = paths, []
        files = []
        for path in paths:
            with regular_file(path) as file:  # Arrow would wait at a pipe
                self._stamps.append(file_stamp(file))
            files.append(TableFile(path, lambda path=path: path))  # type: ignore[misc]
        super().__init__(files)

    def select(self, rows: range) -> "Unchanged[LocalTable]":
        """The files, whichever rows they are: their rows have no names of their own."""
        return Unchanged(TableSource(tuple(path.absolute() for path in self._paths)), self.fingerprint())

    def fingerprint(self) -> str:
        """The number of rows, and each file's size and time of change."""
        return f"{self.names.count} {' '.join(map(str, self._stamps))}"


class TableFile:
    """An opened Parquet file, its columns found."""

    def __init__(
        self, path: "Path | Stored", source: Callable[[], Path | RawIOBase], metadata: pq.FileMetaData | None = None
    ) -> None:
        """`source`: what Arrow opens; with `metadata`, which is the file's own, nothing is read yet.

        Raises:
            SourceError: it is damaged, or has no column of pictures.
        """
        self.path = path
        with _refusing(path):
            # no threads: processes are forked off
            opened = pq.ParquetFile(source(), metadata=metadata, pre_buffer=False, buffer_size=_BUFFER)
            schema, self.metadata = opened.schema_arrow, opened.metadata
            image = _image_column(path, schema)
            label = next((name for word in _LABELS for name in schema.names if name.lower() == word), None)
            label_type = None if label is None else schema.field(label).type
            self._class_names = _class_names(schema.metadata, label)
            groups = range(self.metadata.num_row_groups)
            self.group_rows = [self.metadata.row_group(group).num_rows for group in groups]
        size = path.stat().st_size if isinstance(path, Path) else path.size
        if min(self.group_rows, default=0) < 0 or sum(self.group_rows) > _MOST_ROWS * size:
            raise SourceError(f"{path} cannot be read as Parquet: it declares {sum(self.group_rows):,} rows")
        self.columns = f"pictures in {image}, labels in {label} ({label_type})" if label else f"pictures in {image}"
        leaf = f"{image}.bytes" if pa.types.is_struct(_stored(schema.field(image).type)) else image
        self.images = _Column(opened, image, leaf)
        self.labels = None if label is None else _Column(opened, label, label)

    def label_text(self, value: Any) -> bytes | None:
        """A label as text; of a class label its name, and -1 is none."""
        if self._class_names and isinstance(value, int) and -1 <= value < len(self._class_names):
            return None if value == -1 else label_text(self._class_names[value])
        return label_text(value)


class _Column:
    """A column that is read from the beginning of a row group on, some rows at a time; the last ones are kept, as the
    next that are asked for lie among or after them.
    """

    def __init__(self, file: pq.ParquetFile, name: str, leaf: str) -> None:
        self._file, self._name, self._leaf = file, name, leaf
        self._group, self._start = -1, 0
        self._values: list[Any] = []  # from row `_start` of the group on
        self._batches: Iterator[pa.RecordBatch] = iter(())

    def read(self, group: int, rows: range) -> tuple[list[Any], str]:
        """The values of some rows of a row group: of all of them, or of those before damage, and what that is."""
        values: list[Any] = []
        try:
            if group != self._group or rows.start < self._start:
                self._batches = self._file.iter_batches(_BATCH, [group], [self._leaf], use_threads=False)
                self._group, self._start, self._values = group, 0, []
            while True:
                at = rows.start + len(values) - self._start
                values += self._values[at : at + len(rows) - len(values)]
                if len(values) == len(rows):
                    return values, ""
                self._start += len(self._values)
                self._values = next(self._batches).column(self._name).to_pylist()
        except StopIteration:
            why = "it has fewer rows than the file declares"
        except ARROW_ERRORS as error:
            why = str(error)
        self._group = -1
        return values, why


def _stored(kind: pa.DataType) -> pa.DataType:
    """A column's type without a dictionary or an extension's name around it."""
    while True:
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def _is_bytes(kind: pa.DataType) -> bool:
    kind = _stored(kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    kind = _stored(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _contents(kind: pa.DataType) -> pa.DataType | None:
    """The type of a picture's bytes: of a struct that of its field `bytes`, None where it has none."""
    kind = _stored(kind)
    if not pa.types.is_struct(kind):
        return kind
    at = kind.get_field_index("bytes")
    return kind.field(at).type if at >= 0 else None


def _image_column(path: object, schema: pa.Schema) -> str:
    contents = [(field.name, _contents(field.type)) for field in schema]
    fitting = [name for name, kind in contents if kind is not None and _is_bytes(kind)]
    called = [name for word in _COLUMNS for name in fitting if name.lower() == word]
    if called or len(fitting) == 1:
        name = (called or fitting)[0]
        if schema.names.count(name) > 1:
            raise SourceError(f"{path} has two columns called {name}")
        return name
    for name, kind in contents:
        if name.lower() in _COLUMNS and kind is not None and _is_text(kind):
            raise SourceError(f"{path}: the column {name} is text, not bytes; if that is base64, decode it first")
    raise SourceError(
        f"{path} has {len(fitting) or 'no'} columns of pictures (bytes, or a struct with bytes) "
        f"among {', '.join(schema.names)}; name one of them `image`"
    )


def _class_names(metadata: dict[bytes, bytes] | None, label: str | None) -> list[str]:
    """The names of a column's class labels, which Hugging Face keeps beside the schema."""
    try:
        about = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
