"""Pictures in a column of a Parquet file: encoded bytes, or the struct of bytes and path that Hugging Face writes."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vae_serve.errors import ImageError, SourceError
from vae_serve.sources.files import Stamp
from vae_serve.sources.names import Labels, Names, Numbers

_COLUMNS = ("image", "img", "bytes", "png", "jpg", "jpeg")
_LABELS = ("label", "labels", "class", "fine_label")


class Table:
    """The rows of a Parquet file, in its own order; their names are their numbers."""

    kind = "parquet"

    def __init__(self, path: Path) -> None:
        """Opens the file and finds its column of pictures.

        Raises:
            SourceError: it is damaged, or has no such column.
        """
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False)  # no threads: processes are forked off
            self._column = _image_column(path, self._file.schema_arrow)
            self._label = next((name for name in _LABELS if name in self._file.schema_arrow.names), None)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {error}") from error
        about = self._file.metadata
        sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)  # of each row group, and the end
        if not self._starts[-1]:
            raise SourceError(f"{path} has no rows")
        self.names: Names = Numbers(int(self._starts[-1]))
        self.skipped: Counter[str] = Counter()
        self._stamp = (path.stat().st_size, path.stat().st_mtime_ns)
        self._path = path
        self._read_group: tuple[int, str] = (-1, "")
        self._values: Any = None

    def labels(self, rows: range) -> Labels:
        """The label column as text."""
        if self._label is None:
            return Labels.of([None] * len(rows))
        found = (value.as_py() for value in self._rows(rows, self._label))
        return Labels.of(None if value is None else str(value).encode() for value in found)

    def read(self, rows: range) -> Iterator[bytes | ImageError]:
        """Each row's bytes, or why there are none: `empty`, `unreadable`."""
        try:
            values = list(self._rows(rows, self._column))
        except (pa.ArrowException, OSError) as error:
            for _ in rows:
                yield ImageError("unreadable", f"its row group cannot be read: {error}")
            return
        for value in values:
            found = value.as_py()
            data = found["bytes"] if isinstance(found, dict) else found
            yield data if data else ImageError("empty", "the row holds no bytes")

    def stamps(self, rows: range) -> Iterator[Stamp] | None:
        """None: the fingerprint covers the file."""
        return None

    def fingerprint(self) -> str:
        """The number of rows, and the file's size and time of change."""
        return f"{self.names.count} {self._stamp}"

    def _rows(self, rows: range, column: str) -> Iterator[Any]:
        """The values of some rows, a row group at a time; the last one is kept, as the next rows lie in it, too."""
        at = rows.start
        while at < rows.stop:
            group = int(np.searchsorted(self._starts, at, side="right")) - 1
            if self._read_group != (group, column):
                self._values = self._file.read_row_group(group, [column], use_threads=False).column(0)
                self._read_group = (group, column)
            first = int(self._starts[group])
            stop = min(rows.stop, int(self._starts[group + 1]))
            yield from self._values[at - first : stop - first]
            at = stop


def _image_column(path: Path, schema: Any) -> str:
    def fits(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return bool(kind.get_field_index("bytes") >= 0)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [field.name for field in schema if fits(field.type)]
    named = [name for name in _COLUMNS if name in fitting]
    if named or len(fitting) == 1:
        return str((named or fitting)[0])
    raise SourceError(
        f"{path} has {len(fitting) or 'no'} columns of pictures (bytes, or a struct with bytes) "
        f"among {', '.join(schema.names)}; name one of them `image`"
    )
