"""How many cores this process may use, which in a container is not how many the machine has."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> int:
    """The smaller of the affinity mask and the cgroup's CPU quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, math.ceil(min(_quotas(_CGROUPS), default=affinity))))


def _quotas(root: Path) -> list[float]:
    """CPUs granted by this process' cgroup and those around it (version 2: cpu.max; version 1: cpu.cfs_*_us)."""
    quotas = []
    for folder in _own_cgroups(root):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
        if len(words) == 2 and words[0] not in {"max", "-1"}:
            quotas.append(int(words[0]) / int(words[1]))
    return quotas


def _own_cgroups(root: Path) -> list[Path]:
    folders = [root, root / "cpu"]
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, below = line.split(":", 2)
        top = root / "cpu" if "cpu" in controllers.split(",") else root
        inner = top / below.lstrip("/")
        folders += [inner, *(folder for folder in inner.parents if folder.is_relative_to(root))]
    return folders


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
