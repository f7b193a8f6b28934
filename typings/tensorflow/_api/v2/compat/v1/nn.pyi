from tensorflow import Tensor, _Operand

def fused_batch_norm(
    x: _Operand,
    scale: _Operand,
    offset: _Operand,
    mean: _Operand | None = None,
    variance: _Operand | None = None,
    epsilon: float = 0.001,
    *,
    is_training: bool = True,
) -> tuple[Tensor, Tensor, Tensor]: ...
