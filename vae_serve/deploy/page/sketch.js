// The drawing pad: strokes by pointer or keyboard, in a unit square.

const PEN = 0.075; // width of the pen on the pad, of its side
const STEP = 1 / 28; // of an arrow key

export class Sketch {
  constructor(canvas) {
    this.canvas = canvas;
    this.strokes = [];
    this.onChange = () => {};
    this.pen = [0.5, 0.5]; // of the keyboard
    this.down = false;
    canvas.classList.add("ink");
    this.#listen();
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  clear() {
    this.strokes = [];
    this.down = false;
    this.#changed();
  }

  #changed() {
    this.paint();
    this.onChange(this.strokes);
  }

  #listen() {
    const { canvas } = this;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map(inside);
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.strokes.push([at(event)]);
      this.#changed();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const events = event.getCoalescedEvents?.() ?? []; // empty in some browsers
      this.strokes.at(-1).push(...(events.length ? events : [event]).map(at));
      this.#changed();
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.paint());
  }

  #key(event) {
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    const by = moves[event.key];
    if (by) {
      this.pen = [inside(this.pen[0] + by[0]), inside(this.pen[1] + by[1])];
      if (this.down) this.strokes.at(-1).push([...this.pen]);
    } else if (event.key === " ") {
      this.down = !this.down;
      if (this.down) this.strokes.push([[...this.pen]]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.strokes = [];
      this.down = false;
    } else {
      return;
    }
    event.preventDefault();
    this.#changed();
  }

  paint() {
    const { canvas } = this;
    const side = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = PEN * side;
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      stroke.forEach(([x, y]) => context.lineTo(x * side, y * side));
      context.stroke();
    }
    if (!canvas.matches(":focus-visible")) return;
    context.lineWidth = side / 140;
    context.beginPath();
    context.arc(this.pen[0] * side, this.pen[1] * side, (PEN * side) / (this.down ? 2 : 1.2), 0, 2 * Math.PI);
    context.stroke();
  }
}

const inside = (value) => Math.min(Math.max(value, 0), 1);
