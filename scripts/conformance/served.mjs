// node served.mjs URL [FLAGS]: uses the page that a service answers with, in a headless Chromium with these flags, and prints what was seen
// as one JSON object: which paths were asked, what was shown.

import { launch } from "./browser.mjs";

const [url, ...flags] = process.argv.slice(2);
const browser = await launch(flags);
const page = await (await browser.newContext({ viewport: { width: 1120, height: 1280 } })).newPage();
const seen = { requests: [], elsewhere: [], errors: [] };
page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
page.on("pageerror", (error) => seen.errors.push(error.message));
page.on("request", (request) => {
  if (request.url().startsWith(url)) seen.requests.push(request.url().slice(url.length));
  else seen.elsewhere.push(request.url());
});
await page.goto(url);
await page.waitForSelector("#facts p");
await page.focus("#plane");
await page.keyboard.press("Home");
for (let press = 0; press < 2; press++) await page.keyboard.press("Shift+ArrowRight");
await page.waitForTimeout(500);
seen.title = await page.textContent("#decoded-title");
seen.pixels = await page.evaluate(() => {
  const canvas = document.getElementById("picture");
  return Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).filter((_, at) => at % 4 === 3);
});
await page.click("#sample");
await page.waitForFunction(() => document.querySelector("#landed").textContent.startsWith("Lands at"));
seen.landed = await page.textContent("#landed");
await page.click("#run-check");
await page.waitForFunction(() => /^(Yes|No|The check)/.test(document.querySelector("#verdict").textContent));
seen.verdict = await page.textContent("#verdict");
console.log(JSON.stringify(seen));
await browser.close();
