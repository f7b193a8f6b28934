"""Each runtime, in a process of its own, gives what the trained model gave; the examples are what is run."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.conformance import matrix, runners
from vae_serve.model import bundle

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_file())  # api/ needs this package


def tried(example: str, path: Path):
    [runtime] = [one for one in runners.RUNTIMES if one.example == example]
    try:
        return matrix.try_runtime(runtime, path, seconds=0)
    except runners.Unavailable as reason:
        pytest.skip(f"{runtime.name}: {reason}")


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_gives_the_trained_models_outputs_in_batches_of_1_and_7(everywhere, example):
    row = tried(example, everywhere)
    assert set(row.largest) == {("encode", 1), ("encode", 7), ("decode", 1), ("decode", 7)}
    assert {key: difference for key, difference in row.largest.items() if difference > 1e-5} == {}


@pytest.mark.slow
@pytest.mark.parametrize("example", ["onnxruntime_python.py", "onnxruntime_node.mjs", "onnxruntime_web.html"])
def test_a_bundle_of_raw_pixels_gives_the_same_bytes_in_python_in_node_and_in_a_browser(of_bytes, example):
    row = tried(example, of_bytes)
    assert row.passed, row.largest
    assert max(row.largest["decode", 1], row.largest["decode", 7]) in (0, 1)  # bytes


@pytest.mark.slow
def test_a_runtime_that_is_off_by_a_thousandth_does_not_pass(everywhere, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(everywhere, changed)
    file = changed / "conformance" / "encoder" / "z_mean.npy"
    z_mean = np.load(file)
    z_mean[-1, 0] += 1e-3
    np.save(file, z_mean)
    manifest = bundle.with_files(bundle.read_manifest(changed / "manifest.json"), changed)
    (changed / "manifest.json").write_text(manifest.to_json())
    row = tried("onnxruntime_python.py", changed)
    assert not row.passed
    assert {key: passed for key, passed in row.within.items() if key[0] == "decode"} == {
        ("decode", 1): True,
        ("decode", 7): True,
    }


def test_every_example_is_a_row_of_the_table():
    assert sorted(runtime.example for runtime in runners.RUNTIMES) == EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_ten_to_thirty_lines_and_stands_in_the_documentation_as_it_is(example):
    code = (ROOT / "examples" / example).read_text()
    assert 10 <= sum(1 for line in code.splitlines() if line.strip()) <= 30
    assert f"\n{code}```" in (ROOT / "docs" / "runtimes.md").read_text()


@pytest.mark.slow
def test_an_example_started_as_its_first_line_says_prints_the_shapes(everywhere):
    words = [sys.executable, ROOT / "examples" / "onnxruntime_python.py", everywhere]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "z_mean (14, 2) z_log_var (14, 2) image (14, 28, 28, 1)\n"


def test_the_conformance_vectors_in_onnx_s_own_form_are_those_of_the_npy_files(everywhere):
    import onnx

    for network, spec in json.loads((everywhere / "manifest.json").read_text()).items():
        if network not in ("encoder", "decoder"):
            continue
        cases = everywhere / "conformance" / network / "test_data_set_0"
        for side in ("input", "output"):
            for index, tensor in enumerate(spec[f"{side}s"]):
                stored = onnx.TensorProto.FromString((cases / f"{side}_{index}.pb").read_bytes())
                array = np.load(cases.parent / f"{tensor['name']}.npy", allow_pickle=False)
                assert stored.name == tensor["name"]
                assert np.array_equal(onnx.numpy_helper.to_array(stored), array)
                assert len(array) == 14


def test_the_documentation_s_table_has_every_runtime():
    text = (ROOT / "docs" / "runtimes.md").read_text()
    table = re.search(r"<!-- table -->\n(.*?)<!-- end of table -->", text, re.DOTALL)[1]
    assert [runtime.name for runtime in runners.RUNTIMES if f"| {runtime.name} |" not in table] == []
