"""The README of each layout: what the folder is, and the line that starts the server."""

from vae_serve.model.manifest import Manifest


def web(manifest: Manifest) -> str:
    """For the web layout."""
    return f"""# {manifest.name} in the browser

Made by `vae-serve export --layout web`.

    python -m http.server --directory . 8000

and open `http://localhost:8000`. Any static file server will do: there is nothing to compile, no other host is asked
for anything, and no special header is needed. What a server must get right is the type of `.js` and `.mjs` files
(`text/javascript`); the page unpacks the runtime's `.wasm.gz` by itself.

`model.json` holds size and SHA-256 of every file that the page loads, and the page compares them. The page's policy
(`Content-Security-Policy`, in `index.html`) allows its own files only. `frame-ancestors` cannot stand there: send it as
a header where the page must not be framed.

A drawing becomes the model's input by MNIST's rule: scaled to fit a 20 x 20 box, moved so that its centre of mass lies
in the middle of the 28 x 28 field (`digit.js`).

Model: {manifest.licence}. Data: {manifest.data.get("licence", "licence unknown")}.
`runtime/`: ONNX Runtime Web, MIT, see the files there.
"""


def triton(manifest: Manifest, stem: str) -> str:
    """For the triton layout."""
    return f"""# {manifest.name} for Triton Inference Server

Made by `vae-serve export --layout triton`. With Triton's ONNX Runtime backend:

    tritonserver --model-repository="$PWD/models"

    curl localhost:8000/v2/models/{stem}_decoder/infer -d \\
      '{{"inputs": [{{"name": "z", "shape": [1, {manifest.latent_dim}], "datatype": "FP32", \
"data": {[0.0] * manifest.latent_dim}}}]}}'

Requests that come within half a millisecond share a batch. One thread a call is fastest for networks as small as these:
raise `instance_group {{ count }}` rather than `intra_op_thread_count`. A new version is a new folder beside `1/`.

Model: {manifest.licence}.
"""


def tf_serving(manifest: Manifest) -> str:
    """For the tf-serving layout."""
    return f"""# {manifest.name} for TensorFlow Serving

Made by `vae-serve export --layout tf-serving`. One model:

    tensorflow_model_server --rest_api_port=8501 --model_name=decoder --model_base_path="$PWD/decoder"

    curl localhost:8501/v1/models/decoder:predict -d '{{"instances": [{[0.0] * manifest.latent_dim}]}}'

Both at once, with this folder as `/models` (as in the server's container, whose arguments these are):

    tensorflow_model_server --rest_api_port=8501 --model_config_file=/models/models.config

`assets.extra/tf_serving_warmup_requests` holds calls of 1, 8 and 64 rows of zeros, which the server makes before it
takes requests. Version folders count upwards: put the next one beside `1/`.

Model: {manifest.licence}.
"""


def huggingface(manifest: Manifest) -> str:
    """For the huggingface layout: what follows the bundle's own card."""
    return f"""
## On the Hub

Made by `vae-serve export --layout huggingface`. To publish this folder:

    hf upload USER/{manifest.name} .

The networks are `onnx/encoder_model.onnx` and `onnx/decoder_model.onnx`; `onnxruntime`, `onnxruntime-node` and
`onnxruntime-web` read them. `conformance/` tells whether they do it right.
"""
