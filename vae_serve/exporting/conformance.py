"""Inputs and the trained model's own outputs, few and small, for checking the networks in any other runtime.

    conformance/conformance.json                        tolerance for each type of tensor, and how it is measured
                encoder/image.npy, z_mean.npy, ...      the vectors, each under its tensor's name
                encoder/test_data_set_0/input_0.pb ...  the same in the format of ONNX's own tests (`onnx.TensorProto`)
                decoder/...                             likewise

The expected outputs come from the trained Keras model in float64, not from a file that was converted from it.
"""

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from vae_serve.exporting.gate import Reference
from vae_serve.images import pixels
from vae_serve.model.parity import TOLERANCE

ROWS = 14  # whole batches of 7, which is odd, and of 1
BYTE_TOLERANCE = 1  # a byte is off by one where the float before rounding lies within `TOLERANCE` of a half

MEASURE = {
    "float32": "|found - expected| / max(1, |expected|), every element",
    "uint8": "|found - expected|, every element",
}


def write(folder: Path, references: tuple[Reference, ...]) -> None:
    """Writes the vectors of each network into the new folder `folder`: `ROWS` rows, evenly spread over the gate's."""
    folder.mkdir()
    largest = max(max(reference.tolerances) for reference in references)
    if largest > TOLERANCE:  # one digit, rounded up: what one CPU measured is not to decide the bytes
        unit = 10.0 ** math.floor(math.log10(largest))
        largest = float(f"{math.ceil(largest / unit) * unit:.0e}")
    rule = {"tolerance": {"float32": largest, "uint8": BYTE_TOLERANCE}, "measure": MEASURE}
    (folder / "conformance.json").write_text(json.dumps(rule, indent=1) + "\n", encoding="utf-8")
    for reference in references:
        rows = np.linspace(0, len(reference.inputs) - 1, ROWS).astype(int)
        outputs = [
            pixels.to_bytes(expected[rows]) if tensor.dtype == "uint8" else expected[rows].astype(np.float32)
            for tensor, expected in zip(reference.spec.outputs, reference.expected, strict=True)
        ]
        named = [
            ("input_0", reference.spec.inputs[0].name, reference.inputs[rows]),
            *(
                (f"output_{index}", tensor.name, output)
                for index, (tensor, output) in enumerate(zip(reference.spec.outputs, outputs, strict=True))
            ),
        ]
        for place, name, array in named:
            _write(folder / reference.name, place, name, array)


def _write(folder: Path, place: str, name: str, array: npt.NDArray[np.generic]) -> None:
    cases = folder / "test_data_set_0"
    cases.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", array, allow_pickle=False)
    (cases / f"{place}.pb").write_bytes(onnx.numpy_helper.from_array(array, name).SerializeToString())
