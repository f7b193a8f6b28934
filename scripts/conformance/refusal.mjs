// node refusal.mjs FOLDER CASE: opens a page of `vae-serve deploy web` that cannot work and prints the sentence that it shows.
// CASE: as-it-is, no-simd (the processor's SSE 4.1 hidden from V8), no-runtime (the server does not answer for it).

import { launch, serve } from "./browser.mjs";

const [folder, kind] = process.argv.slice(2);
const server = await serve({ "/": folder });
const browser = await launch(kind === "no-simd" ? ["--js-flags=--no-enable-sse4-1"] : []);
const page = await browser.newPage();
if (kind === "no-runtime") await page.route("**/*.wasm.gz", (route) => route.abort());
await page.goto(server.url + "index.html");
await page.waitForSelector("#status.failed, #facts p");
console.log(JSON.stringify({ status: await page.textContent("#status"), shown: await page.isVisible("#page") }));
await browser.close();
server.close();
