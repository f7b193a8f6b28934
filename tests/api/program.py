"""Trains, exports, embeds and draws, as a program of somebody who uses the package does."""

import sys

import vae_serve

run = vae_serve.train(sys.argv[1], epochs=1, out="runs/small")
bundle = vae_serve.export(run, format="onnx", out="exports/small")
model = vae_serve.load(bundle.bundle)
result = vae_serve.embed(f"{sys.argv[1]}:x_test", model, out="vectors", outputs=["z_mean"])
plane = vae_serve.generate(model, grid=15)
z = model.encode(model.decode(model.sample(3, seed=7), "uint8"))[0]
print(f"{run.metrics['negative_elbo']:.0f} nats, {bundle.largest_difference:.0e}")
print(f"{result.images} rows, {result.failed} failed; {plane.out}; {z.shape}")
