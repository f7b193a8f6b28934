"""Which device trains, in which precision, and how several share the work."""

import keras
import tensorflow as tf

from vae_serve.cores import cores
from vae_serve.errors import UsageError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def choose(device: str, precision: str, apart: bool = False) -> tf.distribute.Strategy:
    """Prepares `auto`, `cpu` or `gpu` for training; returns the tf.distribute strategy that covers it.

    Must run before TensorFlow touches a device. On a CPU operations become deterministic, and with `apart` a core each,
    as many at once as there are cores: for a model that cuts its batches into as many `parts`.

    Raises:
        UsageError: `gpu` where there is none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UsageError(
            "--device gpu: TensorFlow finds no GPU; install its CUDA libraries with pip install 'vae-serve[gpu]' "
            "and see that nvidia-smi lists one, or train with --device cpu"
        )
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")
        gpus = []
    keras.config.set_dtype_policy(POLICIES[precision])
    if not gpus:
        tf.config.experimental.enable_op_determinism()
        if apart:
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(cores())
        return tf.distribute.get_strategy()
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
