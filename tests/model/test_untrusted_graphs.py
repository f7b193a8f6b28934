"""An untrusted graph of a bundle that is signed anew is refused for what it is; nothing of it is run or allocated."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.model.conftest import edit_manifest, refused
from vae_serve.model.verify import verify


def decoder_with(folder: Path, change) -> None:
    model = onnx.load(folder / "decoder.onnx")
    change(model)
    (folder / "decoder.onnx").write_bytes(model.SerializeToString())


def test_external_data(stranger, signed):
    def change(model):
        weights = model.graph.initializer[0]
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        weights.external_data.add(key="location", value="../../etc/passwd")

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "external data")


def test_a_tensor_that_declares_a_hundred_gigabytes(stranger, signed):
    def change(model):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend([25 << 10, 1 << 20])

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "declares 107,374,182,400 bytes")


def test_an_operator_of_another_domain(stranger, signed):
    def change(model):
        model.graph.node[0].domain = "com.stranger"

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "com.stranger")


def test_an_import_of_another_domain(stranger, signed):
    decoder_with(stranger, lambda model: model.opset_import.append(helper.make_opsetid("com.stranger", 1)))
    refused(signed(stranger), "decoder.onnx", "com.stranger")


@pytest.mark.parametrize("operator", ["RandomNormalLike", "Loop", "If", "ConstantOfShape", "Expand", "Tile", "Range"])
def test_an_operator_that_exports_are_not_made_of(stranger, signed, operator):
    def change(model):
        model.graph.node[-1].op_type = operator

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", operator)


def test_a_graph_within_the_graph(stranger, signed):
    def change(model):
        model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "g", [], [])))

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "field 6")


def test_a_function_of_its_own(stranger, signed):
    def change(model):
        model.functions.append(helper.make_function("d", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 13)]))

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "field 25")


def test_small_weights_that_would_make_a_huge_product(stranger, signed):
    """Two vectors of 64 KiB and 1 MiB, added across each other, are 17 GB."""

    def change(model):
        tall, wide = np.zeros((1 << 14, 1), np.float32), np.zeros((1, 1 << 18), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(tall, "tall"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(wide, "wide"))
        model.graph.node.insert(0, helper.make_node("Add", ["tall", "wide"], ["vast"]))

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "vast", "computes a constant")


def test_pads_without_end(stranger, signed):
    def change(model):
        (node, *_) = [node for node in model.graph.node if node.op_type == "Conv"]
        (pads,) = [attribute for attribute in node.attribute if attribute.name == "pads"]
        pads.ints[:] = [1 << 20] * 4

    decoder_with(stranger, change)
    refused(signed(stranger), "decoder.onnx", "Conv", "window")


@pytest.mark.parametrize("name", ["image", "other"])
def test_an_output_other_than_the_manifest_says(stranger, signed, name):
    def change(model):
        model.graph.output[0].name = name
        model.graph.node[-1].output[0] = name

    decoder_with(stranger, change)
    folder = signed(stranger)
    if name == "image":
        verify(folder)
    else:
        refused(folder, "decoder.onnx", "other")


def test_a_network_of_two_inputs(stranger, signed):
    def another(model):
        model.graph.input.add().CopyFrom(model.graph.input[0])
        model.graph.input[1].name = "more"

    def said(fields):
        (decoder,) = (graph for graph in fields["graphs"] if graph["role"] == "decoder")
        inputs = decoder["inputs"]
        inputs.append({**inputs[0], "name": "more"})

    decoder_with(stranger, another)
    edit_manifest(stranger, said)
    refused(signed(stranger), "decoder.onnx has the inputs")


def test_an_opset_other_than_the_manifest_says(stranger):
    edit_manifest(stranger, lambda fields: fields.update(opset=17))
    refused(stranger, "opset 13", "17")
