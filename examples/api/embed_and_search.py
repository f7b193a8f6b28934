# %% [markdown]
# # Nearest neighbours in a folder of pictures
# Embed a folder once, then look up which pictures are most like a given one. Usage: FOLDER PICTURE

# %%
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import vae_serve

folder, query = (Path(word) for word in sys.argv[1:3])
model = vae_serve.load()

# %% [markdown]
# The job: a Parquet file for each shard in `vectors/`. A second run finds it done.

# %%
summary = vae_serve.embed(folder, model, out="vectors", outputs=["z_mean"])
print(f"{summary.images} rows, {summary.failed} failed, {summary.this_run.images} of them made now")

# %% [markdown]
# A row for each picture. Those that could not be read say why, and have no vector.

# %%
table = pd.read_parquet("vectors")
print(table.groupby("status").size().to_dict())
table = table[table["status"] == "ok"].reset_index(drop=True)
vectors = np.stack(table["z_mean"].to_list())  # (n, latent_dim)

# %% [markdown]
# The picture that is looked for goes through the same rule: it is a source of one row.

# %%
[batch] = vae_serve.embed(query, model, outputs=["z_mean"])
[row] = batch.to_pylist()
if row["status"] == "failed":
    sys.exit(f"{query}: {row['error']}")
distance = np.linalg.norm(vectors - np.array(row["z_mean"], np.float32), axis=1)
nearest = table.assign(distance=distance).nsmallest(5, "distance")
print(nearest[["path", "label", "distance"]].to_string(index=False))
