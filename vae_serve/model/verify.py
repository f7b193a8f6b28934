"""A bundle held against what it says of itself, with the serving side's packages alone."""

import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError, ParityError
from vae_serve.model import bundle, onnx, parity, runtime
from vae_serve.model.bundle import Bundle, TensorSpec

Array = npt.NDArray[np.generic]
BYTE_TOLERANCE = 1  # two runtimes round a float that lies at a half to either side


def verify(path: Path) -> tuple[Bundle, list[parity.Report]]:
    """Loads a bundle through all its checks and runs its conformance vectors through ONNX Runtime.

    Returns the bundle, and for each output how far it is from what the trained model gave; none without ONNX files.

    Raises:
        BundleError: names the file and the reason.
        ParityError: names the tensor, the index and both values.
    """
    loaded = bundle.load(path)
    reports: list[parity.Report] = []
    if loaded.manifest.encoder:
        reports += _conformance(loaded, "encoder", runtime.open_encoder(loaded))
    if loaded.manifest.decoder:
        reports += _conformance(loaded, "decoder", runtime.open_decoder(loaded))
    return loaded, reports


def _conformance(loaded: Bundle, side: str, network: runtime.Network) -> list[parity.Report]:
    spec = network.spec
    given = _vectors(loaded, side, "input_0", spec.inputs[0])
    reports = []
    for index, (tensor, found) in enumerate(zip(spec.outputs, runtime.in_batches(network, given), strict=True)):
        expected = _vectors(loaded, side, f"output_{index}", tensor)
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


def _vectors(loaded: Bundle, side: str, place: str, tensor: TensorSpec) -> Array:
    """One conformance tensor, (n, ...), the same in both of its files."""
    path = f"conformance/{side}/{tensor.name}.npy"
    array = read_npy(loaded.read(path), str(loaded.path / path))
    if str(array.dtype) != tensor.dtype or array.shape[1:] != tensor.shape[1:] or not array.size:
        raise BundleError(f"{loaded.path / path} is {array.dtype} {array.shape}, not {tensor.dtype} {tensor.shape}")
    twin = f"conformance/{side}/test_data_set_0/{place}.pb"
    name, shape, data = onnx.read_tensor(loaded.read(twin), str(loaded.path / twin))
    if (name, shape, data) != (tensor.name, array.shape, array.tobytes()):
        raise BundleError(f"{loaded.path / twin} is not the same tensor as {path}")
    return array


def read_npy(contents: bytes, name: str) -> Array:
    """A plain .npy file: numbers, C order, as many as it declares. Never a pickle, nothing allocated by its word.

    Raises:
        BundleError: it is none.
    """
    file = io.BytesIO(contents)
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise BundleError(f"{name} is no .npy file that vae-serve reads: {error}") from error
    if dtype.hasobject:
        raise BundleError(f"{name} holds Python objects (a pickle), which are never loaded")
    if fortran or math.prod(shape) * dtype.itemsize != len(contents) - file.tell():
        raise BundleError(f"{name} declares {dtype} {shape} and stores {len(contents) - file.tell():,} bytes")
    return np.frombuffer(contents, dtype, offset=file.tell()).reshape(shape)
