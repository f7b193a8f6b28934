"""Runs one of the Python examples over the vectors of a job: python run_python.py JOB EXAMPLE PACKAGE.

A process of its own: numpy, the runtime and the example, nothing of vae-serve. See matrix.py for the job.
"""

import importlib.metadata
import json
import runpy
import sys
import time
from pathlib import Path

import numpy as np

job_file, example, package = sys.argv[1:]
job = json.loads(Path(job_file).read_text())
folder = Path(job_file).parent
sys.argv = [example, job["bundle"]]
functions = runpy.run_path(example, run_name="example")
rates = {}
for name, call in job["calls"].items():
    rows = np.fromfile(folder / call["file"], call["dtype"]).reshape(call["shape"])
    for batch in job["batches"]:
        parts = []
        for start in range(0, len(rows), batch):
            outputs = functions[name](rows[start : start + batch])
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            parts.append([np.array(output) for output in outputs])  # copied: a runtime may use the memory again
        for index, column in enumerate(zip(*parts, strict=True)):
            np.concatenate(column).tofile(folder / f"{name}-{batch}-{index}.out")
    if not job["seconds"]:
        continue
    many = np.tile(rows, (-(-job["timed_batch"] // len(rows)), *[1] * (rows.ndim - 1)))[: job["timed_batch"]]
    functions[name](many)
    best = float("inf")
    end = time.perf_counter() + job["seconds"]
    while time.perf_counter() < end:
        start_time = time.perf_counter()
        functions[name](many)
        best = min(best, time.perf_counter() - start_time)
    rates[name] = len(many) / best
assert not any(module.split(".")[0] == "vae_serve" for module in sys.modules)
print(json.dumps({"version": importlib.metadata.version(package), "rates": rates}))
