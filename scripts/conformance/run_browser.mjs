// node run_browser.mjs JOB EXAMPLE: the example's page in a headless Chromium over the vectors of a job.

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { launch, serve } from "./browser.mjs";

const [jobFile, example] = process.argv.slice(2);
const job = JSON.parse(await readFile(jobFile));
const folder = dirname(resolve(jobFile));
const runtime = join(import.meta.dirname, "../../node_modules/onnxruntime-web");
const server = await serve({
  "/": resolve(example),
  "/bundle/": job.bundle,
  "/dist/": join(runtime, "dist"),
  "/job/": folder,
  "/run.mjs": join(import.meta.dirname, "run.mjs"),
});
const browser = await launch();
const page = await browser.newPage();
const said = [];
page.on("console", (message) => said.push(message.text()));
page.on("pageerror", (error) => said.push(error.message));
await page.exposeFunction("keep", (file, text) => writeFile(join(folder, file), Buffer.from(text, "base64")));
await page.goto(server.url);
await page.waitForFunction(() => globalThis.decode, null, { timeout: 60_000 }).catch((error) => {
  throw new Error([error.message, ...said].join("\n"));
});
const rates = await page.evaluate(async (job) => {
  const { run } = await import("/run.mjs");
  const read = async (file) => new Uint8Array(await (await fetch(`/job/${file}`)).arrayBuffer());
  const write = (file, bytes) => keep(file, btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")));
  return run(job, { encode, decode }, read, write);
}, job);
const { version } = JSON.parse(await readFile(join(runtime, "package.json")));
console.log(JSON.stringify({ version: `${version}, Chromium ${browser.version()}`, rates }));
await browser.close();
server.close();
