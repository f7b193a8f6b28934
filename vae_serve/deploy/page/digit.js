// Strokes become the picture that the encoder was trained on. Pure; runs without a browser.
//
// MNIST's rule (Yann LeCun, "The MNIST database"): the digit is scaled to fit a 20 x 20 box, its aspect ratio kept, and
// moved so that its centre of mass lies in the middle of the 28 x 28 field. Here the pen's path is scaled, not its
// pixels, so that the stroke is as wide as a training digit's however large the drawing was.

const BOX = 20 / 28; // of the smaller side
const PEN = 1.3 / 28; // half the stroke's width, of the smaller side
const MARGIN = 1; // pixels over which the stroke's edge fades

/**
 * Strokes (lists of [x, y], any unit, y down) as height x width floats: 0 = background, 1 = ink.
 * Returns null where there is no stroke.
 */
export function render(strokes, height, width) {
  const points = strokes.flat();
  if (!points.length) return null;
  const side = Math.min(height, width);
  const pen = PEN * side;
  const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const extent = Math.max(right - left, bottom - top);
  const scale = extent ? (BOX * side - 2 * pen) / extent : 0; // a lone dot stays a dot
  const placed = strokes.map((stroke) =>
    stroke.map(([x, y]) => [(x - (left + right) / 2) * scale + width / 2, (y - (top + bottom) / 2) * scale + height / 2]),
  );
  const [x, y] = centreOfMass(ink(placed, height, width, pen), height, width);
  const moved = placed.map((stroke) => stroke.map((point) => [point[0] + width / 2 - x, point[1] + height / 2 - y]));
  return ink(moved, height, width, pen);
}

/** The darkest stroke over each pixel's centre, by its distance from the pen's path. */
function ink(strokes, height, width, pen) {
  const image = new Float32Array(height * width);
  const reach = pen + MARGIN / 2;
  for (const stroke of strokes) {
    for (let index = 0; index < Math.max(stroke.length - 1, 1); index++) {
      const from = stroke[index];
      const to = stroke[index + 1] ?? from;
      const rows = range(from[1], to[1], reach, height);
      const columns = range(from[0], to[0], reach, width);
      for (let row = rows[0]; row <= rows[1]; row++) {
        for (let column = columns[0]; column <= columns[1]; column++) {
          const value = (reach - distance(column + 0.5, row + 0.5, from, to)) / MARGIN;
          const at = row * width + column;
          image[at] = Math.max(image[at], Math.min(value, 1));
        }
      }
    }
  }
  return image;
}

function range(one, other, reach, size) {
  return [
    Math.max(Math.floor(Math.min(one, other) - reach), 0),
    Math.min(Math.ceil(Math.max(one, other) + reach), size - 1),
  ];
}

function distance(x, y, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const square = dx * dx + dy * dy;
  const along = square ? Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / square, 0), 1) : 0;
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}

function centreOfMass(image, height, width) {
  let [mass, x, y] = [0, 0, 0];
  for (let at = 0; at < height * width; at++) {
    mass += image[at];
    x += image[at] * ((at % width) + 0.5);
    y += image[at] * (Math.floor(at / width) + 0.5);
  }
  return [x / mass, y / mass];
}
