from collections.abc import Iterator

from tensorflow import Tensor

class TFRecordDataset:
    def __init__(self, filenames: str) -> None: ...
    def __iter__(self) -> Iterator[Tensor]: ...
