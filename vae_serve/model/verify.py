"""A bundle compared with its manifest and its conformance vectors. Needs only the packages of the serving side."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_serve.errors import BundleError, ParityError
from vae_serve.images import pixels
from vae_serve.model import bundle, parity, saved_model
from vae_serve.model.bundle import Bundle
from vae_serve.model.conformance import vectors
from vae_serve.model.manifest import Graph, PixelType
from vae_serve.model.sessions import Session, open_graph

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place

Array = npt.NDArray[Any]

TOLERANCE_LIMIT = 1e-3  # what is more than float32 networks here differ by, whatever a manifest states as measured
ROUNDING = 1.01  # figures in a manifest have three digits
ROWS = 32  # that are compared at a time
BYTE_TOLERANCE = 1  # two runtimes round a float that lies at a half to either side


def verify(path: "Place") -> tuple[Bundle, list[parity.Report]]:
    """Loads a bundle through all its checks, judges its SavedModels and runs its conformance vectors.

    Returns the bundle, and for each output how far it is from what the trained model gave; none without ONNX files.

    Raises:
        BundleError: names the file and the reason.
        ParityError: names the tensor, the index and both values.
    """
    loaded = bundle.load(path)
    saved_model.check(loaded)
    reports = [report for graph in loaded.manifest.graphs for report in _conformance(loaded, graph)]
    _require_same_variants(loaded)
    return loaded, reports


def lenient(loaded: Bundle) -> list[str]:
    """In words, what the bundle allows itself beyond what the gate of `vae-serve export` gives unasked."""
    warnings = []
    for graph in loaded.manifest.graphs:
        for tensor, stated in graph.tolerance.items():
            measured = [report.trained_float32 or 0.0 for report in graph.parity if report.tensor == tensor]
            usual = min(parity.allowed(max(measured, default=0.0)), TOLERANCE_LIMIT)
            if stated > usual * ROUNDING:
                warnings.append(
                    f"{loaded.path / graph.file}: {tensor} may be {stated:.3g} from the trained model by its "
                    f"manifest's own word; {usual:.3g} is usual"
                )
    return warnings


def _conformance(loaded: Bundle, graph: Graph) -> list[parity.Report]:
    """One graph on its network's vectors, which are of floats, or of bytes in a bundle that has no other graph."""
    stored = loaded.manifest.of_role(graph.role)[0]
    given = vectors(loaded, graph.role, "input_0", stored.inputs[0])
    outputs = _session(loaded, graph)(_as(given, graph.inputs[0].dtype))
    where = f"{loaded.path / graph.file} on its conformance vectors"
    reports = []
    for index, (tensor, actual) in enumerate(zip(stored.outputs, outputs, strict=True)):
        expected = vectors(loaded, graph.role, f"output_{index}", tensor)
        if len(expected) != len(given):
            raise BundleError(f"{where}: {len(given)} inputs and {len(expected)} of {tensor.name}")
        if actual.dtype == np.uint8:
            off = int(np.abs(_as(expected, "uint8").astype(int) - actual.astype(int)).max())
            if off > BYTE_TOLERANCE:
                raise ParityError(f"{where}: {tensor.name} is off by {off}")
            continue
        report = replace(parity.compare(tensor.name, expected, actual), tolerance=graph.tolerance[tensor.name])
        reports.append(parity.require(report, where))
    return reports


def _require_same_variants(loaded: Bundle) -> None:
    """Bytes and their floats must give the same vectors, whichever graph takes them: all 256 levels are tried."""
    graphs = {graph.variant: graph for graph in loaded.manifest.of_role("encoder")}
    if len(graphs) < 2:
        return
    levels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, *loaded.manifest.image_shape))
    sessions = {variant: _session(loaded, graph) for variant, graph in graphs.items()}
    for start in range(0, len(levels), ROWS):
        rows = levels[start : start + ROWS]
        outputs = [session(_as(rows, variant)) for variant, session in sessions.items()]
        if any(first.tobytes() != second.tobytes() for first, second in zip(*outputs, strict=True)):
            files = " and ".join(graph.file for graph in graphs.values())
            raise ParityError(f"{loaded.path}: {files} do not give the same of the same image")


def _session(loaded: Bundle, graph: Graph) -> Session:
    return open_graph(loaded, graph)


def _as(images: Array, dtype: PixelType) -> Array:
    """Images of one type as those of another; what is not an image is float32 in any graph."""
    if images.dtype == dtype:
        return images
    return pixels.to_bytes(images) if dtype == "uint8" else pixels.to_model(images)
