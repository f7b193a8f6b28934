"""The type of the record batches that `embed` yields. They are `pyarrow.RecordBatch`es, and pyarrow ships no types."""

from typing import Any, Protocol


class RecordBatch(Protocol):
    """A `pyarrow.RecordBatch`: what of it is used most, for type checkers."""

    @property
    def num_rows(self) -> int:
        """How many rows."""

    @property
    def schema(self) -> Any:
        """Its `pyarrow.Schema`."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: str, /) -> Any:
        """A column, a `pyarrow.Array`."""

    def column(self, name: str, /) -> Any:
        """A column, a `pyarrow.Array`."""

    def to_pylist(self) -> list[dict[str, Any]]:
        """A dictionary for each row."""

    def to_pydict(self) -> dict[str, list[Any]]:
        """A list for each column."""

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`."""
