from collections.abc import Sequence

import tensorflow as tf
from keras import Variable

class SeedGenerator:
    state: Variable
    def __init__(self, seed: int | None = None) -> None: ...

def normal(shape: Sequence[int | tf.Tensor], *, seed: int | SeedGenerator | None = None) -> tf.Tensor: ...
