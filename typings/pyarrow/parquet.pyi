from collections.abc import Iterator, Sequence
from io import RawIOBase
from os import PathLike
from typing import IO

from pyarrow import RecordBatch, Schema, Table

_Source = str | PathLike[str] | IO[bytes] | RawIOBase

class FileMetaData:
    @property
    def metadata(self) -> dict[bytes, bytes] | None: ...
    @property
    def num_row_groups(self) -> int: ...
    @property
    def num_rows(self) -> int: ...
    def row_group(self, i: int) -> RowGroupMetaData: ...

class RowGroupMetaData:
    @property
    def num_rows(self) -> int: ...
    @property
    def total_byte_size(self) -> int: ...
    def column(self, i: int) -> ColumnChunkMetaData: ...

class ColumnChunkMetaData:
    @property
    def data_page_offset(self) -> int: ...

class ParquetFile:
    def __init__(
        self,
        source: _Source,
        *,
        metadata: FileMetaData | None = None,
        buffer_size: int = 0,
        pre_buffer: bool = True,
    ) -> None: ...
    @property
    def metadata(self) -> FileMetaData: ...
    @property
    def num_row_groups(self) -> int: ...
    @property
    def schema_arrow(self) -> Schema: ...
    def iter_batches(
        self,
        batch_size: int = 65536,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        use_threads: bool = True,
    ) -> Iterator[RecordBatch]: ...
    def read_row_group(self, i: int, columns: Sequence[str] | None = None, use_threads: bool = True) -> Table: ...

class ParquetWriter:
    def __init__(
        self,
        where: str | PathLike[str] | IO[bytes],
        schema: Schema,
        *,
        use_dictionary: bool | Sequence[str] = True,
        compression: str = "snappy",
        write_statistics: bool = True,
        compression_level: int | None = None,
        store_schema: bool = True,
    ) -> None: ...
    def close(self) -> None: ...
    def write_table(self, table: Table, row_group_size: int | None = None) -> None: ...

def read_metadata(where: _Source) -> FileMetaData: ...
def read_schema(where: _Source) -> Schema: ...
def read_table(
    source: _Source,
    *,
    columns: Sequence[str] | None = None,
    use_threads: bool = True,
    memory_map: bool = False,
) -> Table: ...
def write_table(
    table: Table,
    where: str | PathLike[str] | IO[bytes],
    row_group_size: int | None = None,
    *,
    use_dictionary: bool | Sequence[str] = True,
    compression: str = "snappy",
    write_statistics: bool = True,
    compression_level: int | None = None,
    store_schema: bool = True,
) -> None: ...
