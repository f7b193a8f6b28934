"""A job's folder: the plan that it follows, its shards, and how it comes through a `kill -9`.

    OUT/part-00000.parquet      a finished shard, where the shards are the result
        .job/plan.json          what was asked for; another plan is refused with the difference named
        .job/part-00000.json    a finished shard's record: counts, seconds, fingerprint of what it read
        .job/part-00000.parquet a finished shard, where the result is made of all of them in the end
        .job/stats.json         what the whole job came to, from the records
        .job/partial-RANDOM     a file in the making; the next run removes it
        .job.parquet            all of the state, once the job is finished and the shards are the result

The folder may as well be the beginning of names in an object store (`jobs.place`). In a folder, a shard and its record
are written aside, synced and renamed; in an object store they are created. Always the record is last: where it is, the
shard is whole, and a shard without one is what a run left that was killed. The names of the state begin with a dot,
which readers of Parquet folders pass over.
"""

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec

from vae_serve.errors import OutputError
from vae_serve.jobs.place import Note, locked
from vae_serve.jobs.plan import STATE, Json, Plan, Shard, differences
from vae_serve.jobs.sealed import SEALED, read_sealed, sealed
from vae_serve.storage.local import PARTIAL, LocalStore

if TYPE_CHECKING:
    from vae_serve.storage.object_url import Place
    from vae_serve.storage.store import JobStore, Write

STATS = f"{STATE}/stats.json"

_PLAN = f"{STATE}/plan.json"
_PART = re.compile(r"part-\d{5,}\.parquet")
_RECORD = re.compile(r"part-\d{5,}\.json")
_EARLIER_STATE = "_job"  # where the state was once, in the way of some readers
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Fields = Mapping[str, Any]
"""The types of a record's fields, as msgspec takes them."""
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class Job(msgspec.Struct):
    """An opened, locked folder. One thread commits."""

    folder: "Place"
    plan: Plan
    store: "JobStore"
    records: dict[int, Json] = msgspec.field(default_factory=dict)
    """Of the finished shards, by number."""
    leftovers: set[str] = msgspec.field(default_factory=set)
    """Shards' files without a record, which a run that was killed has left. They give way."""

    @property
    def local_store(self) -> LocalStore:
        """The store of a job in a folder of this machine. Raises OutputError where it is another."""
        if not isinstance(self.store, LocalStore):
            raise OutputError(f"{self.folder} is not a folder of this machine, and this result is written in place")
        return self.store

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.missing and len(self.store.existing(self.plan.results)) == len(self.plan.results)

    @property
    def missing(self) -> list[Shard]:
        """The shards yet to be made, in order."""
        return [shard for shard in self.plan.shards if shard.number not in self.records]

    def parts(self) -> Iterator[BinaryIO]:
        """The shards' files in order, each open until the next."""
        for shard in self.plan.shards:
            with self.store.open(self.plan.part(shard)) as file:
                yield file

    def commit(self, shard: Shard, files: Mapping[str, "Write"], record: Json) -> None:
        """Writes a shard's files (none where it is in its place already, and synced) and its record (any JSON object).

        Raises:
            OutputError: no room, or the folder cannot be written to; finished shards stay.
        """
        self._create({**files, _record(shard.number): as_json(record)})
        self.records[shard.number] = record

    def put(self, name: str, write: "Write") -> None:
        """Writes another file of the folder, whole or not at all."""
        self._create({name: write})

    def finish(self, stats: Json) -> None:
        """Keeps what the job came to. Where the shards are the result, the state becomes one file, see `sealed`."""
        if self.plan.results or not self.plan.shards:
            self.store.delete(STATS)
            self.put(STATS, as_json(stats))
        else:
            self.put(SEALED, sealed(self.store, self.plan, self.records, stats))
            self.store.delete_folder(STATE)

    def drop_parts(self) -> None:
        """Removes the shards that have become the plan's `results`."""
        if self.plan.results:
            for shard in self.plan.shards:
                self.store.delete(self.plan.part(shard))

    def remove(self) -> None:
        """Removes the state, its plan last, and the folder where nothing else is in it."""
        for name in self.store.list(STATE):
            path = f"{STATE}/{name}"
            if self.store.exists(path) and path != _PLAN:
                self.store.delete(path)
        self.store.delete_folder(STATE)
        with suppress(OSError):
            self.local_store.path.rmdir()

    def _create(self, files: Mapping[str, "Write"]) -> None:
        name = next(iter(files))
        try:
            try:
                self.store.create_all(files)
            except FileExistsError as error:
                if error.filename not in self.leftovers:
                    raise
                self.store.require_lock()
                self.store.delete(error.filename)
                self.store.create_all(files)
        except FileExistsError as error:
            raise OutputError(
                f"{self.folder / str(error.filename)} is there already, with other contents than this job's: the "
                "source or the versions of packages have changed since, or another program wrote it; move it away, or "
                "start again with --overwrite"
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise OutputError(
                    f"no room to write {self.folder / name} ({error.strerror}); the {len(self.records)} finished "
                    "shards stay: free some space and run the same command again"
                ) from error
            raise OutputError(f"{self.folder / name} cannot be written: {error.strerror or error}") from error


def _no_note(line: str) -> None:
    """Says nothing."""


@contextmanager
def open_job(
    folder: "Place", plan: Plan, record: Fields, overwrite: bool = False, note: Note = _no_note
) -> Iterator[Job]:
    """Makes the folder or finds an earlier run of the same plan in it, and locks it while in use.

    `record` says which fields a shard's record has, and of what types. `note` is told when it has to wait.

    Raises:
        OutputError: another run is at work in it, it holds another plan's results (the message names the
            difference), it holds other files or damaged ones, or it cannot be written to.
    """
    store = locked(folder, note)
    try:
        yield _prepare(folder, plan, store, record, overwrite)
    finally:
        store.close()


def _prepare(folder: "Place", plan: Plan, store: "JobStore", record: Fields, overwrite: bool) -> Job:
    job = Job(folder, plan, store)
    try:
        _refuse_other_files(folder, store, overwrite)
        earlier = _earlier_plan(folder, store, overwrite)
        if earlier is not None:
            _refuse_other_job(folder, plan, earlier, overwrite)
        if overwrite or earlier is None:
            _clear(store, earlier)
            store.make_folder(STATE)
            job.put(_PLAN, as_json(plan.to_json()))
        else:
            _unseal(job)
        for name in store.list(STATE):
            if name.startswith(PARTIAL):
                store.delete(f"{STATE}/{name}")
        _read_records(job, record)
        if overwrite or earlier is None:
            job.leftovers.clear()  # this run is the first: what is there is not of one that was killed
    except PermissionError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror}") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be used: {error.filename or STATE}: {error.strerror or error}") from error
    return job


def _unseal(job: Job) -> None:
    """A sealed state becomes a folder again where a shard is gone. The sealed one is right where both are there."""
    state = read_sealed(job.store, str(job.folder / SEALED))
    if state is None:
        return
    job.store.delete_folder(STATE)
    numbers = {shard.number for shard in job.plan.shards}
    records = {number: record for number, record in state[1].items() if number in numbers}
    parts = {job.plan.part(shard) for shard in job.plan.shards}
    if numbers == records.keys() and job.store.existing(parts) == parts:
        job.records.update(records)
        return
    job.store.make_folder(STATE)
    job.put(_PLAN, as_json(job.plan.to_json()))
    for number, record in records.items():
        job.put(_record(number), as_json(record))
    job.store.delete(SEALED)


def _read_records(job: Job, fields: Fields) -> None:
    """Takes up the finished shards. A record whose shard is gone is dropped: the shard is made again."""
    store, plan = job.store, job.plan
    whole = bool(plan.results) and len(store.existing(plan.results)) == len(plan.results)
    parts = store.existing(map(plan.part, plan.shards)) if plan.suffix else set()
    unread = [shard for shard in plan.shards if shard.number not in job.records]
    names = {_record(shard.number): shard for shard in unread}
    for name, contents in store.get_all(names):
        record = _parsed(job.folder, name, contents)
        if record is not None and (whole or not plan.suffix or plan.part(names[name]) in parts):
            job.records[names[name].number] = record
        elif record is not None:
            store.delete(name)
    for number, record in job.records.items():
        for title, kind in fields.items():
            reason = f"it has no {title}" if title not in record else _not_of(title, kind, record[title])
            if reason:
                raise OutputError(f"{job.folder / _record(number)} is damaged ({reason}); start again with --overwrite")
    job.leftovers = parts - {plan.part(shard) for shard in plan.shards if shard.number in job.records}
    if whole and job.finished:  # killed between the last result and this
        job.drop_parts()


def _not_of(title: str, kind: Any, value: Any) -> str:
    """Why a field's value is not of a type; "" where it is."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return f"{title}: {error}"
    return ""


def _refuse_other_files(folder: "Place", store: "JobStore", overwrite: bool) -> None:
    """A folder that holds anything and is no job's is somebody else's."""
    names = [name for name in store.list() if name != STATE]
    if not names or store.exists(_PLAN) or store.exists(SEALED):
        return
    if store.exists(f"{_EARLIER_STATE}/plan.json"):
        if overwrite:
            return
        raise OutputError(
            f"{folder} was written by an earlier version of vae-serve (it has a folder {_EARLIER_STATE}) and cannot be "
            "resumed; choose another --out, or replace it with --overwrite"
        )
    raise OutputError(f"{folder} exists and holds other files, such as {names[0]!r}; choose another --out")


def _earlier_plan(folder: "Place", store: "JobStore", overwrite: bool) -> Json | None:
    try:
        state = read_sealed(store, str(folder / SEALED))
        if state is not None:
            return state[0]
        plan = _read_json(folder, store, _PLAN)
        return plan if plan is not None else _read_json(folder, store, f"{_EARLIER_STATE}/plan.json")
    except OutputError:
        if not overwrite:
            raise
        return {}  # damaged; its shards are known by their names


def _refuse_other_job(folder: "Place", plan: Plan, earlier: Json, overwrite: bool) -> None:
    job = earlier.get("job")
    command = job.get("command") if isinstance(job, dict) else None
    if command is not None and command != plan.job["command"]:
        raise OutputError(f"{folder} holds a job of {command!r}, and is not overwritten; choose another --out")
    if earlier != plan.to_json() and not overwrite:
        raise OutputError(
            f"{folder} holds the result of another job: {'; '.join(differences(earlier, plan.to_json()))}. "
            "Choose another --out, or --overwrite"
        )


def _clear(store: "JobStore", plan: Json | None) -> None:
    """Removes a job's results, its records first and its plan last.

    A kill in between leaves shards without records, in a folder that still asks for --overwrite.
    """
    results = plan.get("results") if plan else None
    known = {name for name in results if isinstance(name, str)} if isinstance(results, list) else set()
    store.require_lock()
    for name in store.list(STATE):
        if _RECORD.fullmatch(name):
            store.delete(f"{STATE}/{name}")
    for name in store.existing(store.list()):
        if name in known or name == "_stats.json" or _PART.fullmatch(name):
            store.delete(name)
    for state in (_EARLIER_STATE, STATE):
        if plan is not None or state == STATE:
            with suppress(NotADirectoryError):
                store.delete_folder(state)
    store.delete(SEALED)


def _record(number: int) -> str:
    return f"{STATE}/part-{number:05d}.json"


def as_json(record: Json) -> "Write":
    """Writes an object as a JSON file."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return lambda file: file.write(text.encode())


def _read_json(folder: "Place", store: "JobStore", name: str) -> Json | None:
    return _parsed(folder, name, store.get(name))


def _parsed(folder: "Place", name: str, contents: bytes | None) -> Json | None:
    if contents is None:
        return None
    try:
        record = json.loads(contents)
    except (ValueError, RecursionError) as error:
        raise OutputError(f"{folder / name} is damaged ({error}); start again with --overwrite") from error
    if not isinstance(record, dict):
        raise OutputError(f"{folder / name} is damaged (it is not a JSON object); start again with --overwrite")
    return record
