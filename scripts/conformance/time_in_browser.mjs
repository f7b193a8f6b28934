// node time_in_browser.mjs FOLDER INPUT SHAPE BATCH...: how many rows a second ONNX Runtime Web runs through each .onnx
// file of a folder in a headless Chromium, one thread of WebAssembly, the files taking turns. SHAPE is a row's, 28,28,1.
// Prints {file: {batch: rows a second}}, medians.

import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { launch, serve } from "./browser.mjs";

const [folder, input, shape, ...batches] = process.argv.slice(2);
const files = (await readdir(folder)).filter((name) => name.endsWith(".onnx"));
const runtime = join(import.meta.dirname, "../../node_modules/onnxruntime-web/dist/");
const server = await serve({ "/": join(import.meta.dirname, "blank.html"), "/graphs/": resolve(folder), "/dist/": runtime });
const browser = await launch();
const page = await browser.newPage();
await page.goto(server.url);
const rates = await page.evaluate(async ({ files, input, shape, batches }) => {
  const ort = await import("/dist/ort.wasm.bundle.min.mjs");
  Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: "/dist/" });
  const sessions = {};
  for (const file of files) sessions[file] = await ort.InferenceSession.create(`/graphs/${file}`);
  const size = shape.reduce((product, length) => product * length);
  const rates = Object.fromEntries(files.map((file) => [file, {}]));
  for (const batch of batches) {
    const data = Float32Array.from({ length: batch * size }, (_, index) => (index * 7919 % 1000) / 1000);
    const feed = { [input]: new ort.Tensor("float32", data, [batch, ...shape]) };
    const taken = Object.fromEntries(files.map((file) => [file, []]));
    for (let round = 0; round < 12; round++) {
      for (const file of files) {
        const begun = performance.now();
        let runs = 0;
        while (performance.now() - begun < 60) {
          await sessions[file].run(feed);
          runs++;
        }
        if (round > 1) taken[file].push((performance.now() - begun) / runs); // the first ones warm up
      }
    }
    for (const file of files) rates[file][batch] = 1000 * batch / taken[file].sort((a, b) => a - b)[5];
  }
  return rates;
}, { files, input, shape: shape.split(",").map(Number), batches: batches.map(Number) });
console.log(JSON.stringify(rates));
await browser.close();
server.close();
