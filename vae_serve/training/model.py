"""The variational autoencoder as one trainable Keras model, in `keras.ops` only: any Keras backend can train it.

Kingma & Welling 2014, "Auto-Encoding Variational Bayes" (arXiv:1312.6114): the loss is the negative of their
equation 10, the KL term in closed form (appendix B).
"""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from vae_serve.evaluate.metrics import Decode, Encode

if TYPE_CHECKING:
    import tensorflow as tf  # its tensors, as those of any backend

Floats = npt.NDArray[np.float32]

LOG_VAR_BEND = 4.0  # trained posteriors stay below 0, the prior's


@keras.saving.register_keras_serializable("vae_serve")
class VariationalAutoencoder(keras.Model):
    """An encoder and a decoder, trained together by the stock `train_step`.

    The loss of a batch is the mean over its images of reconstruction + beta x KL, in nats per image, for one or several
    draws of z. It comes from the decoder's logits, which neither clip nor round.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        *,
        beta: float = 1.0,
        draws: int = 1,
        seed: int = 0,
        replicas: int = 1,
        parts: int = 1,
    ) -> None:
        super().__init__(name="vae")
        self.encoder = encoder
        self.decoder = decoder
        self.logits = keras.Model(decoder.input, decoder.get_layer("logits").output, name="logits")
        self.beta = beta
        self.draws = draws
        self.parts = parts  # that a batch is cut into where its images do not meet, for the cores of a CPU
        self.replicas = replicas  # of a tf.distribute strategy: the gradients of all are summed
        self.batch_statistics = True  # False: batch normalisation by its moving statistics, while training too
        self.noise = keras.random.SeedGenerator(seed)
        self.reconstruction = keras.metrics.Mean("reconstruction")
        self.kl = keras.metrics.Mean("kl")

    def call(self, image: "tf.Tensor", training: bool = False) -> "dict[str, tf.Tensor]":
        """Image (n, H, W, C) to z_mean, z_log_var, variance (n, d), z (draws, n, d) and logits (draws, n, H, W, C)."""
        together = training and self.batch_statistics
        z_mean, z_log_var = self._run(self.encoder, image, together)
        # Training goes on drawing; evaluation takes the same draws each time, so that two epochs can be compared.
        noise = ops.stack(
            [
                keras.random.normal(ops.shape(z_mean), seed=self.noise if training else number)
                for number in range(self.draws)
            ]
        )
        # One image whose z_log_var runs away would overflow the loss of all. No posterior that is wider than the prior
        # makes sense, so beyond e^4 times its variance training goes on along the tangent; below, not a bit changes.
        bounded = ops.minimum(z_log_var, LOG_VAR_BEND) if training else z_log_var
        variance = ops.exp(bounded) * (1 + (z_log_var - bounded))
        z = z_mean + ops.exp(0.5 * bounded) * noise  # (draws, n, d)
        logits = self._run(self.logits, ops.reshape(z, (-1, z.shape[-1])), together)
        return {
            "z_mean": z_mean,
            "z_log_var": z_log_var,
            "variance": variance,
            "z": z,
            "logits": ops.reshape(logits, (self.draws, -1, *logits.shape[1:])),
        }

    def _run(self, network: keras.Model, rows: "tf.Tensor", together: bool) -> Any:
        """A network on rows (n, ...), batch normalisation by the statistics of all of them, or else in `parts`."""
        count = rows.shape[0]
        if together or count is None or min(self.parts, count) == 1:
            return network(rows, training=together)
        cuts = [count * part // self.parts for part in range(1, self.parts)]
        outputs = [network(part, training=False) for part in ops.split(rows, cuts)]
        return keras.tree.map_structure(lambda *pieces: ops.concatenate(pieces), *outputs)

    def terms(self, image: "tf.Tensor", y_pred: "dict[str, tf.Tensor]") -> "tuple[tf.Tensor, tf.Tensor]":
        """Reconstruction and KL of each image (n,), in nats; the reconstruction is the mean over the draws."""
        logits = y_pred["logits"]
        # -log p(x|z) of a Bernoulli with these logits, in the form that never overflows
        per_pixel = ops.maximum(logits, 0) - logits * image + ops.log1p(ops.exp(-ops.abs(logits)))
        reconstruction = ops.mean(ops.sum(per_pixel, axis=(2, 3, 4)), axis=0)
        z_mean, z_log_var = y_pred["z_mean"], y_pred["z_log_var"]
        kl = 0.5 * ops.sum(ops.square(z_mean) + y_pred["variance"] - 1 - z_log_var, axis=1)
        return reconstruction, kl

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> "tf.Tensor":
        """The scalar that the stock step minimises. `sample_weight` (n,) is not used: every image counts the same."""
        reconstruction, kl = self.terms(x, y_pred)
        self.reconstruction.update_state(reconstruction)
        self.kl.update_state(kl)
        return ops.mean(reconstruction + self.beta * kl) / self.replicas


def encode_with(encoder: keras.Model) -> Encode:
    """The encoder as `metrics` takes it: image (n, H, W, C) to z_mean, z_log_var (n, d), numpy arrays."""

    def encode(images: Floats) -> tuple[Floats, Floats]:
        z_mean, z_log_var = encoder.predict_on_batch(images)
        return z_mean, z_log_var

    return encode


def decode_with(decoder: keras.Model) -> Decode:
    """The decoder as `metrics` takes it: z (n, d) to image (n, H, W, C), numpy arrays."""

    def decode(z: Floats) -> Floats:
        images: Floats = decoder.predict_on_batch(z)
        return images

    return decode
