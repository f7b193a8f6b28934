"""Digits to vectors and back, by any server of the Open Inference Protocol: vae-serve, or Triton on `deploy triton`.

python client.py localhost:8000             HTTP; pip install 'tritonclient[http]'
python client.py localhost:8001 grpc        gRPC; pip install 'tritonclient[grpc]'
"""

import sys

import numpy as np

url, protocol = sys.argv[1], (sys.argv[2:] or ["http"])[0]
if protocol == "grpc":
    import tritonclient.grpc as triton
else:
    import tritonclient.http as triton


def infer(client, model, name, values):
    """The outputs of a model for one input, by name."""
    tensor = triton.InferInput(name, values.shape, "FP32")
    tensor.set_data_from_numpy(values)
    return client.infer(model, [tensor])


with triton.InferenceServerClient(url) as client:
    images = np.zeros((2, 28, 28, 1), np.float32)  # 0..1
    vectors = infer(client, "mnist_encoder", "image", images)
    z_mean, z_log_var = vectors.as_numpy("z_mean"), vectors.as_numpy("z_log_var")
    decoded = infer(client, "mnist_decoder", "z", z_mean).as_numpy("image")
    print(z_mean.shape, z_log_var.shape, decoded.shape, float(decoded[0].max()).hex())
