// The two networks: fetched, checked, and run by ONNX Runtime Web. What goes wrong becomes a sentence for the visitor.

import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { parse } from "./npy.js";

// A function of one SIMD instruction: v128.const 0, drop.
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 253, 12,
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 26, 11,
]);

/** Something that the visitor should read as it stands. */
export class Refusal extends Error {}

export class Model {
  /** Fetches everything that the first picture needs, and starts on the rest. */
  static async load() {
    const facts = JSON.parse(new TextDecoder().decode(await get("model.json")));
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD_PROBE)) {
      if (facts.service) return new Served(facts, null);
      throw new Refusal(
        "This browser has no WebAssembly SIMD, which the model needs. Chrome 91, Firefox 89 and Safari 16.4 have it, " +
          "unless it is switched off.",
      );
    }
    const encoder = checked(facts, facts.encoder.file);
    encoder.catch(() => {}); // awaited below; until then a failure is not yet an unhandled one
    const [wasm, decoder] = await Promise.all([checked(facts, facts.runtime.file), checked(facts, facts.decoder.file)]);
    ort.env.wasm.numThreads = 1; // more would need headers that make the page cross-origin isolated
    ort.env.wasm.wasmBinary = wasm;
    const model = new Model(facts, await open(facts.decoder.file, decoder));
    await model.decode(new Float32Array(facts.latent_dim)); // the first run allocates
    model.encoderSession = encoder.then((bytes) => open(facts.encoder.file, bytes));
    model.encoderSession.catch(() => {}); // as above
    return model;
  }

  constructor(facts, decoderSession) {
    this.facts = facts;
    [this.height, this.width, this.channels] = facts.image_shape;
    this.decoderSession = decoderSession;
    this.encoderSession = null;
  }

  /** z (n * d floats) -> n pictures, floats 0..1, or bytes in a raw-pixel model. */
  async decode(z) {
    const outputs = await run(this.decoderSession, this.facts.decoder, z, [this.facts.latent_dim]);
    return outputs[this.facts.decoder.outputs[0].name];
  }

  /** Pictures, floats 0..1 -> {z_mean, z_log_var}, n * d floats each. */
  async encode(image) {
    const bytes = this.facts.encoder.inputs[0].dtype === "uint8";
    return this.encodeRaw(bytes ? Uint8Array.from(image, (value) => Math.round(value * 255)) : image);
  }

  /** Pictures in the model's own input type. */
  async encodeRaw(image) {
    return run(await this.encoderSession, this.facts.encoder, image, this.facts.image_shape);
  }

  /** One value of a decoded picture as 0..1. */
  scale(picture) {
    return picture instanceof Uint8Array ? 1 / 255 : 1;
  }

  async array(file) {
    return parse((await checked(this.facts, file)).buffer, file);
  }
}

/** The same by the service that the page came from, for a browser without WebAssembly. */
class Served extends Model {
  served = true;

  async decode(z) {
    const { service, decoder, latent_dim: d } = this.facts;
    return (await infer(service.decoder, decoder, z, [d]))[decoder.outputs[0].name];
  }

  async encodeRaw(image) {
    const { service, encoder, image_shape: shape } = this.facts;
    return infer(service.encoder, encoder, image, shape);
  }
}

const TYPES = { float32: ["FP32", Float32Array], uint8: ["UINT8", Uint8Array] };

/** A network's outputs by name: the Open Inference Protocol with binary tensors, in little-endian order as here. */
async function infer(name, graph, data, shape) {
  const [input] = graph.inputs;
  const rows = data.length / shape.reduce((all, size) => all * size, 1);
  const tensor = { name: input.name, datatype: TYPES[input.dtype][0], shape: [rows, ...shape] };
  const header = new TextEncoder().encode(
    JSON.stringify({
      inputs: [{ ...tensor, parameters: { binary_data_size: data.byteLength } }],
      parameters: { binary_data_output: true },
    }),
  );
  const answer = await fetch(`v2/models/${name}/infer`, {
    method: "POST",
    headers: { "Content-Type": "application/octet-stream", "Inference-Header-Content-Length": header.length },
    body: new Blob([header, data]),
  }).catch(() => {
    throw new Refusal("The service did not answer. Reload the page to try again.");
  });
  const contents = await answer.arrayBuffer();
  if (!answer.ok) throw new Refusal(JSON.parse(new TextDecoder().decode(contents)).error);
  const size = Number(answer.headers.get("Inference-Header-Content-Length"));
  let start = size;
  const outputs = {};
  for (const output of JSON.parse(new TextDecoder().decode(contents.slice(0, size))).outputs) {
    const [, type] = Object.values(TYPES).find(([datatype]) => datatype === output.datatype);
    const end = start + output.parameters.binary_data_size;
    outputs[output.name] = new type(contents.slice(start, end));
    start = end;
  }
  return outputs;
}

async function open(file, bytes) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], intraOpNumThreads: 1 });
  } catch (error) {
    throw new Refusal(`ONNX Runtime could not start with ${file}: ${error.message ?? error}`);
  }
}

async function run(session, graph, data, shape) {
  const [input] = graph.inputs;
  const rows = data.length / shape.reduce((all, size) => all * size, 1);
  const results = await session.run({ [input.name]: new ort.Tensor(input.dtype, data, [rows, ...shape]) });
  return Object.fromEntries(graph.outputs.map(({ name }) => [name, results[name].data]));
}

async function get(file) {
  let answer;
  try {
    answer = await fetch(file);
  } catch {
    throw new Refusal(`${file} could not be loaded: the server did not answer. Reload the page to try again.`);
  }
  if (!answer.ok) throw new Refusal(`${file} could not be loaded: the server answered ${answer.status}.`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** A file as `facts.files` describes it: unpacked where it was packed, its SHA-256 compared. */
async function checked(facts, file) {
  const { bytes, sha256 } = facts.files[file];
  let contents = await get(file);
  if (contents[0] === 0x1f && contents[1] === 0x8b) contents = await gunzip(contents, file);
  // crypto.subtle exists on https and localhost; elsewhere the length must do
  const sum = globalThis.crypto?.subtle && (await crypto.subtle.digest("SHA-256", contents));
  if (contents.length !== bytes || (sum && hex(sum) !== sha256)) {
    throw new Refusal(`${file} is damaged: it is not the file that this page was made with. Copy the folder again.`);
  }
  return contents;
}

async function gunzip(packed, file) {
  try {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Refusal(`${file} is damaged: it cannot be unpacked. Copy the folder again.`);
  }
}

const hex = (sum) => Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, "0")).join("");
