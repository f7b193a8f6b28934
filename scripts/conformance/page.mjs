// node page.mjs FOLDER [SCREENSHOTS]: uses the page of `vae-serve deploy web` as a person would, in a headless Chromium, and prints what came
// of it as one JSON object: what the page said, the pixels that it showed, what it fetched, how long it took.

import { join } from "node:path";
import { launch, serve } from "./browser.mjs";

const [folder, screenshots] = process.argv.slice(2);
const server = await serve({ "/": folder });
const browser = await launch();
const seen = { console: [], requests: [] };

/** A page with nobody's traces in it; everything that it says and fetches is kept. */
async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1120, height: 1280 }, ...options });
  const page = await context.newPage();
  page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.console.push(`uncaught: ${error.message}`));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.goto(server.url + "index.html");
  await page.waitForSelector("#facts p");
  return page;
}

const text = (page, id) => page.textContent(`#${id}`);
const settled = (page) => page.waitForTimeout(200); // several frames

/** Coordinates within an element, as parts of its size. */
async function within(page, id) {
  await page.locator(id).scrollIntoViewIfNeeded();
  const box = await page.locator(id).boundingBox();
  return (x, y) => [box.x + box.width * x, box.y + box.height * y];
}

async function stroke(page, id, points) {
  const at = await within(page, id);
  await page.mouse.move(...at(...points[0]));
  await page.mouse.down();
  for (const point of points) await page.mouse.move(...at(...point), { steps: 12 });
  await page.mouse.up();
  await settled(page);
}

/** A picture as the page shows it: its opacity where it is grey, its colours where it is not. */
const pixels = (page, id) =>
  page.evaluate((id) => {
    const canvas = document.getElementById(id);
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const wanted = canvas.classList.contains("ink") ? [3] : [0, 1, 2];
    return Array.from(data).filter((_, at) => wanted.includes(at % 4));
  }, id);

const page = await open();
const facts = await (await page.request.get(server.url + "model.json")).json();
const first = await page.evaluate(() => performance.getEntriesByName("first-picture")[0].startTime);
const fetched = await page.evaluate(() =>
  [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].reduce(
    (all, entry) => all + entry.transferSize,
    0,
  ),
);

await page.evaluate(() => performance.clearMeasures("decode"));
await stroke(page, "#plane", [[0.5, 0.5], [0.2, 0.3], [0.7, 0.65], [0.62, 0.41]]);
const times = await page.evaluate(() => performance.getEntriesByName("decode").map(({ duration }) => duration));
const dragged = { point: await text(page, "point"), pixels: await pixels(page, "picture") };

await page.focus("#plane");
await page.keyboard.press("Home");
for (const key of ["ArrowRight", "ArrowRight", "Shift+ArrowUp"]) await page.keyboard.press(key);
await settled(page);
const keys = { point: await text(page, "point") };

let drawn = null;
let typed = null;
if (await page.locator("#draw").isVisible()) {
  await stroke(page, "#pad", [[0.3, 0.25], [0.7, 0.25], [0.45, 0.8]]);
  drawn = { landed: await text(page, "landed"), point: await text(page, "point"), pixels: await pixels(page, "seen") };
  if (screenshots) {
    await page.mouse.move(0, 0);
    await page.evaluate(() => scrollTo(0, 0));
    await page.screenshot({ path: join(screenshots, "web.png"), clip: { x: 0, y: 0, width: 1120, height: 1182 }, fullPage: true });
  }
  await page.click("#clear");
  await page.focus("#pad");
  for (const key of [..."UUUU", " ", ..."DDDDDDDD", " "]) {
    await page.keyboard.press({ U: "ArrowUp", D: "ArrowDown" }[key] ?? "Space");
  }
  await settled(page);
  typed = { landed: await text(page, "landed"), pixels: await pixels(page, "seen") };
  await page.click("#sample");
  await settled(page);
  typed.sample = await text(page, "landed");
}

await page.click("#start");
await page.focus("#plane");
for (let press = 0; press < 3; press++) await page.keyboard.press("Shift+ArrowRight");
await settled(page);
const end = await text(page, "point");
await page.click("#end");
await page.focus("#along");
await page.keyboard.press("Home");
await page.keyboard.press("ArrowRight");
await settled(page);
const walked = { left: await text(page, "point"), end };
await page.click("#play");
await page.waitForFunction(() => document.querySelector("#along").value === "1000", null, { timeout: 30_000 });
await settled(page);
walked.arrived = await text(page, "point");

await page.check("#map");
await page.click("#run-check");
await page.waitForFunction(() => /^(Yes|No|The check)/.test(document.querySelector("#verdict").textContent));
const check = {
  verdict: await text(page, "verdict"),
  rows: await page.$$eval("#check-table tbody tr", (rows) => rows.map((row) => Array.from(row.cells, (cell) => cell.textContent))),
};
// the policy: code made from text must not run, and nothing outside may be reached
const policy = await page.evaluate(async () => {
  const inline = document.createElement("script");
  inline.textContent = "globalThis.ran = true";
  const refused = new Promise((resolve) => addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective), { once: true }));
  document.head.append(inline);
  return { inline: globalThis.ran ?? false, violated: await refused };
});
seen.console.pop(); // what the browser says of that very attempt

const phone = await open({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, colorScheme: "dark", deviceScaleFactor: 2 });
const at = await within(phone, "#plane");
await phone.touchscreen.tap(...at(0.25, 0.75));
await settled(phone);
const touched = {
  point: await text(phone, "point"),
  overflow: await phone.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
  background: await phone.evaluate(() => getComputedStyle(document.body).backgroundColor),
  pictureVisible: await phone.locator("#picture").isVisible(),
};
if (screenshots) await phone.screenshot({ path: join(screenshots, "web-phone.png") });

times.sort((a, b) => a - b);
console.log(
  JSON.stringify({
    origin: server.url, span: facts.span, chromium: browser.version(), first_picture_ms: first,
    decode_ms: { median: times[times.length >> 1], worst: times.at(-1), count: times.length },
    bytes: fetched, dragged, keys, drawn, typed, walked, check, policy, touched, ...seen,
  }),
);
await browser.close();
server.close();
