// The page: one point in the latent space, and everything that moves it or follows it.

import { check } from "./check.js";
import { render } from "./digit.js";
import { paint } from "./picture.js";
import { Plane } from "./plane.js";
import { Sketch } from "./sketch.js";

const STRIP = 9; // pictures of the walk
const WALK_SECONDS = 4; // from start to end
const KEPT_TIMES = 200; // decode times that the median is of

const element = (id) => document.getElementById(id);
const number = (value) => value.toFixed(2).replace("-", "−");

main().catch((error) => {
  const status = element("status");
  element("page").hidden = true;
  status.hidden = false;
  status.textContent = `The page cannot work: ${error.message}`;
  status.classList.add("failed");
});

async function main() {
  const { Model } = await import("./model.js").catch(() => {
    throw new Error("a script could not be loaded. Reload the page to try again, or copy the folder again.");
  });
  const model = await Model.load();
  const { facts } = model;
  element("name").textContent = facts.name;
  if (model.served) {
    element("where").textContent = "The service runs both networks, since this browser has no WebAssembly: what you draw is sent to it.";
    element("decoded-title").textContent = "Decoded by the service";
  }
  document.title = `Latent plane of ${facts.name}`;
  element("status").hidden = true;
  element("page").hidden = false;

  const axes = [0, 1]; // the latent axes that the plane shows
  let z = new Float32Array(facts.latent_dim);
  const plane = new Plane(element("plane"), facts.span);
  const show = follow(async () => decodeHere(model, z, axes));

  /** Makes `next` the point; `from` is what has already been painted. */
  function go(next, from) {
    z = Float32Array.from(next);
    if (from !== plane) plane.place(axes.map((axis) => z[axis]));
    return show();
  }
  plane.onMove = (point) => {
    const next = z.slice();
    axes.forEach((axis, index) => (next[axis] = point[index]));
    go(next, plane);
  };

  await go(z);
  performance.mark("first-picture");

  await model.encoderSession;
  const walk = walking(model, plane, axes, () => z, go);
  drawing(model, plane, axes, go);
  checking(model);
  axesChoice(model, plane, axes, () => go(z), walk);
  await scatter(model, plane, axes);
  showFacts(facts);
}

/** Runs `task` now, or once more when it is busy: the last call wins and none piles up. */
function follow(task) {
  let running = null;
  let again = false;
  return function start() {
    again = running !== null;
    running ??= (async () => {
      do {
        again = false;
        await task();
        await new Promise(requestAnimationFrame);
      } while (again);
      running = null;
    })();
    return running;
  };
}

const times = [];

async function decodeHere(model, z, axes) {
  const started = performance.now();
  const picture = await model.decode(z);
  const measure = performance.measure("decode", { start: started });
  paint(element("picture"), model, picture);
  times.push(measure.duration);
  if (times.length > KEPT_TIMES) times.shift();
  const median = [...times].sort((a, b) => a - b)[times.length >> 1];
  element("point").textContent =
    z.length === 2 ? `(${Array.from(z, number).join(", ")})` : axes.map((axis) => `z${axis + 1} ${number(z[axis])}`).join(", ");
  element("decode-time").textContent = `${median.toFixed(1)} ms`;
}

function drawing(model, plane, axes, go) {
  const { height, width, facts } = model;
  element("draw").hidden = model.channels !== 1;
  const pad = new Sketch(element("pad"));
  const blank = () => paint(element("seen"), model, new Float32Array(height * width));
  blank();

  async function land(image) {
    const { z_mean: mean, z_log_var: logVar } = await model.encode(image);
    const deviation = Array.from(logVar, (value) => Math.exp(value / 2));
    plane.drawn = { mean: axes.map((axis) => mean[axis]), deviation: axes.map((axis) => deviation[axis]) };
    element("landed").textContent =
      `Lands at ${axes.map((axis) => `${number(mean[axis])} ± ${number(deviation[axis])}`).join(", ")}`;
    await go(mean);
  }

  const update = follow(async () => {
    const image = render(pad.strokes, height, width);
    if (!image) return;
    paint(element("seen"), model, image);
    await land(image);
  });
  pad.onChange = () => {
    if (pad.strokes.length) {
      update();
    } else {
      plane.drawn = null;
      plane.paintFront();
      blank();
      element("landed").textContent = "It lands on the plane while you draw.";
    }
  };
  element("clear").addEventListener("click", () => pad.clear());

  let next = 0;
  element("sample").addEventListener("click", async () => {
    const { shape, data } = await model.array(facts.conformance.encoder.input);
    const size = height * width;
    const start = (next++ % shape[0]) * size;
    const image = Float32Array.from(data.subarray(start, start + size), (value) => value * model.scale(data));
    pad.clear();
    paint(element("seen"), model, image);
    await land(image);
  });
}

function walking(model, plane, axes, here, go) {
  const d = model.facts.latent_dim;
  const [slider, play] = [element("along"), element("play")];
  const ends = model.facts.walk.map((end) => Float32Array.from(end));
  const strip = Array.from({ length: STRIP }, () => {
    const canvas = document.createElement("canvas");
    canvas.className = "picture";
    return element("strip").appendChild(canvas);
  });
  const at = (part) => Float32Array.from(ends[0], (value, axis) => value + part * (ends[1][axis] - value));

  const refresh = follow(async () => {
    const points = new Float32Array(STRIP * d);
    strip.forEach((_, index) => points.set(at(index / (STRIP - 1)), index * d));
    const pictures = await model.decode(points);
    strip.forEach((canvas, index) => paint(canvas, model, pictures, index));
    plane.line = ends.map((end) => axes.map((axis) => end[axis]));
    plane.paintFront();
  });

  let started = null; // when the walk began, or null while it rests
  function step(now) {
    if (started === null) return;
    const part = Math.min((now - started) / 1000 / WALK_SECONDS, 1);
    slider.value = String(part * 1000);
    go(at(part));
    if (part < 1) requestAnimationFrame(step);
    else rest();
  }
  function rest() {
    started = null;
    play.textContent = "Walk";
    play.setAttribute("aria-pressed", "false");
  }
  play.addEventListener("click", () => {
    if (started !== null) return rest();
    started = performance.now();
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    requestAnimationFrame(step);
  });
  slider.addEventListener("input", () => {
    rest();
    go(at(slider.value / 1000));
  });
  plane.element.addEventListener("pointerdown", rest);
  for (const [index, id] of ["start", "end"].entries()) {
    element(id).addEventListener("click", () => {
      ends[index] = here().slice();
      slider.value = String(index * 1000);
      rest();
      refresh();
    });
  }
  refresh();
  return refresh;
}

function checking(model) {
  const [table, verdict] = [element("check-table"), element("verdict")];
  element("run-check").addEventListener("click", async () => {
    verdict.textContent = "Checking";
    verdict.classList.remove("failed");
    try {
      const rows = await check(model);
      table.tBodies[0].replaceChildren(
        ...rows.map(({ name, batch, largest, allowed }) => {
          const row = document.createElement("tr");
          for (const value of [name, batch, largest.toExponential(1), allowed.toExponential(0)]) {
            row.insertCell().textContent = value;
          }
          return row;
        }),
      );
      table.hidden = false;
      const worst = Math.max(...rows.map(({ largest }) => largest));
      const right = rows.every(({ largest, allowed }) => largest <= allowed);
      verdict.classList.toggle("failed", !right);
      verdict.textContent = right
        ? `Yes: the largest difference is ${worst.toExponential(1)}.`
        : `No: a difference of ${worst.toExponential(1)} is too large. Do not trust the pictures of this browser.`;
    } catch (error) {
      verdict.classList.add("failed");
      verdict.textContent = `The check could not run: ${error.message}`;
    }
  });
}

function axesChoice(model, plane, axes, redraw, refreshWalk) {
  const { latent_dim: d } = model.facts;
  const map = element("map");
  async function remap() {
    if (map.checked) {
      const points = plane.mapPoints();
      const z = new Float32Array(points.length * d);
      points.forEach((point, row) => axes.forEach((axis, index) => (z[row * d + axis] = point[index])));
      plane.map = { model, pictures: await model.decode(z) };
    } else {
      plane.map = null;
    }
    plane.paint();
  }
  map.addEventListener("change", remap);
  if (d === 2) return;
  element("axes").hidden = false;
  for (const [index, id] of ["axis-x", "axis-y"].entries()) {
    const select = element(id);
    for (let axis = 0; axis < d; axis++) select.add(new Option(`z${axis + 1}`, String(axis)));
    select.value = String(axes[index]);
    select.addEventListener("change", async () => {
      const other = axes[1 - index];
      if (Number(select.value) === other) select.value = String(axes[index]); // two different axes span a plane
      axes[index] = Number(select.value);
      plane.drawn = null;
      if (plane.all) plane.scatter = pairs(plane.all, axes, d);
      await Promise.all([redraw(), refreshWalk(), remap()]);
    });
  }
}

const pairs = ({ z, labels }, axes, d) => ({
  z: Float32Array.from({ length: labels.length * 2 }, (_, at) => z[(at >> 1) * d + axes[at & 1]]),
  labels,
});

async function scatter(model, plane, axes) {
  const { scatter: files, latent_dim: d, classes } = model.facts;
  if (!files) return;
  const [z, labels] = await Promise.all([model.array(files.z), model.array(files.labels)]);
  plane.all = { z: z.data, labels: labels.data };
  plane.scatter = pairs(plane.all, axes, d);
  plane.paint();
  const buttons = classes.map((name, label) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = `class-${label % 10}`;
    button.textContent = name;
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      plane.highlight = plane.highlight === label ? null : label;
      buttons.forEach((other, index) => other.setAttribute("aria-pressed", String(plane.highlight === index)));
      plane.paint();
    });
    return button;
  });
  element("classes").replaceChildren(...buttons);
}

function showFacts(facts) {
  element("facts").replaceChildren(
    ...facts.about.map((line) => {
      const paragraph = document.createElement("p");
      paragraph.textContent = line;
      return paragraph;
    }),
  );
}
