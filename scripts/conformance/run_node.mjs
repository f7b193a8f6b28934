// node run_node.mjs JOB EXAMPLE: the example in Node over the vectors of a job.

import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { run } from "./run.mjs";

const [jobFile, example] = process.argv.slice(2);
const job = JSON.parse(await readFile(jobFile));
const folder = dirname(jobFile);
process.argv[2] = job.bundle;
const log = console.log;
console.log = () => {}; // the example's own line
const functions = await import(pathToFileURL(resolve(example)));
const rates = await run(
  job,
  functions,
  async (file) => Uint8Array.from(await readFile(join(folder, file))), // a copy, whose buffer is its own
  (file, bytes) => writeFile(join(folder, file), bytes),
);
log(JSON.stringify({ version: createRequire(import.meta.url)("onnxruntime-node/package.json").version, rates }));
