from collections.abc import Sequence

import tensorflow as tf
from keras import Variable
from keras.optimizers import schedules as schedules

class Optimizer:
    @property
    def iterations(self) -> Variable: ...
    @property
    def learning_rate(self) -> Variable | tf.Tensor: ...  # the latter of a schedule
    @property
    def variables(self) -> list[Variable]: ...
    def build(self, variables: Sequence[Variable]) -> None: ...
    def _get_variable_index(self, variable: tf.Variable) -> int: ...

class Adam(Optimizer):
    _momentums: list[Variable]
    _velocities: list[Variable]
    beta_1: float
    beta_2: float
    epsilon: float
    def __init__(
        self,
        learning_rate: float | schedules.LearningRateSchedule = 0.001,
        *,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        global_clipnorm: float | None = None,
    ) -> None: ...
    def build(self, var_list: Sequence[Variable]) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]
    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None: ...
