"""The description is true: every endpoint is in it, and what it allows and what it does not is answered as it says."""

import asyncio
import subprocess
import sys

import pytest
from serving import MNIST

from vae_serve.serve.endpoints import EXPLORER, routes
from vae_serve.serve.limits import Limits
from vae_serve.serve.metrics import Metrics
from vae_serve.serve.openapi import document
from vae_serve.serve.served import load
from vae_serve.serve.service import Service

schemathesis = pytest.importorskip("schemathesis")


def test_every_endpoint_is_described_and_every_description_is_an_endpoint():
    served = load(MNIST)

    async def listed():
        service = Service(Limits(), 1)
        try:
            return routes(service, Metrics(), served).listed()
        finally:
            await service.stop()

    described = document(served, Limits())["paths"]
    pairs = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert pairs == {(method, path) for method, path, label in asyncio.run(listed()) if label != EXPLORER}


@pytest.mark.slow
def test_schemathesis_finds_no_failure(service, tmp_path):
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
    # JSON Schema cannot say that there are as many numbers as the shape says, nor what is a picture: it allows too much
    options = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", "10", "--seed", "1"]
    options += ["--phases", "examples,coverage,fuzzing", "--no-color"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert not [line for line in service.lines if "Traceback" in line]
