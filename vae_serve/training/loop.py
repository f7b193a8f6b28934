"""Many training steps in one call: images stay on the device, and a small model does not wait for Python."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from vae_serve.images.pixels import SCALE
from vae_serve.training.model import VariationalAutoencoder

VALIDATION_BATCH = 500


class Loop:
    """The steps of one phase, compiled for its batch size and rules when first called."""

    def __init__(
        self, model: VariationalAutoencoder, batch_size: int, strategy: tf.distribute.Strategy, xla: bool
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.strategy = strategy
        self.replicas = strategy.num_replicas_in_sync
        # XLA takes the step, not the loop around it: on a CPU it has only slow convolutions to put inside a loop.
        # Replicas add up their gradients in the middle of a step, which a function within a function cannot.
        self._step = self._train_step if self.replicas > 1 else tf.function(self._train_step, jit_compile=xla)
        self._terms = tf.function(self._validation_terms, jit_compile=xla)
        self._train = tf.function(self._train_steps, reduce_retracing=True)
        self._validate = tf.function(self._validation_sums, reduce_retracing=True)

    def train(self, images: tf.Tensor, order: tf.Tensor, first: int, count: int) -> tuple[int, dict[str, float]]:
        """`count` steps from step `first` of an epoch; stops after one whose loss is not finite.

        images: (n, H, W, C) uint8 on the device; order: (m,) int32, the rows of the epoch's batches in turn.
        Returns the steps done and the means since `model.reset_metrics()`: loss, reconstruction, kl.
        """
        done = int(self._train(images, order, tf.constant(first), tf.constant(count)))
        return done, {name: float(value) for name, value in self.model.get_metrics_result().items()}

    def validate(self, parts: Iterable[tf.Tensor]) -> dict[str, float]:
        """Means over images, parts of (n, H, W, C) uint8 on the device, the model as it is used: loss and its terms."""
        count, reconstruction, kl = 0, 0.0, 0.0
        for images in parts:
            totals = self._validate(images)
            count, reconstruction, kl = count + len(images), reconstruction + float(totals[0]), kl + float(totals[1])
        reconstruction, kl = reconstruction / count, kl / count
        return {"loss": reconstruction + self.model.beta * kl, "reconstruction": reconstruction, "kl": kl}

    def _train_steps(self, images: tf.Tensor, order: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        share = self.batch_size // self.replicas

        def replica(rows: tf.Tensor) -> tf.Tensor:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            return self._step(tf.gather(images, tf.slice(rows, [number * share], [share])))

        def step(done: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows = tf.slice(order, [(first + done) * self.batch_size], [self.batch_size])
            finite = self.strategy.run(replica, args=(rows,))
            return done + 1, tf.reduce_all(tf.stack(self.strategy.experimental_local_results(finite)))

        done, _ = tf.while_loop(lambda done, finite: (done < count) & finite, step, (tf.constant(0), tf.constant(True)))
        return done

    def _train_step(self, batch: tf.Tensor) -> tf.Tensor:
        means = self.model.train_step(to_model(batch))
        return tf.math.is_finite(means["loss"])  # a mean that was not finite once stays so

    def _validation_sums(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count = tf.shape(images)[0]
        offsets = tf.range(VALIDATION_BATCH)

        def add(start: tf.Tensor, reconstruction: tf.Tensor, kl: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            rows = start + offsets
            terms = self._terms(tf.gather(images, tf.minimum(rows, count - 1)))
            inside = tf.cast(rows < count, tf.float32)
            return (
                start + VALIDATION_BATCH,
                reconstruction + tf.reduce_sum(terms[0] * inside),
                kl + tf.reduce_sum(terms[1] * inside),
            )

        zero = tf.constant(0.0)
        _, reconstruction, kl = tf.while_loop(lambda start, *_: start < count, add, (tf.constant(0), zero, zero))
        return reconstruction, kl

    def _validation_terms(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = to_model(batch)
        reconstruction, kl = self.model.terms(image, self.model(image, training=False))
        return reconstruction, kl


def to_model(pixels: tf.Tensor | npt.NDArray[np.uint8]) -> tf.Tensor:
    """`images.pixels.to_model` in TensorFlow."""
    return tf.cast(pixels, tf.float32) * tf.constant(np.float32(SCALE))
