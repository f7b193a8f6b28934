"""`vae-serve embed --out s3://...`: the bytes of a local folder, whatever dies, fails or comes in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
from digit_files import write_digits
from faulty_proxy import Answer, error, faulty

from vae_serve.errors import UsageError

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / "exports" / "mnist"
ROWS = 300
SHARD = ("--rows-per-shard", 64)
KILLS = int(os.environ.get("VAE_SERVE_KILLS", "6"))  # of one job, spread over all that it asks the store


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """300 digits, every hundredth of them broken."""
    folder: Path = tmp_path_factory.mktemp("pictures")
    write_digits(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def embed(vae_serve, pictures):
    """Runs `embed` of the pictures: embed(out, *words, env=..., cwd=...)."""

    def run(out, *words, env=None, cwd=pictures.parent):
        return vae_serve("embed", pictures, "--model", MODEL, "--out", out, *SHARD, *words, cwd=cwd, env=env)

    return run


@pytest.fixture(scope="module")
def local(embed, tmp_path_factory):
    """The files of the same job in a folder, by name, in each format: local("npy")."""
    made: dict[str, dict[str, bytes]] = {}

    def files(format_="parquet"):
        if format_ not in made:
            folder = tmp_path_factory.mktemp("local") / "out"
            done = embed(folder, "--format", format_)
            assert done.returncode == 3, done.stderr
            made[format_] = results(
                {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
            )
        return made[format_]

    return files


def results(files):
    """Without the state, which holds times."""
    return {name: contents for name, contents in files.items() if not name.startswith(".job")}


def stored(server, bucket):
    """The result below BUCKET/out, by name, and the names of the state."""
    objects = {name.removeprefix("out/"): contents for name, contents in server.objects(bucket, "out").items()}
    return results(objects), sorted(objects.keys() - results(objects).keys())


@pytest.mark.parametrize("format_", ["parquet", "npy", "csv", "projector"])
@pytest.mark.parametrize("store", ["seaweed", "azurite"])
def test_an_object_store_gets_the_bytes_of_a_folder(store, format_, embed, local, request):
    server = request.getfixturevalue(store)
    out = server.make_bucket(f"bytes-{format_}") + "/out"
    done = embed(out, "--format", format_, "--json", env=server.environment())
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["out"] == out
    files, state = stored(server, f"bytes-{format_}")
    assert files == local(format_)
    assert not any("lease" in name for name in state)
    again = embed(out, "--format", format_, env=server.environment())
    assert "all there already, nothing to do" in again.stderr
    assert stored(server, f"bytes-{format_}") == (files, state)


def test_a_run_that_is_killed_at_any_request_goes_on_with_the_same_command(embed, local, seaweed, bucket, pictures):
    with faulty(seaweed.endpoint, lambda request: None) as proxy:
        assert embed(f"s3://{bucket}/count/out", env=seaweed.environment(endpoint=proxy.endpoint)).returncode == 3
        requests = len(proxy.requests)
    for kill in range(KILLS):
        at = 1 + kill * requests // KILLS
        out = f"{bucket}-{kill}"
        started: list[subprocess.Popen[bytes]] = []
        seaweed.make_bucket(out)

        def rule(request, at=at, started=started, lost=kill % 2 == 1):
            if request.number == at:
                os.kill(started[0].pid, signal.SIGKILL)
                return Answer(0, after=lost, silent=True)
            return None

        with faulty(seaweed.endpoint, rule) as proxy:
            process = command(out, pictures, seaweed.environment(endpoint=proxy.endpoint))
            started.append(process)
            assert process.wait(timeout=120) == -signal.SIGKILL
        done = embed(f"s3://{out}/out", env=seaweed.environment())
        assert done.returncode == 3, done.stderr
        files, state = stored(seaweed, out)
        assert files == local()
        assert state == [".job.parquet"], f"killed at request {at} of {requests}"


def command(bucket, pictures, environment):
    """The same job, not waited for."""
    words = ["embed", pictures, "--model", MODEL, "--out", f"s3://{bucket}/out", *SHARD]
    return subprocess.Popen(
        [sys.executable, "-m", "vae_serve", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_second_run_is_refused_with_the_name_of_the_first(embed, local, seaweed, bucket, pictures):
    begun, go_on = Event(), Event()

    def rule(request):
        if request.method == "PUT" and "part-00001.parquet" in request.path:
            begun.set()
            go_on.wait(120)

    with faulty(seaweed.endpoint, rule) as proxy:
        first = command(bucket, pictures, seaweed.environment(endpoint=proxy.endpoint))
        try:
            assert begun.wait(120)
            for words in ((), ("--overwrite",)):
                second = embed(f"s3://{bucket}/out", *words, env=seaweed.environment())
                assert second.returncode == 1
                assert f"s3://{bucket}/out is being written by process {first.pid} of " in second.stderr
        finally:
            go_on.set()
        assert first.wait(timeout=120) == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def test_a_store_that_refuses_one_request_in_ten_gets_the_same_bytes(embed, local, seaweed, bucket):
    def rule(request):
        return Answer(503, error("SlowDown"), after=request.number % 20 == 3) if request.number % 10 == 3 else None

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed(f"s3://{bucket}/out", env=seaweed.environment(endpoint=proxy.endpoint))
        assert done.returncode == 3, done.stderr
        assert len(proxy.requests) > 20
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def test_credentials_that_expire_in_the_middle_are_told_and_what_is_finished_stays(embed, local, seaweed, bucket):
    def rule(request):
        late = any("part-00002.parquet" in earlier.path for earlier in proxy.requests)
        return Answer(400, error("ExpiredToken")) if late else None

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed(f"s3://{bucket}/out", env=seaweed.environment(endpoint=proxy.endpoint))
    assert done.returncode == 1
    assert "the credentials have expired (400, ExpiredToken); renew them and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    begun, _ = stored(seaweed, bucket)
    assert begun.keys() < local().keys()
    assert embed(f"s3://{bucket}/out", env=seaweed.environment()).returncode == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def test_a_store_that_ceases_to_answer_is_told_and_the_same_command_goes_on(embed, local, seaweed, bucket, pictures):
    gone = Event()

    def rule(request):
        if "part-00002.parquet" in request.path:
            gone.set()
        return Answer(0, silent=True) if gone.is_set() else None

    with faulty(seaweed.endpoint, rule) as proxy:
        process = command(bucket, pictures, seaweed.environment(endpoint=proxy.endpoint))
        assert gone.wait(120)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    assert embed(f"s3://{bucket}/out", env=seaweed.environment()).returncode == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def interrupted_at(name, embed, seaweed, bucket):
    """Leaves a job whose run ended when it was about to write this object."""

    def rule(request):
        return Answer(403, error("AccessDenied")) if request.method == "PUT" and name in request.path else None

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed(f"s3://{bucket}/out", env=seaweed.environment(endpoint=proxy.endpoint))
    assert done.returncode == 1
    assert "no permission to write" in done.stderr


def test_what_a_dead_run_has_left_without_a_record_gives_way(embed, local, seaweed, bucket):
    interrupted_at("part-00001.json", embed, seaweed, bucket)
    seaweed.client(bucket).put("out/part-00001.parquet", b"other bytes")
    assert embed(f"s3://{bucket}/out", env=seaweed.environment()).returncode == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def test_other_bytes_that_appear_in_the_place_of_a_shard_are_kept_and_the_cause_is_named(embed, seaweed, bucket):
    def rule(request):
        if request.method == "PUT" and request.path.endswith("part-00001.parquet"):
            seaweed.client(bucket).put("out/part-00001.parquet", b"other bytes")

    with faulty(seaweed.endpoint, rule) as proxy:
        done = embed(f"s3://{bucket}/out", env=seaweed.environment(endpoint=proxy.endpoint))
    assert done.returncode == 1
    assert (
        f"s3://{bucket}/out/part-00001.parquet is there already, with other contents than this job's: the source or "
        "the versions of packages have changed since"
    ) in done.stderr
    assert stored(seaweed, bucket)[0]["part-00001.parquet"] == b"other bytes"


def test_another_plan_is_refused_with_the_difference_and_replaced_when_told_to(embed, local, seaweed, bucket):
    out = f"s3://{bucket}/out"
    assert embed(out, "--invert", "yes", env=seaweed.environment()).returncode == 3
    done = embed(out, env=seaweed.environment())
    assert done.returncode == 1
    assert f"{out} holds the result of another job: pixels.invert was 'yes' and is now" in done.stderr
    assert embed(out, "--overwrite", env=seaweed.environment()).returncode == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def test_an_overwriting_run_that_is_killed_leaves_no_record_without_its_shard(embed, local, seaweed, bucket, pictures):
    out = f"s3://{bucket}/out"
    interrupted_at("part-00003.parquet", embed, seaweed, bucket)

    def rule(request):
        deletions = [each for each in proxy.requests if "delete" in each.path or each.method == "DELETE"]
        return Answer(403, error("AccessDenied")) if len(deletions) > 3 else None

    with faulty(seaweed.endpoint, rule) as proxy:
        words = ("--invert", "yes", "--overwrite")
        assert embed(out, *words, env=seaweed.environment(endpoint=proxy.endpoint)).returncode == 1
    names = server_names(seaweed, bucket)
    records = {name for name in names if name.startswith(".job/part-")}
    assert records <= {f".job/{name.replace('parquet', 'json')}" for name in names if name.startswith("part-")}
    assert embed(out, env=seaweed.environment()).returncode == 3
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])


def server_names(server, bucket):
    return {name.removeprefix("out/") for name in server.objects(bucket, "out")}


def test_a_prefix_that_holds_other_objects_is_left_alone(embed, seaweed, bucket):
    seaweed.client(bucket).put("out/notes.txt", b"mine")
    done = embed(f"s3://{bucket}/out", env=seaweed.environment())
    assert done.returncode == 1
    assert f"s3://{bucket}/out exists and holds other files, such as 'notes.txt'; choose another --out" in done.stderr
    assert seaweed.objects(bucket) == {"out/notes.txt": b"mine"}


@pytest.mark.parametrize(
    ("out", "user", "message"),
    [
        ("s3://not-there/out", "user", "there is no bucket 'not-there' for s3://not-there/out"),
        ("s3://given/out", "reader", "no permission to write s3://given/out/.job/lease"),
        ("s3://given/out", "putter", "no permission to list s3://given/out"),
        ("s3://given/out", "nobody", "no credentials, or none that are accepted (403, InvalidAccessKeyId)"),
        ("s3://user:hush@given/out", "user", "the s3:// URL holds a user, a password or a query, which may be secret"),
        ("https://given/out?sig=hush", "user", "https:// is not known here; there are s3://, gs://, az:// and paths"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_told_before_any_work(out, user, message, embed, seaweed):
    seaweed.make_bucket("given")
    done = embed(out, env=seaweed.environment(user))
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_no_secret_is_written_or_shown(embed, seaweed, bucket):
    done = embed(f"s3://{bucket}/out", "--json", env=seaweed.environment())
    assert done.returncode == 3
    written = [*seaweed.objects(bucket).values(), done.stdout.encode(), done.stderr.encode()]
    assert not any(b"user-secret" in contents or b"AWS_" in contents for contents in written)


def test_the_result_is_read_where_it_is_by_other_programs(embed, local, seaweed, bucket, tmp_path):
    """pyarrow in a process of its own, since its S3 client wants to be shut down."""
    assert embed(f"s3://{bucket}/out", env=seaweed.environment()).returncode == 3
    program = f"""
import os, pyarrow.fs, pyarrow.parquet as pq
fs = pyarrow.fs.S3FileSystem(access_key="user", secret_key="user-secret", endpoint_override={seaweed.endpoint!r})
print(pq.read_table({bucket + "/out"!r}, filesystem=fs).num_rows)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == str(ROWS), done.stderr


def test_the_python_api_takes_the_same_url(pictures, local, seaweed, bucket, monkeypatch):
    import vae_serve

    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    summary = vae_serve.embed(str(pictures), MODEL, out=f"s3://{bucket}/out", rows_per_shard=64)
    assert summary.out == f"s3://{bucket}/out"
    assert (summary.images, summary.failed) == (ROWS, ROWS // 100)
    assert stored(seaweed, bucket) == (local(), [".job.parquet"])
    with pytest.raises(UsageError, match="lost a slash"):
        vae_serve.embed(str(pictures), MODEL, out=Path(f"s3://{bucket}/out"))


def test_rows_without_a_result_come_by_a_model_in_a_store(pictures, seaweed, bucket):
    """In a process of its own, which must fork nothing after it has read the model."""
    files = {f"mnist/{file.relative_to(MODEL)}": file.read_bytes() for file in MODEL.rglob("*") if file.is_file()}
    for key, contents in files.items():
        seaweed.client(bucket).put(key, contents)
    program = f"""
import vae_serve
print(sum(batch.num_rows for batch in vae_serve.embed({str(pictures)!r}, "s3://{bucket}/mnist")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT), **seaweed.environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == str(ROWS), done.stderr
