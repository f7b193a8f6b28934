from collections.abc import Sequence

from tensorflow import Tensor, _Operand, _Shape

def conv2d(
    input: _Operand, filters: _Operand, strides: Sequence[int], padding: str | Sequence[Sequence[int]]
) -> Tensor: ...
def conv2d_transpose(
    input: _Operand, filters: _Operand, output_shape: _Shape, strides: Sequence[int], padding: str = "SAME"
) -> Tensor: ...
