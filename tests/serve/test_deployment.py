"""What is offered for running the service elsewhere fits the service: probes, health check, dashboard."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from serving import MNIST, ROOT, serving, tensor

from vae_serve.cli import app

EXAMPLES = ROOT / "examples" / "service"


def test_the_probes_of_kubernetes_are_answered_and_its_words_are_options(service):
    deployment, exposed = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [port] = container["ports"]
    assert (port["name"], port["containerPort"]) == ("http", 8000)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert get["port"] == port["name"]
        assert service.get(get["path"]).status == 200
    known_options(container["args"])
    assert exposed["spec"]["ports"][0]["targetPort"] == port["name"]
    stop = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > stop + 30
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert service.get(annotations["prometheus.io/path"]).status == 200
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def known_options(words: list[str]) -> None:
    """Holds words against the options of `serve`."""
    import typer

    group = typer.main.get_command(app(["serve"]))
    command = group.get_command(None, "serve") if hasattr(group, "get_command") else group
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_dockerfile_runs_as_nobody_special_and_its_health_check_tells(tmp_path):
    text = (EXAMPLES / "Dockerfile").read_text().replace("\\\n", " ")
    user = re.search(r"^USER (\S+)$", text, re.M)[1]
    assert user != "root"
    assert f"useradd --system --no-create-home --shell /usr/sbin/nologin {user}" in text
    for words in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.M):
        known_options(json.loads(words))
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        assert all((ROOT / word).exists() for word in source.split())
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.M)
    program = json.loads(check)[2]
    assert subprocess.run(
        [sys.executable, "-c", program.replace("8000", "1")], capture_output=True, check=False
    ).returncode
    with serving("--model", MNIST, cwd=tmp_path) as service:
        right = program.replace("127.0.0.1:8000", service.at)
        assert subprocess.run([sys.executable, "-c", right], capture_output=True, check=False).returncode == 0


def test_the_dashboard_asks_for_metrics_that_there_are(service):
    dashboard = json.loads((EXAMPLES / "grafana.json").read_text())
    service.infer("mnist_decoder", {"inputs": [tensor("z", np.zeros((1, 2)))]})
    text = service.get("/metrics").body.decode()
    there = set(re.findall(r"^([a-z_]+)[{ ]", text, re.M))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for expr in asked for name in re.findall(r"\b((?:vae_serve|process)_[a-z_]+)\b", expr)}
    assert len(names) > 8
    assert names - there == set()
    labels = {"endpoint", "status", "model", "le", "result"}
    for label in {word for expr in asked for words in re.findall(r"by \((.*?)\)", expr) for word in words.split(", ")}:
        assert label in labels
        assert f"{label}=" in text


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_example_in_python_is_answered(tmp_path, protocol, expected):
    pytest.importorskip(f"tritonclient.{protocol}")
    with serving("--model", MNIST, "--grpc-port", 0, cwd=tmp_path) as service:
        where = service.told["grpc"] if protocol == "grpc" else service.at
        command = [sys.executable, EXAMPLES / "client.py", where, protocol]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    z_mean, _ = expected.encode(np.zeros((2, 28, 28, 1), np.float32))
    largest = float(expected.decode(z_mean)[0].max()).hex()
    assert done.stdout == f"(2, 2) (2, 2) (2, 28, 28, 1) {largest}\n"


def test_the_example_in_javascript_is_answered(service, expected):
    if shutil.which("node") is None:
        pytest.skip("there is no Node")
    done = subprocess.run(["node", EXAMPLES / "client.mjs", service.url], capture_output=True, text=True, check=True)
    largest = expected.decode(np.array([[0.5, -1]], np.float32)).max()
    assert json.loads(done.stdout)["shape"] == [1, 28, 28, 1]
    assert np.float32(json.loads(done.stdout)["largest"]) == largest


@pytest.mark.slow
def test_the_soak_passes_in_short(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "benchmarks" / "soak.py", "--minutes", "0.15"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"right answers to well-behaved callers \| [1-9]", done.stdout)
