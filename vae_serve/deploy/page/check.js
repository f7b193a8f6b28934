// The self-check: the bundle's conformance vectors through this browser, in batches of 1 and of 7.

const BATCHES = [1, 7];

/** One row for each output and batch size: {name, batch, largest, allowed}. */
export async function check(model) {
  const { conformance } = model.facts;
  const rows = [];
  for (const [network, run] of [["encoder", (input) => model.encodeRaw(input)], ["decoder", (input) => decoded(model, input)]]) {
    const { input, outputs } = conformance[network];
    const { shape, data } = await model.array(input);
    const expected = await Promise.all(Object.entries(outputs).map(async ([name, file]) => [name, await model.array(file)]));
    for (const batch of BATCHES) {
      const largest = Object.fromEntries(expected.map(([name]) => [name, 0]));
      const width = data.length / shape[0];
      for (let start = 0; start < shape[0]; start += batch) {
        const found = await run(data.slice(start * width, (start + batch) * width));
        for (const [name, { data: whole, shape: [count] }] of expected) {
          const from = start * (whole.length / count);
          largest[name] = Math.max(largest[name], difference(whole.subarray(from), found[name]));
        }
      }
      for (const [name, { data: { BYTES_PER_ELEMENT } }] of expected) {
        const allowed = conformance.tolerance[BYTES_PER_ELEMENT === 1 ? "uint8" : "float32"];
        rows.push({ name, batch, largest: largest[name], allowed });
      }
    }
  }
  return rows;
}

async function decoded(model, z) {
  return { [model.facts.decoder.outputs[0].name]: await model.decode(z) };
}

/** Largest |actual - expected|, of floats divided by max(1, |expected|); infinite where a value is not finite. */
function difference(expected, actual) {
  const bytes = expected instanceof Uint8Array;
  let largest = 0;
  for (let index = 0; index < actual.length; index++) {
    const apart = Math.abs(actual[index] - expected[index]) / (bytes ? 1 : Math.max(1, Math.abs(expected[index])));
    if (!(apart <= largest)) largest = Number.isFinite(apart) ? apart : Infinity;
  }
  return largest;
}
