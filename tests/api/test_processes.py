"""Where a program may call the API from: beside threads, from a thread, in a fork, under spawn, beside TensorFlow."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

COUNT = """
def count(rows):
    batches = list(rows)
    return sum(map(len, batches)), sum(batch["status"].to_pylist().count("failed") for batch in batches)
"""


def run(program: str, *arguments: object, cwd: Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """Runs a program in a process of its own."""
    (cwd / "program.py").write_text(COUNT + textwrap.dedent(program))
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "program.py", *map(str, arguments)],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def pictures(digit_folder, tmp_path) -> Path:
    """300 digits, and one that is none."""
    folder = tmp_path / "pictures"
    folder.symlink_to(digit_folder)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "digits").symlink_to(digit_folder)
    (tmp_path / "more" / "bad.png").write_bytes(b"no picture")
    return tmp_path / "more"


def test_a_program_with_one_thread(pictures, tmp_path):
    run(
        """
        import vae_serve
        summary = vae_serve.embed("more", out="vectors", workers=2)
        assert (summary.images, summary.failed, summary.errors) == (301, 1, {"not_an_image": 1}), summary
        assert count(vae_serve.embed("more", workers=2, rows_per_shard=64)) == (301, 1)
        """,
        cwd=tmp_path,
    )


def test_a_program_with_threads_of_its_own_that_hold_locks(pictures, tmp_path):
    run(
        """
        import logging, threading, time
        import numpy, vae_serve
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                numpy.ones((200, 200)) @ numpy.ones((200, 200))
                logging.getLogger().debug("x")
        threads = [threading.Thread(target=busy) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                assert count(vae_serve.embed("more", rows_per_shard=64)) == (301, 1)
            assert vae_serve.embed("more", out="vectors").images == 301
            assert vae_serve.reconstruct("more", out="pairs").pictures == 301
        finally:
            stop.set()
        """,
        cwd=tmp_path,
    )


def test_a_thread_that_is_not_the_main_one_and_sixteen_at_once(pictures, tmp_path):
    run(
        """
        from concurrent.futures import ThreadPoolExecutor
        import vae_serve
        model = vae_serve.load()
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda n: count(vae_serve.embed("more", model, workers=1)), range(4)):
                assert found == (301, 1)
            done = list(pool.map(lambda n: vae_serve.embed("more", model, out=f"v{n}", workers=1), range(4)))
            assert [summary.images for summary in done] == [301] * 4
        """,
        cwd=tmp_path,
    )


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_worker_of_multiprocessing_without_a_main_guard_around_the_call(pictures, tmp_path, method):
    run(
        f"""
        import multiprocessing, warnings
        def work(_):
            import vae_serve
            return count(vae_serve.embed("more")), vae_serve.embed("mnist", out="vectors").images
        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            with multiprocessing.get_context({method!r}).Pool(1) as pool:
                assert pool.map(work, [0]) == [((301, 1), 10000)]
        """,
        cwd=tmp_path,
    )


def test_a_running_event_loop_as_a_notebook_has_it(pictures, tmp_path):
    run(
        """
        import asyncio, vae_serve
        async def cell():
            assert count(vae_serve.embed("more")) == (301, 1)
            return await asyncio.to_thread(lambda: vae_serve.embed("more", out="vectors").images)
        assert asyncio.run(cell()) == 301
        """,
        cwd=tmp_path,
    )


def test_a_program_that_reaps_its_children_itself(pictures, tmp_path):
    run(
        """
        import os, signal, vae_serve
        def reap(*_):
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, reap)
        assert vae_serve.embed("more", out="vectors").images == 301
        assert count(vae_serve.embed("more")) == (301, 1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        assert count(vae_serve.embed("more")) == (301, 1)
        """,
        cwd=tmp_path,
    )


@pytest.mark.slow
def test_a_program_that_has_loaded_tensorflow(pictures, tmp_path):
    (tmp_path / "program.py").write_text(
        COUNT
        + textwrap.dedent(
            """
            import tensorflow, vae_serve
            tensorflow.random.normal((100, 100)) @ tensorflow.random.normal((100, 100))
            assert count(vae_serve.embed("more")) == (301, 1)
            assert vae_serve.embed("more", out="vectors").images == 301
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


CHILDREN = """
import os
def descendants():
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(name)] = int(fields[1])
    known = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in known} - known:
        known |= more
    return known - {os.getpid()}
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("beside", ["", "import numpy\nthreading.Thread(target=stop.wait).start()"])
@pytest.mark.parametrize("end", ["rows.close()", "del rows", "rows.throw(KeyboardInterrupt)"])
def test_closing_the_rows_ends_all_processes(pictures, tmp_path, beside, end):
    program = f"""
import threading
stop = threading.Event()
{beside}
import vae_serve
{CHILDREN}
try:
    rows = vae_serve.embed("more", workers=2, rows_per_shard=8)
    next(rows)
    started = descendants()
    assert started
    try:
        {end}
    except KeyboardInterrupt:
        pass
    alive = lambda: {{process for process in started if os.path.exists(f"/proc/{{process}}")
                     and open(f"/proc/{{process}}/stat").read().rpartition(")")[2].split()[0] != "Z"}}
    while alive():  # they have been told; the system takes a moment
        pass
finally:
    stop.set()
"""
    run(program, cwd=tmp_path)


def test_rows_are_the_rows_of_the_job_in_order(pictures, tmp_path):
    run(
        """
        import pyarrow as pa, pyarrow.parquet as pq, vae_serve
        rows = pa.Table.from_batches(vae_serve.embed("more", outputs="z,z_mean", seed=3, rows_per_shard=32, workers=3))
        vae_serve.embed("more", out="vectors", outputs=["z_mean", "z"], seed=3)
        written = pq.read_table("vectors")
        assert rows.schema.names == written.schema.names
        assert rows.to_pylist() == written.to_pylist()
        halves = [vae_serve.embed("more", outputs="z,z_mean", seed=3, rows_per_shard=32, shard=(n, 2)) for n in (1, 2)]
        assert pa.Table.from_batches(batch for half in halves for batch in half).to_pylist() == rows.to_pylist()
        """,
        cwd=tmp_path,
    )


def test_a_slow_reader_of_rows_does_not_make_memory_grow(tmp_path):
    run(
        """
        import os, resource, time
        import numpy as np, vae_serve
        images = np.broadcast_to(np.zeros((1, 28, 28), np.uint8), (4_000_000, 28, 28))
        rows = vae_serve.embed(images, rows_per_shard=16_384)
        seen = [len(next(rows)) for _ in range(4)]
        def cpu():
            return time.process_time()
        before = cpu()
        while True:  # until nothing is done ahead any more
            time.sleep(0.2)
            now = cpu()
            if now - before < 0.02:
                break
            before = now
        ahead = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert seen == [16_384] * 4
        for _ in range(40):
            next(rows)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - ahead < 60_000
        rows.close()
        """,
        cwd=tmp_path,
    )


def test_an_error_in_the_program_s_own_progress_reaches_it_and_the_job_goes_on_later(pictures, tmp_path):
    run(
        """
        import numpy, threading, vae_serve
        class Enough(Exception): pass
        def progress(done, total=None, /, **figures):
            if done: raise Enough
        try:
            vae_serve.embed("more", out="vectors", rows_per_shard=16, progress=progress)
        except Enough:
            pass
        told = []
        summary = vae_serve.embed("more", out="vectors", rows_per_shard=16, note=told.append,
                                  progress=lambda done, total=None, /, **figures: told.append((done, total, figures)))
        assert summary.images == 301
        assert told[0].endswith("301 pictures (folder)"), told
        assert told[-1] == (summary.this_run.images, summary.this_run.images, {"errors": summary.failed}), told[-1]
        """,
        cwd=tmp_path,
    )


def test_another_array_does_not_go_on_with_an_array_s_job(tmp_path):
    run(
        """
        import numpy as np, vae_serve
        images = np.zeros((10, 28, 28), np.uint8)
        assert vae_serve.embed(images, out="vectors").this_run.images == 10
        assert vae_serve.embed(images.copy(), out="vectors").this_run.images == 0
        images[3] = 9
        try:
            vae_serve.embed(images, out="vectors")
        except vae_serve.errors.OutputError as error:
            assert "another job" in str(error)
        else:
            raise AssertionError
        """,
        cwd=tmp_path,
    )
