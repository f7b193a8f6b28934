from collections.abc import Callable

import tensorflow as tf

def get(identifier: str) -> Callable[[tf.Tensor], tf.Tensor]: ...
