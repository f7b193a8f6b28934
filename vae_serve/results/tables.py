"""What an `embed` job writes: the rows of a shard as columns, and the files that the shards can become.

A shard is always Parquet. In the format `parquet` it is the result; for the others the shards are read again, one at a
time, once all are there.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vae_serve.images import png
from vae_serve.images.pixels import Bytes, tile
from vae_serve.jobs.folder import Job
from vae_serve.results import writers
from vae_serve.results.vector_result import ABOUT, VectorResult
from vae_serve.sources import parquet
from vae_serve.sources.names import Labels, Text

Floats = npt.NDArray[np.float32]


class ShardRows(msgspec.Struct, frozen=True):
    """The finished rows of one shard."""

    names: Text
    labels: Labels
    sizes: npt.NDArray[np.int32]  # (n, 2) width, height
    errors: Mapping[int, str]  # by row of the shard; a row without one is ok
    vectors: Mapping[str, Floats]  # each (n, d)
    pixels: Bytes | None  # (n, H, W, C), where the result shows the pictures


def columns(rows: ShardRows) -> dict[str, pa.Array]:
    """A shard's columns, in the documented order."""
    count = len(rows.sizes)
    given = np.ones(count, bool)
    given[list(rows.errors)] = False
    errors = (
        [rows.errors[row].encode() if row in rows.errors else None for row in range(count)] if rows.errors else None
    )
    by_name = {
        "path": writers.strings(*rows.names),
        "label": writers.choices(*rows.labels),
        "status": writers.choices((b"failed", b"ok"), given),
        "error": writers.texts(errors) if errors else writers.nulls(count),
        "width": writers.numbers(rows.sizes[:, 0], given),
        "height": writers.numbers(rows.sizes[:, 1], given),
        **{name: writers.vectors(values, given) for name, values in rows.vectors.items()},
    }
    if rows.pixels is not None:
        by_name["pixels"] = writers.blobs(rows.pixels.reshape(count, -1))
    return by_name


def record_batch(by_name: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Columns as one record batch. Strings that are kept once become plain ones: all batches have one schema."""
    plain = [
        column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column for column in by_name.values()
    ]
    return pa.RecordBatch.from_arrays(plain, names=list(by_name))


def finish(job: Job, result: VectorResult) -> None:
    """Makes the result out of the shards, each file whole or not at all, and removes them."""
    for name in result.files:
        job.put(name, partial(_write, name=name, job=job, result=result))
    job.drop_parts()


def _write(file: BinaryIO, *, name: str, job: Job, result: VectorResult) -> None:
    match name:
        case "ids.csv":
            writers.write_csv(file, list(ABOUT), _cells(job, [], result.latent_dim))
        case "embeddings.csv":
            header = [f"{output}_{axis}" for output in result.outputs for axis in range(result.latent_dim)]
            writers.write_csv(file, [*ABOUT, *header], _cells(job, result.outputs, result.latent_dim))
        case "vectors.tsv":
            for table in _readable(job):
                for vector in parquet.values(table[result.outputs[0]], result.latent_dim):
                    file.write(("\t".join(f"{value:.9g}" for value in vector) + "\n").encode())
        case "metadata.tsv":
            file.write(b"path\tlabel\n")
            for table in _readable(job):
                for path, label in zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True):
                    file.write(f"{_one_cell(path)}\t{_one_cell(label or '')}\n".encode())
        case "sprite.png":
            file.write(_sprite(job, result))
        case "projector_config.pbtxt":
            file.write(_projector_config(result).encode())
        case _:
            output = name.removesuffix(".npy")
            vectors = (parquet.values(table[output], result.latent_dim) for table in parquet.read_tables(job.parts()))
            rows = sum(map(len, job.plan.shards))
            writers.write_npy(file, vectors, (rows, result.latent_dim), np.float32)


def _cells(job: Job, outputs: Sequence[str], latent_dim: int) -> Iterator[list[Any]]:
    """The rows as a table of text; vectors as digits that give the same float32 back, a failed row's cells empty."""
    for table in parquet.read_tables(job.parts()):
        about = [table[name].to_pylist() for name in ABOUT]
        vectors = [table[name].to_pylist() for name in outputs]
        for row in range(len(table)):
            cells = [column[row] for column in about]
            for column in vectors:
                cells += [None] * latent_dim if column[row] is None else [f"{value:.9g}" for value in column[row]]
            yield cells


def _readable(job: Job) -> Iterator[pa.Table]:
    """The rows that have vectors: the projector takes no others."""
    for table in parquet.read_tables(job.parts()):
        fine = [row for row, status in enumerate(table["status"].to_pylist()) if status == "ok"]
        yield table if len(fine) == len(table) else table.take(writers.numbers(np.array(fine, np.int32)))


def _one_cell(text: str) -> str:
    """A tab or line feed would begin another cell or row."""
    return "".join(" " if character in "\t\r\n" else character for character in text)


def _sprite(job: Job, result: VectorResult) -> bytes:
    pictures = [
        np.frombuffer(b"".join(table["pixels"].to_pylist()), np.uint8).reshape(-1, *result.image_shape)
        for table in _readable(job)
    ]
    return png.encode(tile(np.concatenate(pictures), result.sprite_columns))


def _projector_config(result: VectorResult) -> str:
    """TensorBoard's ProjectorConfig as protobuf text."""
    height, width, _ = result.image_shape
    lines = [
        f"tensor_name: {json.dumps(result.outputs[0])}",
        'tensor_path: "vectors.tsv"',
        'metadata_path: "metadata.tsv"',
    ]
    if result.has_sprite:
        size = f"single_image_dim: {width} single_image_dim: {height}"
        lines.append(f'sprite {{ image_path: "sprite.png" {size} }}')
    return "embeddings {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"
