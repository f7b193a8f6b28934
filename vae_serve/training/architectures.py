"""The networks: an encoder and a decoder as plain functional Keras models, for any image shape and latent size.

The parameter counts for 28 x 28 x 1 and two latent dimensions are in docs/training.md and in the tests. Every layer
is named, so that two builds in one process give the same model.
"""

from dataclasses import dataclass

import keras

from vae_serve.errors import UsageError

ImageShape = tuple[int, int, int]  # height, width, channels

BOTTLENECK = 20  # units of the dense layer before the two heads, as in the tutorial


@dataclass(frozen=True)
class Convolutional:
    """Strided convolutions down to a dense bottleneck, transposed ones back up; each halves or doubles the sides."""

    encoder: tuple[int, ...]  # filters, in order
    decoder: tuple[int, ...]
    kernel: int


@dataclass(frozen=True)
class Perceptron:
    """Dense layers alone; `hidden` are the encoder's units, the decoder's are the same in reverse."""

    hidden: tuple[int, ...]


ARCHITECTURES: dict[str, Convolutional | Perceptron] = {
    # The tutorial's small model.
    "conv": Convolutional(encoder=(8, 16), decoder=(16, 8), kernel=3),
    # The summary that the tutorial prints for its DCGAN-like model: each of its convolutions read the block's input, so
    # that only the last one of either side counted.
    "wide": Convolutional(encoder=(1024,), decoder=(128,), kernel=5),
    # The code that the tutorial lists for it.
    "dcgan": Convolutional(encoder=(128, 256, 512, 1024), decoder=(1024, 512, 256, 128), kernel=5),
    # Not the tutorial's: the best likelihood with two latent dimensions for the time it takes on a CPU.
    "mlp": Perceptron(hidden=(512, 256)),
}


def build(arch: str, image_shape: ImageShape, latent_dim: int) -> tuple[keras.Model, keras.Model]:
    """A fresh encoder and decoder, weights drawn from Keras' global seed (`keras.utils.set_random_seed`).

    Encoder: input `image` (batch, H, W, C), 0..1, to the list [`z_mean`, `z_log_var`], each (batch, latent_dim).
    Decoder: input `z` (batch, latent_dim) to `image` (batch, H, W, C), probabilities 0..1.
    The three outputs are float32 under every dtype policy: in half precision a probability near 1 has too few bits.

    Raises:
        UsageError: an unknown architecture, or a size below 1.
    """
    if arch not in ARCHITECTURES:
        raise UsageError(f"--arch {arch}: the architectures are {', '.join(ARCHITECTURES)}")
    if latent_dim < 1:
        raise UsageError(f"--latent-dim {latent_dim}: a latent space has at least 1 dimension")
    if min(image_shape) < 1:
        raise UsageError(f"an image of shape {image_shape} has no pixels")
    return build_from(ARCHITECTURES[arch], image_shape, latent_dim)


def build_from(
    spec: Convolutional | Perceptron, image_shape: ImageShape, latent_dim: int
) -> tuple[keras.Model, keras.Model]:
    """The same, of widths that need not be those of a named architecture."""
    match spec:
        case Convolutional():
            return _convolutional(spec, image_shape, latent_dim)
        case Perceptron():
            return _perceptron(spec, image_shape, latent_dim)


def _convolutional(spec: Convolutional, shape: ImageShape, latent_dim: int) -> tuple[keras.Model, keras.Model]:
    layers = keras.layers
    image = x = keras.Input(shape, name="image")
    for number, filters in enumerate(spec.encoder, 1):
        x = layers.Conv2D(filters, spec.kernel, 2, "same", activation="relu", name=f"conv_{number}")(x)
        x = layers.BatchNormalization(name=f"conv_{number}_norm")(x)
    height, width, depth = x.shape[1:]
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(BOTTLENECK, activation="relu", name="bottleneck")(x)
    x = layers.BatchNormalization(name="bottleneck_norm")(x)
    encoder = keras.Model(image, _heads(x, latent_dim), name="encoder")

    z = keras.Input((latent_dim,), name="z")
    x = layers.Dense(height * width * depth, activation="relu", name="spread")(z)
    x = layers.BatchNormalization(name="spread_norm")(x)
    x = layers.Reshape((height, width, depth), name="reshape")(x)
    for number, filters in enumerate(spec.decoder, 1):
        x = layers.Conv2DTranspose(filters, spec.kernel, 2, "same", activation="relu", name=f"deconv_{number}")(x)
        x = layers.BatchNormalization(name=f"deconv_{number}_norm")(x)
    # The encoder rounds odd sides up (28, 14, 7, 4, 2) and the decoder doubles (2, 4, 8, 16, 32): the middle is kept.
    rows, columns = x.shape[1] - shape[0], x.shape[2] - shape[1]
    if rows or columns:
        edges = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
        x = layers.Cropping2D(edges, name="crop")(x)
    # Three by three in every architecture, whatever the other kernels are: as in the tutorial.
    x = layers.Conv2DTranspose(shape[2], 3, padding="same", dtype="float32", name="logits")(x)
    return encoder, _decoder(z, x)


def _perceptron(spec: Perceptron, shape: ImageShape, latent_dim: int) -> tuple[keras.Model, keras.Model]:
    layers = keras.layers
    image = keras.Input(shape, name="image")
    x = layers.Flatten(name="flatten")(image)
    for number, units in enumerate(spec.hidden, 1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
    encoder = keras.Model(image, _heads(x, latent_dim), name="encoder")

    z = x = keras.Input((latent_dim,), name="z")
    for number, units in enumerate(reversed(spec.hidden), 1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
    x = layers.Dense(shape[0] * shape[1] * shape[2], dtype="float32", name="pixels")(x)
    x = layers.Reshape(shape, dtype="float32", name="logits")(x)
    return encoder, _decoder(z, x)


def _heads(x: keras.KerasTensor, latent_dim: int) -> list[keras.KerasTensor]:
    return [keras.layers.Dense(latent_dim, dtype="float32", name=name)(x) for name in ("z_mean", "z_log_var")]


def _decoder(z: keras.KerasTensor, logits: keras.KerasTensor) -> keras.Model:
    # The sigmoid is a layer of its own, so that the loss can be taken from the logits, where it is exact.
    image = keras.layers.Activation("sigmoid", dtype="float32", name="image")(logits)
    return keras.Model(z, image, name="decoder")
