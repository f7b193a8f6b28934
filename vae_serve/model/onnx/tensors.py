"""What is known of a tensor before anything runs: dtype, shape, and the bytes of a stored one."""

import math
import re
import struct
from typing import Any

import msgspec

DTYPES = {1: "float32", 2: "uint8", 6: "int32", 7: "int64"}  # TensorProto.DataType; what exports hold
ITEM_BYTES = {"float32": 4, "uint8": 1, "int32": 4, "int64": 8}
BATCH = "batch"  # the one symbolic axis, always the first
RANK_LIMIT = 8
# To what channels and columns are filled up at most (MlasNchwcGetBlockSize, MlasGemmPackBSize in onnxruntime/core/mlas)
BLOCK = 16
INTEGERS_LIMIT = 2 * RANK_LIMIT  # of a vector that an operator reads as sizes, axes or places

Shape = tuple[int | str, ...]

_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of a graph: of each row of the batch, or else stored in the file."""

    dtype: str
    inside: tuple[int, ...]  # sizes without the batch axis, each at least 1
    stored: memoryview | None = None  # its little-endian bytes; None: it depends on the batch

    @property
    def shape(self) -> Shape:
        """With the batch axis where it has one."""
        return self.inside if self.stored is not None else (BATCH, *self.inside)

    @property
    def bytes(self) -> int:
        """Of one row, or of all where it is stored."""
        return math.prod(self.inside) * ITEM_BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        """Of one row as ONNX Runtime may hold it: a feature map in blocks of channels, the last one filled up."""
        if self.dtype != "float32" or len(self.inside) != 3:
            return self.bytes
        channels, height, width = self.inside
        return 4 * in_blocks(channels) * height * width

    def integers(self) -> tuple[int, ...]:
        """The values of a stored vector of sizes, axes or places; raises ValueError for any other tensor."""
        fine = self.stored is not None and self.dtype == "int64" and len(self.inside) == 1
        if not fine or self.inside[0] > INTEGERS_LIMIT:
            raise ValueError(f"a stored vector of int64 belongs where {self} stands")
        return struct.unpack(f"<{self.inside[0]}q", self.stored or b"")

    def number(self, dtype: str) -> float:
        """The value of a stored scalar; raises ValueError for any other tensor."""
        if self.stored is None or self.dtype != dtype or self.inside:
            raise ValueError(f"a stored {dtype} scalar belongs where {self} stands")
        value: float = struct.unpack({"float32": "<f", "uint8": "<B"}[dtype], self.stored)[0]
        if not math.isfinite(value):
            raise ValueError(f"the scalar {value}")
        return value

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def in_blocks(size: int) -> int:
    """Channels or columns as the kernels of ONNX Runtime take them."""
    return -(-size // BLOCK) * BLOCK


def checked_name(name: str | None) -> str:
    """The name of a tensor; raises ValueError where it is none that every reader and every terminal takes alike."""
    if not name or not _NAME.fullmatch(name):
        raise ValueError(f"a tensor is named {(name or '')[:80]!r}")
    return name


def stored_tensor(message: Any) -> tuple[str, Tensor]:
    """Name and tensor of a TensorProto whose declared and stored sizes agree; raises ValueError."""
    name, dims = checked_name(message.name), tuple(message.dims)
    if message.external_data or message.data_location:
        raise ValueError(f"{name} points to external data; weights stand in the file itself")
    if message.data_type not in DTYPES:
        raise ValueError(f"{name} is of a type ({message.data_type}) that is not used")
    if len(dims) > RANK_LIMIT or min(dims, default=1) < 1:
        raise ValueError(f"{name} has the shape {dims[: RANK_LIMIT + 1]}")
    data = memoryview(b"") if message.raw_data is None else message.raw_data
    tensor = Tensor(DTYPES[message.data_type], dims, data)
    if tensor.bytes != len(data):
        raise ValueError(f"{name} declares {tensor.bytes:,} bytes and stores {len(data):,}")
    return name, tensor


def port(message: Any) -> tuple[str, Tensor]:
    """Name and tensor of a ValueInfoProto, an input or output of the graph; raises ValueError."""
    name = checked_name(message.name)
    tensor = message.type and message.type.tensor_type
    if not tensor or tensor.shape is None:
        raise ValueError(f"{name} is not a tensor with a shape")
    if tensor.elem_type not in DTYPES:
        raise ValueError(f"{name} is of a type ({tensor.elem_type}) that is not used")
    dims = [dim.dim_value if dim.dim_param is None else dim.dim_param for dim in tensor.shape.dim]
    fine = dims[:1] == [BATCH] and all(isinstance(size, int) and size > 0 for size in dims[1:])
    if not fine or not 1 < len(dims) <= RANK_LIMIT:
        raise ValueError(f"{name} has the shape {dims[: RANK_LIMIT + 1]!r:.120}, not ({BATCH}, sizes of at least 1)")
    return name, Tensor(DTYPES[tensor.elem_type], tuple(dims[1:]))
