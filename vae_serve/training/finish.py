"""The end of a training: plain networks, figures on the test set, plots, and the record that says `finished`."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from vae_serve.evaluate import metrics
from vae_serve.training import architectures, gate_inputs, pictures, runs
from vae_serve.training.config import Config
from vae_serve.training.data import Dataset
from vae_serve.training.history import Row
from vae_serve.training.model import decode_with, encode_with
from vae_serve.training.record import Json


def finish(
    path: Path,
    config: Config,
    data: Dataset,
    trained: tuple[keras.Model, keras.Model],
    history: list[Row],
    record: Json,
    seconds: float,
) -> runs.Run:
    """Completes the run folder at `path` with the `trained` encoder and decoder; `record` is the run's so far.

    `seconds` is how long this training took.
    """
    encoder, decoder = _plain(config, data, trained)
    for network in (encoder, decoder):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"{network.name}.keras")
            network.save(file)
            runs.write_whole(path / file.name, file.read_bytes())
    test_images = data.test_images
    with np.errstate(over="ignore", invalid="ignore"):  # a figure that is not finite becomes null in the record
        elbo = metrics.elbo(encode_with(encoder), decode_with(decoder), test_images)
    pictures.write(
        path / "plots",
        encode_with(encoder),
        decode_with(decoder),
        test_images,
        data.test_labels,
        history,
    )
    record = {
        **record,
        "status": "finished",
        "metrics": {"test": metrics.summary(elbo, len(test_images), metrics.DRAWS), "last_epoch": history[-1]},
        "seconds": seconds,
    }
    if "gate" not in record:  # begun by an older version
        contents, record["gate"] = gate_inputs.packed(gate_inputs.chosen(test_images))
        runs.write_whole(path / gate_inputs.FILE, contents)
    runs.write_record(path, record)
    return runs.load(path)


def _plain(config: Config, data: Dataset, trained: tuple[keras.Model, keras.Model]) -> tuple[keras.Model, keras.Model]:
    """The networks in float32, of layers that load anywhere."""
    keras.config.set_dtype_policy("float32")
    networks = architectures.build(config.arch, data.image_shape, config.latent_dim)
    for network, source in zip(networks, trained, strict=True):
        network.set_weights(source.get_weights())
    return networks
