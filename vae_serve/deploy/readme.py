"""The README of each target: what the folder is, and the line that starts the server."""

from vae_serve.model.manifest import Manifest
from vae_serve.quoting import json, markdown, shell


def made_by(target: str) -> str:
    """The line by which a folder is known as ours, so that `--overwrite` may replace it."""
    return f"Made by `vae-serve deploy {target}`."


def web(manifest: Manifest) -> str:
    """For the target web."""
    return f"""# {markdown(manifest.name)} in the browser

{made_by("web")}

    python -m http.server --directory . 8000

and open `http://localhost:8000`. Any static file server works: there is nothing to compile, no other host is contacted,
and no special header is needed. The server must send `.js` and `.mjs` files as `text/javascript`; the page unpacks the
runtime's `.wasm.gz` itself.

`model.json` holds size and SHA-256 of every file that the page loads, and the page checks them. The page's policy
(`Content-Security-Policy`, in `index.html`) allows its own files only. `frame-ancestors` has no effect there: send it
as a header where the page must not be framed.

A drawing becomes the model's input by MNIST's rule: scaled to fit a 20 x 20 box, and moved so that its centre of mass
is in the middle of the 28 x 28 field (`digit.js`).

Model: {markdown(manifest.licence)}. Data: {markdown(manifest.data.get("licence", "licence unknown"))}.
`runtime/`: ONNX Runtime Web, MIT, see the files there.
"""


def triton(manifest: Manifest, stem: str) -> str:
    """For the target triton; `stem` is what the models' names begin with."""
    d = manifest.latent_dim
    body = json({"inputs": [{"name": "z", "shape": [1, d], "datatype": "FP32", "data": [0.0] * d}]})
    return f"""# {markdown(manifest.name)} for Triton Inference Server

{made_by("triton")}

With Triton's ONNX Runtime backend:

    tritonserver --model-repository="$PWD/models" \\
      --http-address=127.0.0.1 --grpc-address=127.0.0.1 --metrics-address=127.0.0.1

    curl {shell(f"localhost:8000/v2/models/{stem}_decoder/infer")} -d \\
      {shell(body)}

The three addresses keep it to this machine: without them Triton listens on every interface, and lets anybody call.

Requests that wait when a model is free share a batch; none waits for others to come. One thread for each call is
fastest for networks as small as these: raise `instance_group {{ count }}` rather than `intra_op_thread_count`. A new
version is a new folder beside `1/`, and takes its place when the server is started again. A running server sees it only
with `--model-control-mode=poll`.

Model: {markdown(manifest.licence)}.
"""


def tf_serving(manifest: Manifest) -> str:
    """For the target tf-serving."""
    return f"""# {markdown(manifest.name)} for TensorFlow Serving

{made_by("tf-serving")}

One model:

    tensorflow_model_server --rest_api_port=8501 --model_name=decoder --model_base_path="$PWD/decoder"

    curl localhost:8501/v1/models/decoder:predict -d '{{"instances": [{[0.0] * manifest.latent_dim}]}}'

These lines are untried: TensorFlow Serving is on no package registry that the tests can install it from. What the
server reads here was checked against its message definitions, and TensorFlow answers the warm-up requests.

Both at once, with this folder as `/models`, as in the server's container, which takes the same arguments:

    tensorflow_model_server --rest_api_port=8501 --model_config_file=/models/models.config

`assets.extra/tf_serving_warmup_requests` holds requests of 1, 8 and 64 rows of zeros, which the server runs before it
reports that it is ready. Version folders count upwards: put the next one beside `1/`.

Model: {markdown(manifest.licence)}.
"""


def huggingface(manifest: Manifest) -> str:
    """For the target huggingface: what follows the bundle's own card."""
    return f"""
## On the Hub

{made_by("huggingface")}

To publish this folder:

    hf upload USER/{shell(manifest.name)} .

The networks are `onnx/encoder_model.onnx` and `onnx/decoder_model.onnx`; `onnxruntime`, `onnxruntime-node` and
`onnxruntime-web` read them. `conformance/` holds inputs and expected outputs to check them by.
"""
