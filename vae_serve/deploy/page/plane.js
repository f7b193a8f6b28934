// The view of the plane: scatter, pictures behind it, the point that is dragged, the drawing's place, the walk's line.
// It knows two coordinates; which of the latent axes they are is the page's affair.

import { imageData } from "./picture.js";

const STEP = 0.05; // of an arrow key, in units of the latent
const LARGE_STEP = 0.5; // with Shift
const MAP_SIDE = 15; // pictures a side
const POINT = 9; // radius of the dragged point, CSS pixels

export class Plane {
  constructor(element, span) {
    this.element = element;
    this.span = span; // the plane shows -span..span on both axes
    this.point = [0, 0];
    this.onMove = () => {};
    this.scatter = null; // {z: pairs, labels}
    this.highlight = null; // class
    this.map = null; // {model, pictures}
    this.drawn = null; // {mean: [x, y], deviation: [x, y]}
    this.line = null; // [[x, y], [x, y]]
    [this.back, this.front] = [0, 1].map(() => element.appendChild(document.createElement("canvas")));
    this.#listen();
    new ResizeObserver(() => this.paint()).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  /** Moves the point, within the plane, and tells `onMove` about it. */
  move(point) {
    this.place(point);
    this.onMove(this.point);
  }

  place(point) {
    this.point = point.map((value) => Math.min(Math.max(value, -this.span), this.span));
    this.paintFront();
  }

  #listen() {
    const { element } = this;
    const follow = (event) => {
      const box = element.getBoundingClientRect();
      this.move([
        ((event.clientX - box.left) / box.width) * 2 * this.span - this.span,
        this.span - ((event.clientY - box.top) / box.height) * 2 * this.span,
      ]);
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      follow(event);
    });
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && follow(event));
    element.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? LARGE_STEP : STEP;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      const by = moves[event.key];
      if (!by && event.key !== "Home") return;
      event.preventDefault();
      this.move(by ? [this.point[0] + by[0], this.point[1] + by[1]] : [0, 0]);
    });
  }

  paint() {
    this.#paintBack();
    this.paintFront();
  }

  #context(canvas) {
    const size = this.element.clientWidth;
    const density = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(size * density);
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    const style = getComputedStyle(document.documentElement);
    return {
      context,
      size,
      colour: (name) => style.getPropertyValue(`--${name}`).trim(),
      x: (value) => ((value + this.span) / (2 * this.span)) * size,
      y: (value) => ((this.span - value) / (2 * this.span)) * size,
    };
  }

  #paintBack() {
    const view = this.#context(this.back);
    if (this.map) this.#pictures(view);
    this.#grid(view);
    if (this.scatter) this.#dots(view);
  }

  #grid({ context, size, colour, x, y }) {
    context.strokeStyle = colour("line");
    context.fillStyle = colour("soft");
    context.font = "11px system-ui, sans-serif";
    const every = this.span > 6 ? 2 : 1;
    for (let value = -Math.floor(this.span / every) * every; value <= this.span; value += every) {
      context.globalAlpha = value === 0 ? 1 : 0.45;
      context.beginPath();
      context.moveTo(x(value), 0);
      context.lineTo(x(value), size);
      context.moveTo(0, y(value));
      context.lineTo(size, y(value));
      context.stroke();
      context.globalAlpha = 1;
      if (Math.abs(value) === this.span) continue;
      const text = String(value).replace("-", "−");
      context.textAlign = "center";
      context.fillText(text, x(value), size - 4);
      context.textAlign = "left";
      if (value !== 0) context.fillText(text, 4, y(value) + 4);
    }
  }

  #pictures({ context, size, colour }) {
    const { model, pictures } = this.map;
    const cell = size / MAP_SIDE;
    const tile = document.createElement("canvas");
    [tile.width, tile.height] = [model.width, model.height];
    const painter = tile.getContext("2d");
    painter.fillStyle = colour("ink");
    context.globalAlpha = this.scatter ? 0.45 : 1;
    for (let index = 0; index < MAP_SIDE * MAP_SIDE; index++) {
      painter.putImageData(imageData(model, pictures, index), 0, 0);
      painter.globalCompositeOperation = model.channels === 1 ? "source-in" : "destination-over"; // ink takes the theme's colour
      painter.fillRect(0, 0, model.width, model.height);
      context.drawImage(tile, (index % MAP_SIDE) * cell, Math.floor(index / MAP_SIDE) * cell, cell, cell);
    }
    context.globalAlpha = 1;
  }

  /** The coordinates of the pictures behind the plane, row by row from the top left. */
  mapPoints() {
    const at = (index) => ((index + 0.5) / MAP_SIDE) * 2 * this.span - this.span;
    return Array.from({ length: MAP_SIDE * MAP_SIDE }, (_, index) => [
      at(index % MAP_SIDE),
      -at(Math.floor(index / MAP_SIDE)),
    ]);
  }

  #dots({ context, size, colour, x, y }) {
    const { z, labels } = this.scatter;
    const radius = Math.max(size / 420, 1);
    const alpha = this.map ? 0.45 : 0.6;
    const classes = [...new Set(labels)].sort((a, b) => (a === this.highlight) - (b === this.highlight));
    for (const label of classes) {
      const dim = this.highlight !== null && label !== this.highlight;
      context.globalAlpha = dim ? 0.06 : alpha;
      context.fillStyle = colour(`class-${label % 10}`);
      context.beginPath();
      for (let index = 0; index < labels.length; index++) {
        if (labels[index] !== label) continue;
        const [px, py] = [x(z[2 * index]), y(z[2 * index + 1])];
        context.moveTo(px + radius, py);
        context.arc(px, py, radius, 0, 2 * Math.PI);
      }
      context.fill();
    }
    context.globalAlpha = 1;
  }

  paintFront() {
    const { context, colour, x, y } = this.#context(this.front);
    if (this.line) {
      context.strokeStyle = colour("ink");
      context.setLineDash([5, 4]);
      context.beginPath();
      this.line.forEach(([px, py]) => context.lineTo(x(px), y(py)));
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = colour("ink");
      for (const [px, py] of this.line) {
        context.beginPath();
        context.arc(x(px), y(py), 3.5, 0, 2 * Math.PI);
        context.fill();
      }
    }
    if (this.drawn) {
      const { mean, deviation } = this.drawn;
      const unit = x(1) - x(0);
      context.strokeStyle = colour("accent");
      context.lineWidth = 2;
      context.beginPath();
      context.ellipse(x(mean[0]), y(mean[1]), deviation[0] * unit, deviation[1] * unit, 0, 0, 2 * Math.PI);
      context.stroke();
    }
    const [px, py] = [x(this.point[0]), y(this.point[1])];
    context.lineWidth = 5;
    context.strokeStyle = colour("card");
    context.beginPath();
    context.arc(px, py, POINT, 0, 2 * Math.PI);
    context.stroke();
    context.lineWidth = 2.5;
    context.strokeStyle = colour("accent");
    context.stroke();
    context.lineWidth = 1;
  }
}
