// The exported networks in Node: node onnxruntime_node.mjs BUNDLE (needs onnxruntime-node)
import { InferenceSession, Tensor } from "onnxruntime-node";

const bundle = process.argv[2];
const options = { intraOpNumThreads: 1 }; // fastest for networks this small
const encoder = await InferenceSession.create(`${bundle}/encoder.onnx`, options);
const decoder = await InferenceSession.create(`${bundle}/decoder.onnx`, options);

/** Pictures, a Float32Array (or a Uint8Array for a raw-pixel bundle) of the given shape -> two Float32Arrays. */
export async function encode(image, shape) {
  const { z_mean, z_log_var } = await encoder.run({ image: new Tensor(image, shape) });
  return [z_mean.data, z_log_var.data];
}

export async function decode(z, shape) {
  const { image } = await decoder.run({ z: new Tensor(z, shape) });
  return image.data;
}

const image = await decode(new Float32Array([0, 0]), [1, 2]);
console.log("the picture at the middle of the plane:", image.length, "values");
