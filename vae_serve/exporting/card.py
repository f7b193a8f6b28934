"""The bundle's README.md: a model card, made from the manifest only."""

from collections.abc import Iterable, Iterator
from typing import Any

from vae_serve.exporting import snippets
from vae_serve.model.manifest import Manifest
from vae_serve.model.parity import TOLERANCE
from vae_serve.quoting import markdown, markdown_code

COLOURS = {1: "grey", 3: "colour"}

CALL = """\
## Use

From a shell: `vae-serve generate --grid 15 --model FOLDER`, `vae-serve embed IMAGES --model FOLDER`. From Python,
with nothing but numpy and ONNX Runtime:

```python
import numpy as np
import onnxruntime as ort

encoder = ort.InferenceSession("encoder.onnx")
decoder = ort.InferenceSession("decoder.onnx")
images = {images}
z_mean, z_log_var = encoder.run(["z_mean", "z_log_var"], {{"image": images}})  # each ({batch}, {d})
z = z_mean + np.exp(z_log_var / 2) * np.random.default_rng(0).standard_normal(z_mean.shape, np.float32)
(pictures,) = decoder.run(["image"], {{"z": z}})  # {shape}, {range}
```
"""


def card(manifest: Manifest) -> str:
    """Markdown: what it is, its figures, how to call it in ten lines, how it was made, its licence."""
    height, width, channels = manifest.image_shape
    title = (
        f"# {markdown(manifest.name)}\n\nA variational autoencoder ({markdown_code(manifest.arch)}, "
        f"{manifest.parameters['encoder'] + manifest.parameters['decoder']:,} parameters) of {height} x {width} "
        f"{COLOURS.get(channels, f'{channels}-channel')} pictures, {manifest.latent_dim} latent "
        f"dimension{'s' if manifest.latent_dim > 1 else ''}, trained on {markdown_code(manifest.data['name'])}. "
        "`manifest.json` has all of this, and more.\n"
    )
    parts = [title]
    if manifest.encoder and manifest.decoder:
        parts += [_tensors(manifest), _call(manifest, raw=manifest.encoder.inputs[0].dtype == "uint8")]
    parts += [
        "## Test figures\n\n" + _table(("figure", "value"), _flat(manifest.metrics)),
        "## Against the trained model\n\nEvery copy in this folder was compared with the trained Keras model, in "
        f"float64, before the folder was published; no output may differ by more than {TOLERANCE:g}, or by more than "
        "twice what the trained model's own float32 differs by.\n\n" + _parity(manifest),
        "## Training\n\n" + _table(("setting", "value"), _flat(manifest.training)),
        snippets.section(),
        f"## Licence\n\nThe weights: {markdown(manifest.licence)}. "
        f"The data: {markdown(manifest.data.get('licence', 'not stated'))}.\n",
    ]
    return "\n".join(parts)


def _tensors(manifest: Manifest) -> str:
    rows = [
        (graph.file, side, markdown_code(tensor.name), tensor.dtype, " x ".join(map(str, tensor.shape)))
        for graph in manifest.graphs
        for side, tensors in (("in", graph.inputs), ("out", graph.outputs))
        for tensor in tensors
    ]
    opset = f"\nOpset {manifest.opset}, IR version {manifest.ir_version}; standard operators alone.\n"
    return _table(("file", "", "tensor", "dtype", "shape"), rows) + opset


def _call(manifest: Manifest, raw: bool) -> str:
    shape = ", ".join(map(str, manifest.image_shape))
    zeros = f"np.zeros((5, {shape}), np.{'uint8' if raw else 'float32'})"
    return CALL.format(
        images=f"{zeros}  # {'bytes as they are in the file' if raw else 'pixels 0..255 times float32(1 / 255)'}",
        batch=5,
        d=manifest.latent_dim,
        shape=f"(5, {shape})",
        range="bytes 0..255" if raw else "0..1",
    )


def _parity(manifest: Manifest) -> str:
    copies = [(report.copy, report) for report in manifest.parity.reports]
    for graph in manifest.graphs:
        copies += [(report.copy.replace("ONNX", graph.file), report) for report in graph.parity]
    rows = [
        (*map(markdown, (r.network, copy, r.tensor)), f"{r.rows:,}", f"{r.largest:.1e}", f"{r.mean:.1e}")
        for copy, r in copies
    ]
    return _table(("network", "copy", "tensor", "rows", "largest difference", "mean"), rows)


def _table(head: tuple[str, ...], rows: Iterable[Iterable[object]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested figures as `outer, inner` and value; the names as they stand in the manifest."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}, {name}" if path else name)
    else:
        yield markdown(path), f"{value:.6g}" if isinstance(value, float) else markdown(value)
