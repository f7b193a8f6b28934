"""The state of a finished job whose shards are the result: one file that readers of Parquet folders pass over, or find
to be a table of the same columns without rows. (Polars reads every file below a folder, hidden ones too.)
"""

import json
from typing import Any

from vae_serve.errors import OutputError
from vae_serve.jobs.plan import Json, Plan
from vae_serve.storage.store import JobStore, Write

SEALED = ".job.parquet"

_KEY = b"vae_serve.job"  # in the file's key-value metadata: {"plan": ..., "records": {number: ...}, "stats": ...}


def sealed(store: JobStore, plan: Plan, records: dict[int, Json], stats: Json) -> Write:
    """Writes the state into a Parquet file with the columns of the first shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with store.open(plan.part(plan.shards[0])) as file:
        schema = pq.read_schema(file)
    state = {
        "plan": plan.to_json(),
        "records": {str(number): record for number, record in records.items()},
        "stats": stats,
    }
    schema = schema.with_metadata({_KEY: json.dumps(state, allow_nan=False).encode()})
    table = pa.Table.from_batches([], schema)  # `empty_table` would import pandas, which takes half a second
    return lambda file: pq.write_table(table, file)  # without `store_schema` the metadata would not be written


def read_sealed(store: JobStore, where: str) -> tuple[Json, dict[int, Json]] | None:
    """The plan and the shards' records; None where there is no such file.

    Raises:
        OutputError: it is damaged.
    """
    if not store.exists(SEALED):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(SEALED) as file:
            metadata: dict[bytes, bytes] = pq.read_metadata(file).metadata or {}
        state: Any = json.loads(metadata[_KEY])
        plan, records = state["plan"], {int(number): record for number, record in state["records"].items()}
        if not isinstance(plan, dict) or not all(isinstance(record, dict) for record in records.values()):
            raise ValueError("it holds no plan with records")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise OutputError(f"{where} is damaged ({error}); start again with --overwrite") from error
    return plan, records
