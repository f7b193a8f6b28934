"""Bundles whose networks are one layer each, so that a test can say what comes out; of any shape, made at once."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vae_serve.images.pixels import SCALE, PixelRule
from vae_serve.model.manifest import (
    ROLES,
    SCHEMA_VERSION,
    FileEntry,
    Graph,
    Manifest,
    Parity,
    PixelType,
    Role,
    graph_spec,
)

Shape = tuple[int, int, int]


def write(
    folder: Path,
    latent_dim: int = 2,
    image_shape: Shape = (6, 5, 1),
    weights_seed: int = 0,
    variant: PixelType = "float32",
) -> Path:
    """Writes a bundle: z_mean = image @ E, z_log_var = -z_mean, image = sigmoid(z @ decoder_weights + 0.1).

    `variant`: of both graphs, which there are no others of.
    """
    size = int(np.prod(image_shape))
    image, z = ["batch", *image_shape], ["batch", latent_dim]
    of_bytes = variant == "uint8"
    encoder = _model(
        [
            *([helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["pixels"])] if of_bytes else []),
            helper.make_node("Reshape", ["pixels" if of_bytes else "image", "flat"], ["rows"]),
            helper.make_node("MatMul", ["rows", "weights"], ["z_mean"]),
            helper.make_node("Neg", ["z_mean"], ["z_log_var"]),
        ],
        {"image": image},
        {"z_mean": z, "z_log_var": z},
        {
            "flat": np.array([-1, size]),
            "weights": decoder_weights(latent_dim, image_shape, weights_seed).T / size,
            **({"scale": np.array(SCALE), "zero": np.array(0, np.uint8)} if of_bytes else {}),
        },
        variant,
    )
    decoder = _model(
        [
            helper.make_node("MatMul", ["z", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["sum"]),
            helper.make_node("Sigmoid", ["sum"], ["rows"]),
            helper.make_node("Reshape", ["rows", "shape"], ["floats" if of_bytes else "image"]),
            *(_to_bytes() if of_bytes else []),
        ],
        {"z": z},
        {"image": image},
        {
            "shape": np.array([-1, *image_shape]),
            "weights": decoder_weights(latent_dim, image_shape, weights_seed),
            "bias": np.float32([0.1]),
            **({"top": np.float32([255])} if of_bytes else {}),
        },
        variant,
    )
    folder.mkdir(parents=True)
    entries = []
    graphs = tuple(_graph(role, image_shape, latent_dim, variant) for role in ROLES)
    for name, contents in zip([graph.file for graph in graphs], (encoder, decoder), strict=True):
        (folder / name).write_bytes(contents)
        entries.append(FileEntry(name, len(contents), hashlib.sha256(contents).hexdigest()))
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        name=folder.name,
        arch="linear",
        latent_dim=latent_dim,
        image_shape=image_shape,
        pixels=PixelRule(*image_shape).to_json(),
        graphs=graphs,
        signature_pixels=variant,
        opset=17,
        ir_version=8,
        parameters={"encoder": 0, "decoder": 0, "trainable": 0},
        weights_sha256=entries[1].sha256,
        data={"name": "none"},
        training={},
        metrics={},
        parity=Parity(1e-5, "", ()),
        versions={},
        licence="MIT",
        files=tuple(entries),
        form="layers",
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def decoder_weights(latent_dim: int, image_shape: Shape, seed: int = 0) -> np.ndarray:
    """(latent_dim, H * W * C) float32."""
    return np.random.default_rng(seed).standard_normal((latent_dim, int(np.prod(image_shape))), dtype=np.float32)


def decoded(z: np.ndarray, image_shape: Shape = (6, 5, 1), seed: int = 0) -> np.ndarray:
    """What the bundle's decoder must give, computed by numpy in float64 and rounded to bytes: (n, H, W, C) uint8."""
    sums = z.astype(np.float64) @ decoder_weights(z.shape[1], image_shape, seed) + 0.1
    return np.rint(255 / (1 + np.exp(-sums))).astype(np.uint8).reshape(-1, *image_shape)


def encoded(images: np.ndarray, latent_dim: int = 2, seed: int = 0) -> np.ndarray:
    """What the bundle's encoder must give as z_mean for bytes (n, H, W, C): (n, latent_dim) float64."""
    rows = images.reshape(len(images), -1).astype(np.float64) / 255
    return rows @ decoder_weights(latent_dim, images.shape[1:], seed).T / rows.shape[1]


def _to_bytes() -> list:
    return [
        helper.make_node("Mul", ["floats", "top"], ["levels"]),
        helper.make_node("Round", ["levels"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["image"], to=TensorProto.UINT8),
    ]


def _model(nodes: list, inputs: dict, outputs: dict, constants: dict, variant: PixelType) -> bytes:
    def tensors(named: dict) -> list:
        types = {"image": TensorProto.UINT8 if variant == "uint8" else TensorProto.FLOAT}
        return [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, shape in named.items()
        ]

    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "linear", tensors(inputs), tensors(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _graph(role: Role, image_shape: Shape, latent_dim: int, variant: PixelType) -> Graph:
    spec = graph_spec(role, variant, image_shape, latent_dim)
    tolerance = {output.name: 1e-5 for output in spec.outputs}
    return Graph(role, spec.variant, spec.file, spec.inputs, spec.outputs, tolerance, ())
