"""The same pictures as files, archives, an array and tables; and all of that in object stores."""

import io
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

ROWS = 2000


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="session")
def object_tree(digits):
    """Objects by key: pictures of ten classes, and all that is not one or cannot be read."""
    objects = {f"{index % 10}/{index:05}.png": png(digits[index, :, :, 0]) for index in range(ROWS)}
    return objects | {
        "9/torn.png": objects["0/00000.png"][:90],
        "9/nothing.png": b"",
        "9/é +&=#;'()100%.PNG": objects["0/00010.png"],
        "9/[1]*.png": objects["0/00020.png"],
        "top.png": objects["1/00001.png"],
        "0.png": objects["1/00011.png"],  # before 0/: stores of folders list it after
        "notes.txt": b"no picture",
        ".hidden/a.png": b"x",
        ".hidden/deep/b.png": b"x",
        "3/.also.png": b"x",
        "3/_kept/a.png": objects["1/00021.png"],
    }


@pytest.fixture(scope="session")
def local_sources(object_tree, tmp_path_factory):
    """The same as files; and as archives, an array and tables."""
    root = tmp_path_factory.mktemp("local")
    for name, contents in object_tree.items():
        file = root / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(contents)
    pictures = {name: contents for name, contents in object_tree.items() if not name.startswith(".")}
    for name, method in (("stored.zip", zipfile.ZIP_STORED), ("deflated.zip", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(root / name, "w", method) as archive:
            for key in reversed(pictures) if method else pictures:  # names in another order than members
                archive.writestr(key, pictures[key])
    with tarfile.open(root / "all.tar", "w") as tar:
        for key, contents in pictures.items():
            about = tarfile.TarInfo(key)
            about.size = len(contents)
            tar.addfile(about, io.BytesIO(contents))
    np.save(root / "digits.npy", np.arange(ROWS * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(ROWS, 28, 28))
    deep = np.arange(600 * 28 * 28, dtype=np.uint32).astype(np.uint16).reshape(600, 28, 28)
    np.save(root / "deep.npy", deep)
    for number, half in enumerate((list(pictures)[:900], list(pictures)[900:])):
        file = root / "table" / f"year={number}" / "rows.parquet"
        file.parent.mkdir(parents=True)
        table = pa.table({"label": [key.split("/")[0] for key in half], "image": [pictures[key] for key in half]})
        pq.write_table(table, file, row_group_size=230)
    (root / "one.png").write_bytes(object_tree["top.png"])
    return root


@pytest.fixture(scope="session")
def seaweed_root(seaweed, local_sources):
    return seaweed, _stored(seaweed, local_sources, "sources")


@pytest.fixture(scope="session")
def azurite_root(azurite, local_sources):
    return azurite, _stored(azurite, local_sources, "sources")


def _stored(server, local, bucket):
    url = server.make_bucket(bucket)
    client = server.client(bucket)
    for file in sorted(local.rglob("*")):
        if file.is_file():
            client.put(f"in/{file.relative_to(local)}", file.read_bytes())
    return f"{url}/in"
