"""`embed` of a source in an object store, and what of its outcome is compared with that of a local one."""

import json

from command_line import run_command

SHARD = 450


def embed(source, out, *words, env=None, cwd=None):
    return run_command(
        *("embed", source, "--out", out, "--rows-per-shard", SHARD, "--json", "--workers", 2, *words),
        cwd=cwd or out.parent,
        env=env,
    )


def parts(out):
    return {file.name: file.read_bytes() for file in sorted(out.glob("part-*"))}


def figures(done):
    about = json.loads(done.stdout)
    return {name: about[name] for name in ("images", "failed", "errors", "notes", "skipped")}
