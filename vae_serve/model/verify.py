"""A bundle held against what it says of itself, with the serving side's packages alone."""

from pathlib import Path

import numpy as np

from vae_serve.errors import BundleError, ParityError
from vae_serve.model import bundle, parity, runtime, saved_model
from vae_serve.model.bundle import Bundle
from vae_serve.model.conformance import vectors
from vae_serve.model.manifest import Role

BYTE_TOLERANCE = 1  # two runtimes round a float that lies at a half to either side


def verify(path: Path) -> tuple[Bundle, list[parity.Report]]:
    """Loads a bundle through all its checks, judges its SavedModels and runs its conformance vectors.

    Returns the bundle, and for each output how far it is from what the trained model gave; none without ONNX files.

    Raises:
        BundleError: names the file and the reason.
        ParityError: names the tensor, the index and both values.
    """
    loaded = bundle.load(path)
    saved_model.check(loaded)
    reports: list[parity.Report] = []
    if loaded.manifest.encoder:
        reports += _conformance(loaded, "encoder", runtime.open_encoder(loaded))
    if loaded.manifest.decoder:
        reports += _conformance(loaded, "decoder", runtime.open_decoder(loaded))
    return loaded, reports


def _conformance(loaded: Bundle, role: Role, network: runtime.Network) -> list[parity.Report]:
    spec = network.spec
    given = vectors(loaded, role, "input_0", spec.inputs[0])
    reports = []
    for index, (tensor, found) in enumerate(zip(spec.outputs, network(given), strict=True)):
        expected = vectors(loaded, role, f"output_{index}", tensor)
        where = f"{loaded.path / spec.file} on its conformance vectors"
        if len(expected) != len(given):
            raise BundleError(f"{where}: {len(given)} inputs and {len(expected)} of {tensor.name}")
        if tensor.dtype == "uint8":
            apart = np.abs(expected.astype(int) - found.astype(int))
            if apart.max() > BYTE_TOLERANCE:
                raise ParityError(f"{where}: {tensor.name} is off by {apart.max()}")
            continue
        reports.append(parity.require(parity.compare(tensor.name, expected, found), where))
    return reports
