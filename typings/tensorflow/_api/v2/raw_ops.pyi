from tensorflow import Tensor, _Operand

def ResourceApplyAdam(
    *,
    var: Tensor,
    m: Tensor,
    v: Tensor,
    beta1_power: _Operand,
    beta2_power: _Operand,
    lr: _Operand,
    beta1: _Operand,
    beta2: _Operand,
    epsilon: _Operand,
    grad: _Operand,
) -> object: ...
