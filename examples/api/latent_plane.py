# %% [markdown]
# # The latent plane of a model
# Where the digits lie in a latent space of two dimensions, and what the decoder makes of the points between them.

# %%
import numpy as np

import vae_serve

model = vae_serve.load()  # or the path of a bundle
print(model, model.image_shape, model.variant)

# %% [markdown]
# The plane as a picture: the first dimension grows to the right, the second one upwards.

# %%
plane = vae_serve.generate(model, grid=15, axes=True, out="plane.png", overwrite=True)
print(plane.out)

# %% [markdown]
# The same as arrays: every pair of 15 values from -4 to 4, decoded.

# %%
axis = np.linspace(-4, 4, 15, dtype=np.float32)
first, second = np.meshgrid(axis, axis[::-1])
z = np.stack([first.ravel(), second.ravel()], axis=1)  # (225, 2)
images = model.decode(z)  # (225, 28, 28, 1), 0..1
tiled = images.reshape(15, 15, 28, 28).swapaxes(1, 2).reshape(15 * 28, 15 * 28)
print(tiled.shape, "mean grey level", round(float(tiled.mean()), 3))

# %% [markdown]
# Where the test digits lie: the mean of each label's z_mean.

# %%
rows = [row for batch in vae_serve.embed("mnist", model, outputs=["z_mean"]) for row in batch.to_pylist()]
z_mean = np.array([row["z_mean"] for row in rows])
labels = np.array([row["label"] for row in rows])
for label in np.unique(labels):
    print(label, np.round(z_mean[labels == label].mean(axis=0), 2))

# %% [markdown]
# A digit, and what comes back of it: `z_mean` is the point, `z_log_var` how sure the encoder is.

# %%
back, log_var = model.encode(images[:1])
print("there", z[0], "and back", np.round(back[0], 2), "+-", np.round(np.exp(log_var[0] / 2), 2))
