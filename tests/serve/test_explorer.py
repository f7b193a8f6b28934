"""The page at `/`, in a real Chromium; without WebAssembly the service runs the networks."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from serving import MNIST, ROOT

from vae_serve.model.model import Model

SCRIPTS = ROOT / "scripts" / "conformance"


def visited(service, *flags: str) -> dict:
    """What somebody saw who moved the point and drew; see served.mjs."""
    if shutil.which("chromium") is None or not (ROOT / "node_modules" / "playwright-core").is_dir():
        pytest.skip("there is no Chromium or no playwright-core; scripts/test installs them where it can")
    command = ["node", SCRIPTS / "served.mjs", service.url + "/", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--js-flags=--no-enable-sse4-1",)], ids=["WebAssembly", "no WebAssembly"])
def test_the_page_decodes_and_encodes_with_webassembly_or_by_the_service(service, flags):
    seen = visited(service, *flags)
    by_service = [path for path in seen["requests"] if path.endswith("/infer")]
    assert bool(by_service) == bool(flags)
    assert seen["title"] == ("Decoded by the service" if flags else "Decoded here")
    [expected] = Model.load(MNIST).decode(np.array([[1.0, 0.0]], np.float32))
    shown = np.array(seen["pixels"]) / 255
    assert np.abs(shown - expected.ravel()).max() < 1 / 255 + 1e-3
    assert seen["landed"].startswith("Lands at")
    assert seen["verdict"].startswith("Yes")
    assert seen["errors"] == []
    assert seen["elsewhere"] == []


def test_the_page_may_load_nothing_from_elsewhere_and_nobody_may_frame_it(service):
    page = service.get("/")
    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy
    assert page.body == service.get("/index.html").body == (ROOT / "vae_serve/deploy/page/index.html").read_bytes()
    assert service.get("/encoder.onnx").body == (MNIST / "encoder.onnx").read_bytes()
    assert service.get("/manifest.json").status == 404


def test_a_bundle_without_a_page_says_why(tmp_path):
    import linear_bundle
    from serving import serving

    with serving("--model", linear_bundle.write(tmp_path / "line", latent_dim=1), cwd=tmp_path) as service:
        answer = service.get("/")
    assert (answer.status, list(answer.json)) == (404, ["error"])
    assert "one latent dimension" in answer.json["error"]
