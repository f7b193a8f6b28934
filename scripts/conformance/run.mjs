// Runs encode and decode over the vectors of a job, in Node or in a page: the same loop as run_python.py.

/** `read(file)` gives bytes, `write(file, bytes)` keeps them; returns images per second for each function. */
export async function run(job, functions, read, write) {
  const rates = {};
  for (const [name, call] of Object.entries(job.calls)) {
    const type = { float32: Float32Array, uint8: Uint8Array }[call.dtype];
    const rows = new type((await read(call.file)).buffer);
    const [count, ...rest] = call.shape;
    const width = rest.reduce((all, size) => all * size, 1);
    const once = async (data) => [await functions[name](data, [data.length / width, ...rest])].flat();
    for (const batch of job.batches) {
      const columns = [];
      for (let start = 0; start < count; start += batch) {
        const outputs = await once(rows.slice(start * width, (start + batch) * width));
        outputs.forEach((output, index) => (columns[index] ??= []).push(output.slice()));
      }
      for (const [index, parts] of columns.entries()) await write(`${name}-${batch}-${index}.out`, await joined(parts));
    }
    if (!job.seconds) continue;
    const many = new type(job.timed_batch * width).map((_, at) => rows[at % rows.length]);
    await once(many);
    let best = Infinity;
    const end = performance.now() + 1000 * job.seconds;
    while (performance.now() < end) {
      const started = performance.now();
      await once(many);
      best = Math.min(best, performance.now() - started);
    }
    rates[name] = (1000 * job.timed_batch) / best;
  }
  return rates;
}

const joined = async (parts) => new Uint8Array(await new Blob(parts).arrayBuffer());
