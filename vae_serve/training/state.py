"""Everything that the next training step depends on, as arrays: the contents of a checkpoint."""

import keras
import numpy as np

from vae_serve.training.checkpoints import Arrays
from vae_serve.training.model import VariationalAutoencoder


def _networks(model: VariationalAutoencoder) -> list[keras.Variable]:
    return [*model.encoder.variables, *model.decoder.variables]


def _variables(model: VariationalAutoencoder) -> list[keras.Variable]:
    return [*_networks(model), model.noise.state, *model.optimizer.variables, *model.metrics_variables]


def get(model: VariationalAutoencoder) -> Arrays:
    """Weights, random state, optimizer and running means, in the model's own order."""
    return [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in _variables(model)]


def set_all(model: VariationalAutoencoder, arrays: Arrays) -> None:
    """Sets what `get` gave."""
    for variable, array in zip(_variables(model), arrays, strict=True):
        variable.assign(array)


def set_networks(model: VariationalAutoencoder, arrays: Arrays) -> None:
    """Sets the weights of the two networks alone, of what `get` gave."""
    for variable, array in zip(_networks(model), arrays, strict=False):
        variable.assign(array)
