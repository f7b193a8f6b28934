"""A job's folder: the plan that it follows, its shards, and how it comes through a `kill -9`.

    OUT/part-00000.parquet    a finished shard; where the result has another form, it waits in OUT/_job/
        _job/plan.json        what was asked for; another plan is refused with the difference named
        _job/part-00000.json  a finished shard's record: counts, seconds, fingerprint of what it read
    _stats.json               what the whole job came to, from the records
    .part-00001.parquet.partial     a shard in the making; the next run clears it away

A shard and its record are written aside, synced and renamed, the record first: where both are, all is there. The lock
is the kernel's, on the folder itself, so a killed run leaves none behind. Names begin with `_` or `.` where readers of
Parquet folders (pandas, Spark, DuckDB) are to pass them over.
"""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vae_serve.errors import OutputError

ROWS_PER_SHARD = 32_768  # what a kill can cost; large enough that a million rows are 31 files

Json = dict[str, Any]
Write = Callable[[BinaryIO], object]

STATS = "_stats.json"

_STATE = "_job"
_PARTIAL = re.compile(r"\..+\.partial")
_PART = re.compile(r"part-\d{5,}\.\w+")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of a job."""

    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """What a job is. Equal plans give equal bytes; nothing that leaves the bytes alone (workers, batch) is in it."""

    job: Json  # command, model, source and every option that changes a byte; JSON values only
    rows: int
    suffix: str = ".parquet"  # of a shard's file; "" where shards are written in place, into one larger whole
    results: tuple[str, ...] = ()  # files that the shards become in the end; () where the shards are the result
    rows_per_shard: int = ROWS_PER_SHARD
    part: tuple[int, int] = (1, 1)  # this machine's i of N, counted from 1

    @property
    def shards(self) -> list[Shard]:
        """This part's shards: a run of neighbours, so that the parts one after another are the whole."""
        which, parts = self.part
        count = -(-self.rows // self.rows_per_shard)
        return [
            Shard(number, number * self.rows_per_shard, min((number + 1) * self.rows_per_shard, self.rows))
            for number in range(count * (which - 1) // parts, count * which // parts)
        ]

    def to_json(self) -> Json:
        """As plan.json holds it, and as it comes back from there."""
        found: Json = json.loads(json.dumps(asdict(self)))
        return found


@dataclass
class Job:
    """An opened, locked folder. One thread commits."""

    folder: Path
    plan: Plan
    lock: int  # an open file: a process that is forked off must not keep it
    records: dict[int, Json] = field(default_factory=dict)  # of the finished shards, by number

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        if self.plan.results:
            return all((self.folder / name).exists() for name in self.plan.results)
        return not self.missing

    @property
    def missing(self) -> list[Shard]:
        """The shards yet to be made, in order."""
        return [shard for shard in self.plan.shards if shard.number not in self.records]

    def path(self, shard: Shard) -> Path:
        """Where a finished shard's file is."""
        home = self.folder / _STATE if self.plan.results else self.folder
        return home / f"part-{shard.number:05d}{self.plan.suffix}"

    def commit(self, shard: Shard, write: Write | None, record: Json) -> None:
        """Writes a shard (None: it is in its place already, and synced) and its record (any JSON object).

        Raises:
            OutputError: no room, or the folder cannot be written to; finished shards stay.
        """
        files = {_record(self.folder, shard.number): as_json(record)}
        if write is not None:
            files[self.path(shard)] = write
        self._put(files)
        self.records[shard.number] = record

    def put(self, name: str, write: Write) -> None:
        """Writes another file of the folder, whole or not at all."""
        self._put({self.folder / name: write})

    def drop_parts(self) -> None:
        """Clears away the shards that have become the plan's `results`."""
        if self.plan.results:
            for shard in self.plan.shards:
                self.path(shard).unlink(missing_ok=True)

    def _put(self, files: Mapping[Path, Write]) -> None:
        """Each file whole or not at all, none without those before it. They are renamed together, and so synced once:
        file systems with a journal write it for the first folder.
        """
        aside = {path: path.with_name(f".{path.name}.partial") for path in files}
        path = next(iter(files))
        try:
            for path, write in files.items():
                with aside[path].open("wb") as opened:
                    write(opened)
                    opened.flush()
                    os.fsync(opened.fileno())
            for path in files:
                aside[path].replace(path)
            for folder in dict.fromkeys(path.parent for path in files):
                _sync(folder)
        except OSError as error:
            if error.errno in _FULL:
                raise OutputError(
                    f"no room to write {path} ({error.strerror}); the {len(self.records)} finished shards stay: "
                    "free some space and run the same command again"
                ) from error
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            for partial in aside.values():
                with suppress(OSError):
                    partial.unlink(missing_ok=True)


@contextmanager
def open_job(folder: Path, plan: Plan, overwrite: bool = False) -> Iterator[Job]:
    """Makes the folder or finds an earlier run of the same plan in it, and locks it while in use.

    Raises:
        OutputError: another run is at work in it, it holds another plan's results (the message names the
            difference), it holds files of somebody else, or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileExistsError:
        raise OutputError(f"{folder} is a file; --out names a folder") from None
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another run is writing to {folder}; wait for it, or choose another --out") from None
        try:
            yield _prepare(folder, plan, overwrite, lock)
        except PermissionError as error:
            raise OutputError(f"{folder} cannot be written to: {error.strerror}") from error
    finally:
        os.close(lock)


def _prepare(folder: Path, plan: Plan, overwrite: bool, lock: int) -> Job:
    _refuse_strangers(folder)
    state = folder / _STATE
    found = _read_json(state / "plan.json")
    if found is not None and found != plan.to_json() and not overwrite:
        raise OutputError(
            f"{folder} holds the result of another job: {'; '.join(_differences(found, plan.to_json()))}. "
            "Choose another --out, or --overwrite"
        )
    job = Job(folder, plan, lock)
    if overwrite or found is None:
        _clear(folder, found)
        state.mkdir()
        job.put(f"{_STATE}/plan.json", as_json(plan.to_json()))
    for leftover in [*folder.iterdir(), *state.iterdir()]:
        if _PARTIAL.fullmatch(leftover.name):
            leftover.unlink()
    if plan.results and job.finished:  # killed between the last result and this
        job.drop_parts()
    for shard in plan.shards:
        record = _read_json(_record(folder, shard.number))
        here = not plan.suffix or job.path(shard).exists() or (plan.results and job.finished)
        if record is not None and here:
            job.records[shard.number] = record
    return job


def _refuse_strangers(folder: Path) -> None:
    """A folder that holds anything and is no job's is somebody else's."""
    names = [entry.name for entry in folder.iterdir()]
    if names and not (folder / _STATE).is_dir():
        raise OutputError(f"{folder} exists and holds other files, such as {names[0]!r}; choose another --out")


def _clear(folder: Path, plan: Json | None) -> None:
    """Takes away a job's results, its plan last: a kill in between leaves a folder that still asks for --overwrite."""
    ours = {STATS, *(plan["results"] if plan else ())}
    for entry in folder.iterdir():
        if entry.name in ours or _PART.fullmatch(entry.name):
            entry.unlink()
    if (folder / _STATE).exists():
        shutil.rmtree(folder / _STATE)


def _record(folder: Path, number: int) -> Path:
    return folder / _STATE / f"part-{number:05d}.json"


def as_json(found: Json) -> Write:
    """Writes an object as a JSON file."""
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return lambda file: file.write(text.encode())


def _read_json(path: Path) -> Json | None:
    try:
        found: Json = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise OutputError(f"{path} is damaged ({error}); start again with --overwrite") from error
    return found


def _differences(found: Json, asked: Json, name: str = "") -> list[str]:
    """One phrase for each value that is not the same, innermost names first to last: `pixels.fit was pad, is crop`."""
    said = []
    for key in [*found, *(key for key in asked if key not in found)]:
        before, now = found.get(key), asked.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            said += _differences(before, now, f"{name}{key}.")
        elif before != now:
            said.append(f"{(name + key).removeprefix('job.')} was {before!r} and is now {now!r}")
    return said


def _sync(folder: Path) -> None:
    """A rename is durable once its folder is."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
