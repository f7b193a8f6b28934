// Model pictures on canvases. Grey ones are painted as black ink on nothing, and the style sheet inverts them at night.

/** Paints picture number `index` of `pictures` (n * H * W * C) into `canvas`. */
export function paint(canvas, model, pictures, index = 0) {
  const { height, width } = model;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.classList.toggle("ink", model.channels === 1);
  canvas.getContext("2d").putImageData(imageData(model, pictures, index), 0, 0);
}

/** Picture number `index` as ImageData. */
export function imageData({ height, width, channels, scale }, pictures, index = 0) {
  const data = new ImageData(width, height);
  const factor = scale(pictures) * 255;
  const start = index * height * width * channels;
  for (let pixel = 0; pixel < height * width; pixel++) {
    const from = start + pixel * channels;
    if (channels === 1) {
      data.data[4 * pixel + 3] = pictures[from] * factor;
    } else {
      for (let channel = 0; channel < 3; channel++) data.data[4 * pixel + channel] = pictures[from + channel] * factor;
      data.data[4 * pixel + 3] = 255;
    }
  }
  return data;
}
