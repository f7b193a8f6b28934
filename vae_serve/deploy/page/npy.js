// NumPy's .npy files, version 1 and 2 of the format (numpy/lib/format.py), for the types that a bundle holds.

const TYPES = { "<f4": Float32Array, "|u1": Uint8Array };

/** The array in `buffer` as {shape, data}; `file` names it in an error. */
export function parse(buffer, file) {
  const bytes = new Uint8Array(buffer);
  if (String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") throw new Error(`${file} is not an .npy file`);
  const start = bytes[6] === 1 ? 10 : 12;
  const view = new DataView(buffer);
  const length = bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const type = TYPES[/'descr': '([^']+)'/.exec(header)?.[1]];
  if (!type || /'fortran_order': True/.test(header)) throw new Error(`${file} holds no float32 or uint8 in C order`);
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((size) => size.trim()).map(Number);
  const data = new type(buffer.slice(start + length));
  if (data.length !== shape.reduce((all, size) => all * size, 1)) throw new Error(`${file} is cut short`);
  return { shape, data };
}
