"""The Open Inference Protocol's endpoints beside infer, and Triton's extensions `config` and `stats`.

The extensions: https://github.com/triton-inference-server/server, docs/protocol/extension_model_configuration.md and
extension_statistics.md. Load generators read them.
"""

from typing import Any

import msgspec

from vae_serve import __version__
from vae_serve.deploy.triton import TYPES
from vae_serve.serve.limits import Limits
from vae_serve.serve.networks import VERSION, Network, described

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics")
PLATFORM = "onnxruntime_onnx"  # what Triton calls the backend of the layout


def server() -> dict[str, Any]:
    """Of the service: name, version, extensions."""
    return {"name": "vae-serve", "version": __version__, "extensions": list(EXTENSIONS)}


def model(network: Network) -> dict[str, Any]:
    """Of a network: its tensors with -1 for the batch."""
    return {
        "name": network.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [msgspec.to_builtins(described(network.input))],
        "outputs": [msgspec.to_builtins(described(output)) for output in network.outputs],
    }


def configuration(network: Network, limits: Limits) -> dict[str, Any]:
    """A network as Triton's model configuration has it; `dims` are without the batch."""

    def tensor(spec: Any) -> dict[str, Any]:
        return {"name": spec.name, "data_type": TYPES[spec.dtype], "dims": list(spec.shape[1:])}

    return {
        "name": network.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": network.rows_limit(limits.answer_bytes),
        "input": [tensor(network.input)],
        "output": [tensor(output) for output in network.outputs],
        "dynamic_batching": {"preferred_batch_size": [max(lane.best for lane in network.lanes.values())]},
    }


def statistics(networks: list[Network]) -> dict[str, Any]:
    """What has been asked of networks since the bundle was loaded; times are nanoseconds."""
    return {"model_stats": [_statistics(network) for network in networks]}


def _statistics(network: Network) -> dict[str, Any]:
    counts = network.counts
    batches: dict[int, tuple[int, int]] = {}
    for lane in network.lanes.values():
        for rows, (calls, spent) in lane.statistics.batches.copy().items():  # workers add to it
            before = batches.get(rows, (0, 0))
            batches[rows] = before[0] + calls, before[1] + spent
    executions, spent = (sum(batch[at] for batch in batches.values()) for at in (0, 1))
    queue_ns = sum(lane.statistics.queue_ns for lane in network.lanes.values())
    nothing = {"count": 0, "ns": 0}
    return {
        "name": network.name,
        "version": VERSION,
        "last_inference": counts.last,
        "inference_count": counts.rows,
        "execution_count": executions,
        "inference_stats": {
            "success": {"count": counts.success, "ns": counts.success_ns},
            "fail": {"count": counts.fail, "ns": counts.fail_ns},
            "queue": {"count": counts.success, "ns": queue_ns},
            "compute_input": nothing,
            "compute_infer": {"count": executions, "ns": spent},
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": nothing,
                "compute_infer": {"count": calls, "ns": ns},
                "compute_output": nothing,
            }
            for rows, (calls, ns) in sorted(batches.items())
        ],
    }
